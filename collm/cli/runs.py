"""`collm runs`: the run folders of a directory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from collm.cli.context import JsonOption, RunsDirOption, emit, emit_json
from collm.errors import UsageError
from collm.runs.lock import read_holder
from collm.runs.store import DONE, LOCK, STAGES


def runs(runs_dir: RunsDirOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List run folders with their state, age and main metric.

    Example: collm runs --runs-dir runs
    """
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir}: no such folder; `collm run SPEC` makes it, --runs-dir chooses another")
    found = [_describe(path) for path in sorted(runs_dir.iterdir()) if path.is_dir() and path.name != STAGES]
    if as_json:
        emit_json({"schema": 1, "runs": found})
        return
    width = max((len(each["folder"]) for each in found), default=0)
    for each in found:
        auc = "" if each["test_auc"] is None else f"test AUC {each['test_auc']:.4f}"
        emit(f"{each['folder'].ljust(width)}  {each['state']:<10}  {each['age_h']:8.1f} h ago  {auc}".rstrip())


def _describe(folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "state": _state(folder),
        "age_h": round((time.time() - folder.stat().st_mtime) / 3600, 2),
        "test_auc": _test_auc(folder / "results.json"),
    }


def _state(folder: Path) -> str:
    if (folder / DONE).is_file():
        return "done"
    holder = read_holder(folder / LOCK)
    return "running" if holder is not None and holder.is_alive() else "unfinished"


def _test_auc(path: Path) -> float | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["metrics"]["test"]["all"]["auc"]["value"]
    except (FileNotFoundError, KeyError, ValueError):
        return None
    return None if value is None else float(value)
