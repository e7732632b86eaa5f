"""Running one stage: skipped where its fingerprint is finished, continued where it was interrupted."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import collm
from collm.runs.store import StageStore, write_atomically
from collm.spec.fingerprint import fingerprint

logger = logging.getLogger(__name__)
RECORD = "stage.json"


@dataclass(frozen=True)
class StageResult:
    """One finished stage.

    Attributes:
        name: Stage name.
        fingerprint: What decides its output, hashed.
        folder: Where its files lie.
        seconds: Wall time spent on it by this command.
        work_seconds: Wall time that its work took when it was done.
        reused: Whether the work had been done before.
        facts: What its work returned to be stated in results.
    """

    name: str
    fingerprint: str
    folder: Path
    seconds: float
    work_seconds: float
    reused: bool
    facts: Mapping[str, Any]


Work = Callable[[Path], Mapping[str, Any]]


class StageRunner:
    """Runs stages in one runs directory."""

    def __init__(self, runs_dir: Path, *, finished: Callable[[StageResult], None]) -> None:
        """Takes the runs directory and what to call after each stage."""
        self._store = StageStore(runs_dir)
        self._finished = finished

    def run(self, name: str, payload: Mapping[str, Any], work: Work) -> StageResult:
        """Runs `work(folder)` unless a stage with this payload is finished.

        Args:
            name: Stage name, e.g. `fit_encoder`.
            payload: Everything that decides the output, as plain data.
            work: Does the work into the folder, which may hold an interrupted attempt; returns facts for the results.

        Returns:
            The finished stage.
        """
        digest = fingerprint({"stage": name, "collm": collm.__version__, **payload})
        start = time.monotonic()
        if self._store.is_done(name, digest):
            return self._report(name, digest, start, reused=True)
        with self._store.claim(name, digest, on_wait=logger.warning) as folder:
            reused = self._store.is_done(name, digest)
            if not reused:
                logger.info("%s: working in %s", name, folder.name)
                facts = dict(work(folder))
                record = {"work_seconds": round(time.monotonic() - start, 3), "facts": facts, "payload": dict(payload)}
                write_atomically(folder / RECORD, json.dumps(record, indent=2, default=str) + "\n")
        return self._report(name, digest, start, reused=reused)

    def _report(self, name: str, digest: str, start: float, *, reused: bool) -> StageResult:
        folder = self._store.folder(name, digest)
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        result = StageResult(
            name=name,
            fingerprint=digest,
            folder=folder,
            seconds=round(time.monotonic() - start, 3),
            work_seconds=record["work_seconds"],
            reused=reused,
            facts=record["facts"],
        )
        self._finished(result)
        return result


@functools.cache
def core_hash(*packages: str) -> str:
    """Returns a digest of the sources of the named packages of `collm`, so that changed code never reuses old work."""
    root = Path(collm.__file__).parent
    digest = hashlib.sha256()
    for package in sorted(packages):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
