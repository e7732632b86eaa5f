"""Amazon reviews: the paper's Amazon-Book, Video Games, CDs & Vinyl, and every other category."""

from __future__ import annotations

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_amazon.config import FETCH_FIELDS, AmazonBookConfig, AmazonConfig, CdsAndVinylConfig, VideoGamesConfig

_FACTORY = "collm_amazon.source:build"
_FETCH = "collm_amazon.fetch:fetch"
# The published notebook: users and items filtered once, titles as they appear in the metadata (fact 25).
_REFERENCE = {"reference": {"filter": "more-than-once", "titles": "as-published"}}


@hookimpl
def register_datasets() -> list[Component]:
    """Returns the three recipes and the general one."""
    return [
        Component(
            kind="dataset",
            name="amazon",
            factory=_FACTORY,
            fetch=_FETCH,
            fetch_fields=FETCH_FIELDS,
            config=AmazonConfig,
            summary="Amazon reviews of any category: raw JSON lines of 2014, 2018 or 2023, titles joined.",
        ),
        Component(
            kind="dataset",
            name="amazon-book",
            factory=_FACTORY,
            fetch=_FETCH,
            fetch_fields=FETCH_FIELDS,
            config=AmazonBookConfig,
            summary="Amazon-Book of the paper: books of 2017, trained on 11 months, December halved.",
            profiles=_REFERENCE,
        ),
        Component(
            kind="dataset",
            name="video-games",
            factory=_FACTORY,
            fetch=_FETCH,
            fetch_fields=FETCH_FIELDS,
            config=VideoGamesConfig,
            summary="Amazon Video Games (section 5.3.4 of the paper, which gives no recipe: the 5-core by time).",
        ),
        Component(
            kind="dataset",
            name="cds-and-vinyl",
            factory=_FACTORY,
            fetch=_FETCH,
            fetch_fields=FETCH_FIELDS,
            config=CdsAndVinylConfig,
            summary="Amazon CDs & Vinyl (section 5.3.4 of the paper, which gives no recipe: the 5-core by time).",
        ),
    ]
