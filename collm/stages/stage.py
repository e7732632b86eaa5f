"""Running one stage: skipped where its fingerprint is finished, continued where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm.component import BuildContext, ComponentConfig, Kind
from collm.engine.progress import progress
from collm.errors import RunError, out_of_memory
from collm.files import full_disk_named, write_atomically
from collm.process_group import SINGLE, ProcessGroup
from collm.registry import Registry
from collm.runs.environment import UNRECORDED, Provenance
from collm.runs.files import damage, remove_contents, require_whole
from collm.runs.records import StageKind, kind_of
from collm.runs.store import StageStore
from collm.spec.fingerprint import fingerprint
from collm.spec.model import ResolvedSpec

if TYPE_CHECKING:
    from accelerate import Accelerator

    from collm.engine.train import Observer

logger = logging.getLogger(__name__)
RECORD = "stage.json"
REMOVE = "remove the stage's folder and repeat `collm run`"


@dataclass(frozen=True)
class StageResult:
    """One finished stage.

    Attributes:
        name: Stage name.
        kind: Kind of stage.
        fingerprint: What decides its output, hashed.
        folder: Where its files lie.
        seconds: Wall time spent on it by this command.
        work_seconds: Wall time of its work, with the interrupted attempts up to the checkpoints that it continued from.
        reused: Whether the work had been done before.
        facts: What its work returned to be stated in results.
        made: How the command was started that did the work, as `Provenance.plain`; None where an earlier version did.
    """

    name: str
    kind: StageKind
    fingerprint: str
    folder: Path
    seconds: float
    work_seconds: float
    reused: bool
    facts: Mapping[str, Any]
    made: Mapping[str, Any] | None = None

    def timing(self) -> dict[str, Any]:
        """Returns its entry under `timing` in `results.json`."""
        return {
            "kind": self.kind,
            "seconds": self.seconds,
            "reused": self.reused,
            "work_seconds": self.work_seconds,
        }

    def stated(self) -> dict[str, Any]:
        """Returns its entry under `facts` in `results.json`."""
        return {"kind": self.kind, **self.facts}


Work = Callable[[Path], Mapping[str, Any]]


class StageRunner:
    """Runs stages in one runs directory.

    Attributes:
        current: Name of the stage that is being worked on, or was last.
        processes: The processes that work on the run.
    """

    def __init__(
        self,
        runs_dir: Path,
        *,
        finished: Callable[[StageResult], None],
        processes: ProcessGroup = SINGLE,
        provenance: Provenance = UNRECORDED,
    ) -> None:
        """Takes the runs directory, what to call after each stage, the processes, and how the command was started."""
        self._made = provenance.plain()
        self._store = StageStore(runs_dir)
        self._finished = finished
        self.current = ""
        self.processes = processes

    def run(
        self, name: str, payload: Mapping[str, Any], work: Work, *, shared: bool = False, label: str = ""
    ) -> StageResult:
        """Runs `work(folder)` unless a stage with this payload is finished.

        The main process holds the lock, writes the record and, unless the work is shared, does it; the others wait.

        Args:
            name: Stage name, e.g. `fit_encoder`.
            payload: Everything that decides the output, as plain data.
            work: Does the work into the folder, which may hold an interrupted attempt; returns facts for the results.
            shared: Whether all processes do the work together; it must write in the main process only.
            label: What the stage works on, for progress lines, e.g. the name of an encoder.

        Returns:
            The finished stage.

        Raises:
            RunError: If the processes see other code, data or folders than the main one.
        """
        self.current = name
        digest = fingerprint({"stage": name, **payload})
        start = time.monotonic()
        self._compare(name, digest)
        with contextlib.ExitStack() as held:
            reused = self.processes.run_on_main(lambda: self._claim(held, name, digest))
            if not reused:
                shown = f"{name} {label}".rstrip()
                logger.info("%s: working in %s", shown, self._store.folder(name, digest).name)
                with progress(shown, shown=self.processes.is_main):
                    self._try(name, digest, payload, work, shared=shared)
            # The main process marks the stage as done when it lets go of it, and the others read it after that.
            self.processes.run_on_main(held.close)
        return self._report(name, digest, start, reused=reused)

    def taken(self, name: str, digest: str) -> StageResult:
        """Returns a finished stage of another run of the directory, as one that this run uses.

        Args:
            name: Stage name.
            digest: Its fingerprint.

        Raises:
            RunError: If it is gone, unfinished or damaged.
        """
        folder = self._store.folder(name, digest)
        if not self._store.is_done(name, digest):
            raise RunError(f"{folder}: missing or unfinished, and the run needs it; repeat its `collm run`")
        require_whole(folder, advice="`collm runs rm` the run, then repeat its `collm run`")
        return self._report(name, digest, time.monotonic(), reused=True)

    def _claim(self, held: contextlib.ExitStack, name: str, digest: str) -> bool:
        """Takes the stage for this process unless it is finished and whole; returns whether it is."""
        if self._store.is_done(name, digest) and not self._fault(name, digest):
            return True
        held.enter_context(self._store.claim(name, digest, on_wait=logger.warning))
        # Another command may have finished it while this one waited.
        if not self._store.is_done(name, digest):
            return False
        fault = self._fault(name, digest)
        if fault:
            logger.warning("%s; %s is recomputed", fault, name)
            remove_contents(self._store.folder(name, digest))
        return not fault

    def _fault(self, name: str, digest: str) -> str:
        """Says what is damaged in a finished stage, empty where nothing is."""
        folder = self._store.folder(name, digest)
        try:
            if not (found := damage(folder)):
                self._record(folder / RECORD)
            return found
        except RunError as error:
            return str(error)

    def _try(self, name: str, digest: str, payload: Mapping[str, Any], work: Work, *, shared: bool) -> None:
        """Does the work; of an error that means a full disk or full memory the message says so."""
        try:
            with full_disk_named(self._store.folder(name, digest)):
                self._work(name, digest, payload, work, shared=shared)
        except (MemoryError, RuntimeError) as error:
            if cause := out_of_memory(error):
                raise RunError(f"{name}: {cause}") from error
            raise

    def _earlier_seconds(self, folder: Path) -> float:
        """Returns the seconds of an interrupted attempt that the work continues from."""
        if not self.processes.is_main or not any(folder.glob("checkpoint*")):
            return 0.0
        from collm.engine.checkpoint import earlier_seconds  # loads torch, which finished stages do without

        return earlier_seconds(folder)

    def _work(self, name: str, digest: str, payload: Mapping[str, Any], work: Work, *, shared: bool) -> None:
        folder = self._store.folder(name, digest)
        earlier, start = self._earlier_seconds(folder), time.monotonic()
        facts: dict[str, Any] = dict(work(folder)) if shared else {}

        def finish() -> None:
            stated = facts if shared else dict(work(folder))
            seconds = round(earlier + time.monotonic() - start, 3)
            record = {"work_seconds": seconds, "facts": stated, "payload": dict(payload), "made": self._made}
            write_atomically(folder / RECORD, json.dumps(record, indent=2, default=str) + "\n")

        self.processes.run_on_main(finish)

    def _compare(self, name: str, digest: str) -> None:
        """Makes sure that all processes speak of the same stage."""
        if (main := self.processes.run_on_main(lambda: digest)) != digest:
            raise RunError(
                f"{name}: process {self.processes.index} sees other code or data than the main process ({digest}, "
                f"{main}); install the same versions on every machine and give all the same files"
            )

    def _report(self, name: str, digest: str, start: float, *, reused: bool) -> StageResult:
        folder = self._store.folder(name, digest)
        record = self._record(folder / RECORD)
        result = StageResult(
            name=name,
            kind=kind_of(name),
            fingerprint=digest,
            folder=folder,
            seconds=round(time.monotonic() - start, 3),
            work_seconds=record["work_seconds"],
            reused=reused,
            facts=record["facts"],
            made=record["made"],
        )
        self._finished(result)
        return result

    def _record(self, path: Path) -> dict[str, Any]:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return {
                "work_seconds": float(record["work_seconds"]),
                "facts": dict(record["facts"]),
                "made": record.get("made"),
            }
        except FileNotFoundError as error:
            if self.processes.is_main:
                raise RunError(f"{path}: missing; {REMOVE}") from error
            raise RunError(
                f"{path}: process {self.processes.index} does not see what the main process wrote; put --runs-dir on a "
                "file system that all machines share"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: damaged: not a stage's record ({error}); {REMOVE}") from error


@dataclass(frozen=True)
class RunContext:
    """What the stages of one run work with.

    Attributes:
        spec: The resolved spec.
        registry: Where components come from.
        build: What factories get.
        stages: Runs or skips stages.
        accelerator: Device and backward pass.
        observer: Receives logged numbers.
    """

    spec: ResolvedSpec
    registry: Registry
    build: BuildContext
    stages: StageRunner
    accelerator: Accelerator
    observer: Observer

    def code(self, kind: Kind, config: ComponentConfig) -> str:
        """Returns what a component's code adds to a fingerprint."""
        return self.registry.code_version(kind, config.name)


class RecordedStages(StageRunner):
    """Gives the stages that a run recorded, and never works."""

    def __init__(self, runs_dir: Path, fingerprints: Mapping[str, str]) -> None:
        """Takes the runs directory and stage -> fingerprint of `results.json`."""
        super().__init__(runs_dir, finished=lambda _: None)
        self._runs_dir, self._fingerprints = runs_dir, fingerprints

    def run(
        self,
        name: str,
        payload: Mapping[str, Any],  # noqa: ARG002
        work: Work,  # noqa: ARG002
        *,
        shared: bool = False,  # noqa: ARG002
        label: str = "",  # noqa: ARG002
    ) -> StageResult:
        """Returns the recorded stage.

        Raises:
            RunError: If the run did not record it, or its folder is gone.
        """
        return self.recorded(name)

    def recorded(self, name: str) -> StageResult:
        """Returns a recorded stage by name."""
        digest = self._fingerprints.get(name)
        if digest is None:
            raise RunError(f"the run recorded no stage '{name}': it is of another version; repeat its `collm run`")
        # The fits of several encoders are recorded as `fit_encoder.NAME`.
        return self.taken(name.partition(".")[0], digest)
