"""Fixtures of several test modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from download_cases import CONTENT, PLACE, Case

from collm.testing.file_server import FileServer


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({PLACE: CONTENT}) as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def case(server: FileServer, tmp_path: Path, waits: list[float]) -> Case:
    return Case(server, tmp_path, waits)
