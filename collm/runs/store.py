"""Where runs and their stages lie on disk. `done` is always written last; half-finished work stays for resume.

In a directory that mirrors an object store, what is finished is what the store has (`collm/runs/remote.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from collm.errors import RunError
from collm.files import remove_leftovers, replacing, write_atomically, write_failure
from collm.locks import Holder, Lock, read_holder
from collm.runs.files import DONE, LOCK, damage, finish_folder, remove_contents, replacing_together
from collm.runs.records import RunResults
from collm.runs.remote import STAGES, remote_of

__all__ = [
    "DONE",
    "LOCK",
    "STAGES",
    "Holder",
    "Lock",
    "RunFolder",
    "StageStore",
    "read_holder",
    "replacing",
    "write_atomically",
]

TABLES = ("scores.parquet", "floors.parquet", "ranking.parquet")
RUN_FILES = ("spec.yaml", "environment.json", "events.jsonl", "results.json", *TABLES)
# What events hold beside their time, for those that are read again.
EVENT_KEYS = {
    "stage_finished": ("stage", "fingerprint"),
    "step_logged": ("stage", "step", "values"),
    "run_failed": ("error",),
}


class StageStore:
    """The stages of one runs directory, shared by the runs in it alone."""

    def __init__(self, runs_dir: Path) -> None:
        """Takes the runs directory; nothing is created yet."""
        self.root = runs_dir / STAGES
        self._remote = remote_of(runs_dir)

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Returns `<runs-dir>/stages/<stage>-<fingerprint>`, whether or not it exists."""
        return self.root / f"{stage}-{fingerprint}"

    def is_done(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage was finished; where the directory mirrors a store, it is got from there."""
        folder = self.folder(stage, fingerprint)
        return (folder / DONE).is_file() if self._remote is None else self._remote.bring(folder)

    @contextlib.contextmanager
    def claim(
        self, stage: str, fingerprint: str, *, wait: bool = True, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[Path]:
        """Holds a stage for writing; writes `done` when the block ends without an error.

        The folder of an interrupted attempt is given as it is, so that checkpoints in it can be continued from.
        Somebody else may have finished the stage while this process waited: ask `is_done` inside the block first.

        Args:
            stage: Stage name, e.g. `fit_encoder`.
            fingerprint: Hex digest of everything that decides the stage's output.
            wait: Whether to wait for a live holder; otherwise it is an error.
            on_wait: Called once with a sentence when waiting begins.

        Yields:
            The stage's folder.

        Raises:
            RunError: If another live process holds the stage and `wait` is off, one of another host holds it without a
                sign of life, or the folder or its store cannot be written.
        """
        folder = self.folder(stage, fingerprint)
        with _held(folder, root=self.root.parent, wait=wait, on_wait=on_wait):
            yield folder
            if not (folder / DONE).is_file():
                finish_folder(folder)
                if self._remote is not None:
                    self._remote.put(folder)


class RunFolder:
    """One run's folder, `<runs-dir>/<name>-<hash>`: the format that people's scripts read."""

    def __init__(self, runs_dir: Path, name: str, spec_hash: str) -> None:
        """Names the folder; nothing is created yet.

        Args:
            runs_dir: Directory of all runs.
            name: The spec's name; characters that a file name should not have become `-`.
            spec_hash: The spec's hash.
        """
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".") or "run"
        self.path = runs_dir / f"{safe}-{spec_hash}"
        self._events_checked = False

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """Returns the run folder that lies at a path, whatever its name."""
        folder = cls(path.parent, "run", "hash")
        folder.path = path
        return folder

    @contextlib.contextmanager
    def lock(self, *, wait: bool = True, on_wait: Callable[[str], None] | None = None) -> Iterator[RunFolder]:
        """Holds the run for writing; another process that does is waited for.

        Somebody else may have finished the run meanwhile: ask `is_done` inside the block first.

        Args:
            wait: Whether to wait; otherwise such a process is an error.
            on_wait: Called once with a sentence when waiting begins.

        Raises:
            InUse: If another process works on it and `wait` is off.
            RunError: If a process on another host holds it and gives no sign of life.
        """
        with _held(self.path, root=self.path.parent, wait=wait, on_wait=on_wait):
            yield self

    def is_done(self) -> bool:
        """Whether the run was finished; where its directory mirrors a store, it is got from there."""
        remote = remote_of(self.path.parent)
        return (self.path / DONE).is_file() if remote is None else remote.bring(self.path, digests=False)

    def write_spec(self, plain: Mapping[str, Any]) -> None:
        """Writes the resolved spec as `spec.yaml`, keys in the given order."""
        write_atomically(self.path / "spec.yaml", _yaml(plain))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Writes `environment.json`."""
        write_atomically(self.path / "environment.json", _json(environment))

    def append_event(self, event: str, **values: Any) -> None:
        """Appends one line to `events.jsonl`; it is out of this process before the call returns.

        Args:
            event: What happened, e.g. `stage_finished`.
            **values: JSON values that belong to it.

        Raises:
            RunError: If the line cannot be written.
        """
        path = self.path / "events.jsonl"
        line = json.dumps({"time": _now(), "event": event, **values}, ensure_ascii=False, default=str) + "\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._events_checked:
                _drop_torn_line(path)
                self._events_checked = True
            with path.open("ab") as stream:
                stream.write(line.encode("utf-8"))
        except OSError as error:
            raise write_failure(path, error) from error

    def events(self) -> list[dict[str, Any]]:
        """Returns the events so far; a last line torn by a killed process is left out."""
        path = self.path / "events.jsonl"
        if not path.is_file():
            return []
        complete, _, _ = path.read_bytes().rpartition(b"\n")
        # Lines end at a newline alone: text may hold other characters that Unicode calls line ends.
        return [_event(path, n, line) for n, line in enumerate(complete.split(b"\n"), start=1) if line]

    def logged_steps(self) -> Iterator[tuple[str, int, dict[str, float]]]:
        """Yields stage, step and values of every logged step so far, for trackers that join late or start again."""
        for event in self.events():
            if event["event"] == "step_logged":
                yield event["stage"], int(event["step"]), event["values"]

    def write_results(self, results: RunResults) -> None:
        """Writes `results.json`."""
        write_atomically(self.path / "results.json", _json(results.plain()))

    def results(self) -> RunResults:
        """Returns the content of `results.json`.

        Raises:
            RunError: If the file is missing or not of the documented form.
        """
        path = self.path / "results.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path}: missing; the run is not finished: repeat `collm run`") from error
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror or error}); repeat its `collm run`") from error
        except ValueError as error:
            raise RunError(f"{path}: not JSON ({error}); delete {path.parent} and repeat `collm run`") from error
        return RunResults.check(content, place=str(path))

    def damage(self, *, but: Sequence[str] = ()) -> str:
        """Says what is damaged in a finished run, empty where nothing is.

        Args:
            but: Files that are not looked at.
        """
        return damage(self.path, but=but)

    def clear(self) -> None:
        """Removes a damaged run's own files; call it under the lock."""
        remove_contents(self.path, RUN_FILES)

    def replace(
        self, plain: Mapping[str, Any], results: RunResults, writers: Mapping[str, Callable[[Path], Any]]
    ) -> None:
        """Puts a run's outcome in place as a whole; a finished run keeps its old one until this one is on disk.

        The run is not marked as finished by it: `write_done` comes last.

        Args:
            plain: The resolved spec, keys in the given order.
            results: Content of `results.json`.
            writers: Name of each other file -> what writes it to a path.

        Raises:
            RunError: If something cannot be written.
        """
        with replacing_together(self.path, ("spec.yaml", "results.json", *writers)) as paths:
            paths["spec.yaml"].write_text(_yaml(plain), encoding="utf-8")
            paths["results.json"].write_text(_json(results.plain()), encoding="utf-8")
            for name, write in writers.items():
                write(paths[name])

    def write_done(self) -> None:
        """Lists the run's files and marks it as finished; call it last. Files that trackers put there do not count.

        Where its directory mirrors a store, the run is put there whole.
        """
        finish_folder(self.path, RUN_FILES)
        if (remote := remote_of(self.path.parent)) is not None:
            remote.put(self.path)


@contextlib.contextmanager
def _held(folder: Path, *, root: Path, wait: bool, on_wait: Callable[[str], None] | None) -> Iterator[None]:
    """Holds a folder of a directory of runs for writing, in the store that it mirrors, too."""
    with Lock(folder / LOCK, root=root, wait=wait, on_wait=on_wait):
        remove_leftovers(folder)
        remote = remote_of(root)
        with contextlib.nullcontext() if remote is None else remote.hold(folder, wait=wait, on_wait=on_wait):
            yield


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes JSON as the files of a run folder have it; numbers must be finite."""
    path.write_text(_json(content), encoding="utf-8")


def _yaml(plain: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True, default_flow_style=False)


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
        if not isinstance(event, dict) or "event" not in event:
            raise ValueError("not an event")
        if missing := [key for key in EVENT_KEYS.get(str(event["event"]), ()) if key not in event]:
            raise ValueError(f"{event['event']} without {', '.join(missing)}")
    except ValueError as error:
        raise RunError(
            f"{path}:{number}: damaged: {error}; `collm runs check` names what is damaged, and a repeated `collm run` "
            "makes it anew"
        ) from error
    return event


def _drop_torn_line(path: Path) -> None:
    """Cuts off what a killed process left after the last newline, so that the next line starts clean."""
    if not path.is_file():
        return
    content = path.read_bytes()
    keep = content.rfind(b"\n") + 1
    if keep < len(content):
        os.truncate(path, keep)
