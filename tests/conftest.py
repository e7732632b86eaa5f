"""Shared fixtures. Real data lies beside the checkout; tests that need it skip with a reason where it is missing."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from s3_server import bucket, s3_endpoint

__all__ = ["bucket", "s3_endpoint", "shared_data"]
# Threads that wait by spinning make tests of a busy machine ten times slower; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell that starts the tests in the background lets them, and the commands that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
with suppress(ImportError):  # a machine that is lent for the tests marked gpu may lack it
    from hypothesis import settings

    # On a machine that others use too, an example may take longer than the 200 ms that are usual.
    settings.register_profile("collm", deadline=None)
    settings.load_profile("collm")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data files."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is missing: {SHARED_DATA.parent.name}/{SHARED_DATA.name} beside the checkout")
    return SHARED_DATA
