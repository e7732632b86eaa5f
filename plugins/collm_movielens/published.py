"""What GroupLens publishes of MovieLens: addresses, sizes, hashes and terms, for `collm fetch`."""

from __future__ import annotations

from pathlib import Path

from collm.component import BuildContext
from collm.fetching.fetched import fetch_files
from collm.fetching.remote_files import RemoteFile, RemoteSet

_SITE = "https://files.grouplens.org/datasets/movielens"


def _terms(edition: str) -> str:
    return (
        "MovieLens is for research: no redistribution without permission, no commercial use without permission, and "
        "publications acknowledge it (Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015); in full: "
        f"{_SITE}/{edition}-README.txt"
    )


ML_1M = RemoteSet(
    folder="ml-1m",
    command="collm fetch ml-1m",
    files=(
        RemoteFile(
            f"{_SITE}/ml-1m.zip",
            size=5_917_549,
            sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            md5="c4d9eecfca2ab87c1945afe126590906",
        ),
    ),
    licence=_terms("ml-1m"),
)
ML_100K = RemoteSet(
    folder="ml-100k",
    command="collm fetch ml-100k",
    files=(
        RemoteFile(
            f"{_SITE}/ml-100k.zip",
            size=4_924_029,
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            md5="0e33842e24a9c977be4e0107933c0723",
        ),
    ),
    licence=_terms("ml-100k"),
)


def fetch_1m(context: BuildContext) -> Path:
    """Gets the zip of MovieLens-1M into the cache, once.

    Raises:
        DataError: If it cannot be had or is not the published one.
    """
    return fetch_files(ML_1M, context)[0]


def fetch_100k(context: BuildContext) -> Path:
    """Gets the zip of MovieLens-100K into the cache, once.

    Raises:
        DataError: If it cannot be had or is not the published one.
    """
    return fetch_files(ML_100K, context)[0]
