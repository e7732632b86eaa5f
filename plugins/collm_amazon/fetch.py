"""What the McAuley lab publishes of Amazon reviews: which files a category has in each release, for `collm fetch`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.fetched import fetch_files
from collm.fetching.remote_files import RemoteFile, RemoteSet
from collm_amazon.config import FETCH_FIELDS, AmazonConfig, Release

_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"
_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"

_ALWAYS = (
    "Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics "
    "Grocery_and_Gourmet_Food Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments Office_Products "
    "Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"
)
_SINCE_2018 = (
    "All_Beauty Appliances Arts_Crafts_and_Sewing Gift_Cards Industrial_and_Scientific Magazine_Subscriptions Software"
)
_CATEGORIES = {
    "2014": f"{_ALWAYS} Amazon_Instant_Video Apps_for_Android Baby Beauty Health_and_Personal_Care",
    "2018": f"{_ALWAYS} {_SINCE_2018} AMAZON_FASHION Luxury_Beauty Prime_Pantry",
    "2023": f"{_ALWAYS} {_SINCE_2018} Amazon_Fashion Baby_Products Beauty_and_Personal_Care Handmade_Products "
    "Health_and_Household Health_and_Personal_Care Subscription_Boxes Unknown",
}
_PAPERS = {
    "2014": "He and McAuley, Ups and Downs, WWW 2016, and McAuley et al., Image-based Recommendations, SIGIR 2015",
    "2018": "Ni, Li and McAuley, Justifying Recommendations using Distantly-Labeled Reviews, EMNLP 2019",
    "2023": "Hou et al., Bridging Language and Items for Retrieval and Recommendation, arXiv:2403.03952",
}


@dataclass(frozen=True)
class _Addresses:
    reviews: str
    metadata: str


_RELEASES: dict[Release, _Addresses] = {
    "2014-all": _Addresses(f"{_SNAP}/reviews_{{}}.json.gz", f"{_SNAP}/meta_{{}}.json.gz"),
    "2014-5-core": _Addresses(f"{_SNAP}/reviews_{{}}_5.json.gz", f"{_SNAP}/meta_{{}}.json.gz"),
    "2018-all": _Addresses(
        f"{_UCSD}/amazon_v2/categoryFiles/{{}}.json.gz", f"{_UCSD}/amazon_v2/metaFiles2/meta_{{}}.json.gz"
    ),
    "2018-5-core": _Addresses(
        f"{_UCSD}/amazon_v2/categoryFilesSmall/{{}}_5.json.gz", f"{_UCSD}/amazon_v2/metaFiles2/meta_{{}}.json.gz"
    ),
    "2023-all": _Addresses(
        f"{_UCSD}/amazon_2023/raw/review_categories/{{}}.jsonl.gz",
        f"{_UCSD}/amazon_2023/raw/meta_categories/meta_{{}}.jsonl.gz",
    ),
}


def fetch(context: BuildContext, config: AmazonConfig) -> Path:
    """Gets reviews and metadata of a category into the cache, once.

    Args:
        context: Where the cache is.
        config: Names category and release; with `titles: none` no metadata is fetched.

    Returns:
        The folder that holds them.

    Raises:
        DataError: If the release has no such category, or a file cannot be had.
    """
    return fetch_files(published(config), context)[0].parent


def published(config: AmazonConfig) -> RemoteSet:
    """Returns the files of the category that the settings name.

    Raises:
        DataError: If the release has no such category.
    """
    year = config.release[:4]
    category, addresses = _category(config.category, config.release), _RELEASES[config.release]
    wanted = (addresses.reviews,) if config.titles == "none" else (addresses.reviews, addresses.metadata)
    return RemoteSet(
        folder=f"amazon/{config.release}",
        command=_command(config),
        files=tuple(RemoteFile(address.format(category)) for address in wanted),
        licence=(
            f"Amazon reviews of {year} are published for research without a licence of their own; publications cite "
            f"{_PAPERS[year]}"
        ),
    )


def _category(asked: str, release: Release) -> str:
    known = {name.lower(): name for name in sorted(_CATEGORIES[release[:4]].split())}
    if asked.lower() in known:
        return known[asked.lower()]
    close = difflib.get_close_matches(asked.lower(), known, n=1)
    hint = f"did you mean '{known[close[0]]}'? " if close else ""
    raise DataError(
        f"dataset.category: release {release} of the Amazon reviews has no category '{asked}'; {hint}"
        f"categories: {', '.join(known.values())}"
    )


def _command(config: AmazonConfig) -> str:
    """Returns the command line that fetches these files."""
    fields = type(config).model_fields
    changed = [name for name in FETCH_FIELDS if getattr(config, name) != fields[name].default]
    return " ".join(["collm fetch", config.name, *(f"--set {name}={getattr(config, name)}" for name in changed)])
