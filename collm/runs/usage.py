"""State and results of run folders, which stages they use, and what the others weigh."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.errors import RunError
from collm.locks import held_locks, read_holder
from collm.runs.files import DONE, LOCK, damage, listed_files
from collm.runs.remote import remote_of
from collm.runs.store import RUN_FILES, STAGES, RunFolder, StageStore

EVENTS, RESULTS = "events.jsonl", "results.json"
_OTHER_FILES = tuple(name for name in RUN_FILES if name != EVENTS)


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
    """Returns the run folders of a directory, by name; whatever else lies there is left out.

    Where it mirrors a store, the finished runs of the store are got first.
    """
    if (remote := remote_of(runs_dir)) is not None:
        remote.bring_runs()
    return [path for path in sorted(runs_dir.iterdir()) if path.name != STAGES and is_run_folder(path)]


def is_run_folder(path: Path) -> bool:
    """Whether a folder was made by a run: it has its events, or is a finished ensemble."""
    return (path / EVENTS).is_file() or ((path / DONE).is_file() and (path / "results.json").is_file())


def stages_of(folder: Path) -> set[str]:
    """Returns the names of the stage folders that a run's events name."""
    events = (event for event in RunFolder.at(folder).events() if event["event"] == "stage_finished")
    return {f"{event['stage']}-{event['fingerprint']}" for event in events}


def unused_stages(runs_dir: Path, *, unfinished: bool = False) -> Iterator[StageFolder]:
    """Yields the stages that no run of the directory uses and no process is working on.

    Args:
        runs_dir: Directory of runs.
        unfinished: Whether interrupted stages count too; a repeated run would continue from their checkpoints.

    Raises:
        RunError: If the events of a run are damaged and cannot say which stages it uses.
    """
    for folder in run_folders(runs_dir):
        if (folder / DONE).is_file() and (found := damage(folder, but=_OTHER_FILES)):
            raise RunError(f"{found}, so the stages that it uses are not known; repeat its `collm run` first")
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


def run_state(folder: Path) -> str:
    """Returns `done`, `damaged` (finished, but its results were changed), `running` or `unfinished`."""
    if (folder / DONE).is_file():
        return "damaged" if damage(folder, (RESULTS,)) else "done"
    return "running" if is_held(folder) else "unfinished"


def written_metrics(folder: Path) -> Any:
    """Returns `metrics` of a run's results as written; empty where they are missing or cannot be read."""
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))["metrics"]
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def faults_of(folder: Path) -> Iterator[str]:
    """Yields what is damaged in a run folder and in the stages that it uses, one sentence each.

    Args:
        folder: A run folder.
    """
    if (folder / DONE).is_file() and (found := damage(folder)):
        yield found
    try:
        stages = stages_of(folder)
    except RunError as error:
        yield str(error)
        return
    for name in sorted(stages):
        stage = folder.parent / STAGES / name
        if not StageStore(folder.parent).is_done(*name.rsplit("-", 1)):
            yield f"{stage}: missing or unfinished"
        elif found := damage(stage):
            yield found


def is_listed(folder: Path) -> bool:
    """Whether a finished run has the digests of its files; runs of earlier versions do not."""
    try:
        return listed_files(folder) is not None
    except RunError:
        return True


def free_locks(folder: Path, root: Path) -> list[Path]:
    """Removes the locks of the process that holds a folder, where it is gone with its machine.

    Args:
        folder: A run or stage folder.
        root: Directory of runs.

    Returns:
        The lock files that were removed, empty where the folder is not locked.

    Raises:
        RunError: If the holder runs on this machine, or a file cannot be removed.
    """
    lock = folder / LOCK
    try:
        holder = read_holder(lock)
        locks = [] if holder is None else sorted({lock, *held_locks(root, holder)})
    except RunError:
        # Not a lock file: nothing says who wrote it, so it goes alone.
        holder, locks = None, [lock]
    if holder is not None and holder.host == socket.gethostname() and holder.is_alive():
        raise RunError(f"{folder}: in use by {holder}, which still runs; end it first (kill {holder.pid})")
    for path in locks:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be removed ({error.strerror or error})") from error
    return locks


def remove_folder(folder: Path) -> None:
    """Removes a run or stage; its mark of being done goes first, so that a half-removed one is never taken for whole.

    Of a symbolic link the link alone is removed: what it leads to lies elsewhere and may be in use there.

    Raises:
        RunError: If a live process works on it, or files cannot be removed.
    """
    if is_held(folder):
        raise RunError(f"{folder}: in use by {read_holder(folder / LOCK)}; stop it first")
    try:
        if folder.is_symlink():
            folder.unlink()
            return
        (folder / DONE).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be removed ({error})") from error
