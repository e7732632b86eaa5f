"""Which stages the runs of a directory use, and what the others weigh."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collm.errors import RunError
from collm.runs.lock import read_holder
from collm.runs.store import DONE, LOCK, STAGES, RunFolder

EVENTS = "events.jsonl"


@dataclass(frozen=True)
class StageFolder:
    """One stage on disk.

    Attributes:
        path: Its folder.
        bytes: Size of its files.
        done: Whether it is finished.
    """

    path: Path
    bytes: int
    done: bool


def run_folders(runs_dir: Path) -> list[Path]:
    """Returns the run folders of a directory, by name; whatever else lies there is left out."""
    return [path for path in sorted(runs_dir.iterdir()) if path.name != STAGES and is_run_folder(path)]


def is_run_folder(path: Path) -> bool:
    """Whether a folder was made by a run: it has its events, or is a finished ensemble."""
    return (path / EVENTS).is_file() or ((path / DONE).is_file() and (path / "results.json").is_file())


def stages_of(folder: Path) -> set[str]:
    """Returns the names of the stage folders that a run's events name."""
    events = (event for event in RunFolder.at(folder).events() if event["event"] == "stage_finished")
    return {f"{event['stage']}-{event['fingerprint']}" for event in events}


def unused_stages(runs_dir: Path, *, unfinished: bool = False) -> Iterator[StageFolder]:
    """Yields the stages that no run of the directory uses and nobody works on.

    Args:
        runs_dir: Directory of runs.
        unfinished: Whether interrupted stages count too; a repeated run would continue from their checkpoints.
    """
    used = {stage for folder in run_folders(runs_dir) for stage in stages_of(folder)}
    root = runs_dir / STAGES
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if not path.is_dir() or path.name in used or is_held(path):
            continue
        done = (path / DONE).is_file()
        if done or unfinished:
            yield StageFolder(path, folder_bytes(path), done)


def is_held(folder: Path) -> bool:
    """Whether a live process works on a folder; one of another host counts as alive."""
    holder = read_holder(folder / LOCK)
    return holder is not None and (holder.host != socket.gethostname() or holder.is_alive())


def folder_bytes(folder: Path) -> int:
    """Returns the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove_folder(folder: Path) -> None:
    """Removes a run or stage; its mark of being done goes first, so that a half-removed one is never taken for whole.

    Raises:
        RunError: If a live process works on it, or files cannot be removed.
    """
    if is_held(folder):
        raise RunError(f"{folder}: in use by {read_holder(folder / LOCK)}; stop it first")
    try:
        (folder / DONE).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be removed ({error})") from error
