"""Fixtures of the study tests; nothing is fitted here."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_fakes import Studies

from collm.registry import Registry, default_registry


@pytest.fixture(scope="session")
def installed() -> Registry:
    return default_registry()


@pytest.fixture
def studies(tmp_path: Path, installed: Registry) -> Studies:
    return Studies(tmp_path, installed)
