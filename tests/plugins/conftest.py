"""Fixtures of several test modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from amazon_files import TITLES, some_reviews, write_2018
from own_tables import rows, write


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Amazon reviews and metadata in the form of 2018."""
    return write_2018(tmp_path_factory.mktemp("amazon") / "books", some_reviews(), TITLES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A CSV file of ratings."""
    return write(tmp_path / "sales.csv", rows())
