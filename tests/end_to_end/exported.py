"""Commands of tests of exports: collm itself, and `score.py` where collm cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from forked import run_forked


def alone(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `score.py` of an export in a process that cannot import collm."""
    blocked = root / "blocked" / "collm"
    blocked.mkdir(parents=True, exist_ok=True)
    (blocked / "__init__.py").write_text("raise ImportError('score.py needs no collm')\n")
    given = {**os.environ, "PYTHONPATH": str(root / "blocked"), "OMP_NUM_THREADS": "1"}
    asked = [sys.executable, str(folder / "score.py"), *arguments]
    return run_forked(asked, cwd=root, environment=given)
