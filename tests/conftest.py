"""Shared fixtures. Real data lies beside the checkout; tests that need it skip with a reason where it is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Threads that wait by spinning make tests of a busy machine ten times slower; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data files."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is missing: {SHARED_DATA.parent.name}/{SHARED_DATA.name} beside the checkout")
    return SHARED_DATA
