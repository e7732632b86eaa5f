"""Launches the runs of a spec or suite that are missing, shows how they go, and gathers their results."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collm.component import BuildContext
from collm.ensemble import run_ensembles
from collm.errors import RunError
from collm.finished import run_folder, stored_outcome
from collm.launch.attempt import Attempt, how_ended, log_end
from collm.launch.launcher import Ended, Launcher, Started
from collm.launch.sharing import Share, shares_of, unfinished_keys
from collm.registry import Registry
from collm.runs.records import RunOutcome, SuiteOutcome
from collm.runs.store import RunFolder
from collm.spec.expand import Suite
from collm.spec.model import ResolvedSpec

logger = logging.getLogger(__name__)
LAUNCHED = "launched"
# Between two looks at the events of running runs.
_LOOK_S = 1.0


@dataclass(frozen=True)
class RunsRequest:
    """What the launched commands are made of.

    Attributes:
        words: The words of a command that runs the whole file, after `collm`: `run`, the file, its settings.
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache.
        folder: Working directory.
        variables: Environment variables of the children.
    """

    words: tuple[str, ...]
    runs_dir: Path
    cache_dir: Path
    folder: Path
    variables: dict[str, str]


@dataclass(frozen=True)
class _Member:
    """A run that is to do.

    Attributes:
        key: Its key; the name of a spec that stands alone.
        run: Its key without seed, as results have it.
        spec: Its resolved spec.
        folder: Its run folder.
        shares: What other runs may need, too.
        attempt: The command that runs it.
    """

    key: str
    run: str
    spec: ResolvedSpec
    folder: RunFolder
    shares: tuple[Share, ...]
    attempt: Attempt

    @property
    def keys(self) -> set[str]:
        """The keys of its shares."""
        return {share.key for share in self.shares}


def launch_runs(
    loaded: ResolvedSpec | Suite, registry: Registry, launcher: Launcher, request: RunsRequest
) -> RunOutcome | SuiteOutcome:
    """Runs what is missing, each run in a process of its own, then the ensembles.

    Args:
        loaded: A spec or a suite.
        registry: Where components come from.
        launcher: Where runs work; it is stopped at the end.
        request: What their commands are made of.

    Returns:
        The run of a spec; of a suite finished runs, ensembles, and messages of runs that failed.

    Raises:
        RunError: If the run of a spec failed.
        KeyboardInterrupt: After the running ones were ended.
    """
    launched = _Launched(loaded, registry, launcher, request)
    try:
        launched.work()
    except KeyboardInterrupt:
        launched.say_interrupted()
        raise
    finally:
        launcher.stop()
    if isinstance(loaded, Suite):
        return launched.suite_outcome(loaded)
    for message in launched.failed.values():
        raise RunError(message)
    return launched.results[loaded.name]


class _Launched:
    def __init__(
        self, loaded: ResolvedSpec | Suite, registry: Registry, launcher: Launcher, request: RunsRequest
    ) -> None:
        self.loaded, self.registry, self.launcher, self.request = loaded, registry, launcher, request
        self.context = BuildContext(cache_dir=request.cache_dir, find=registry.get)
        self.results: dict[str, RunOutcome] = {}
        self.failed: dict[str, str] = {}
        self.running: dict[str, _Member] = {}
        # Keys of shared work that a run has done.
        self.done: set[str] = set()
        self.started: dict[str, float] = {}
        members = list(self._members())
        self.order = [member.key for member in members]
        self.pending = [member for member in members if not self._finished_before(member)]
        self._looked = 0.0

    def work(self) -> None:
        """Starts runs as soon as they may start, and follows them to their end."""
        logger.info(
            "%s: %d runs; finished before: %d; to do: %s; %s",
            self.loaded.name,
            len(self.order),
            len(self.results),
            ", ".join(member.key for member in self.pending) or "none",
            self.launcher.describe(),
        )
        while self.pending or self.running:
            self._start(self._ready())
            for event in self.launcher.watch():
                if isinstance(event, Started):
                    logger.info("run %s: started on %s", event.name, event.where)
                else:
                    self._end(event)

    def suite_outcome(self, suite: Suite) -> SuiteOutcome:
        """Averages ensembles and returns everything in the order of the file."""
        runs = {key: self.results[key] for key in self.order if key in self.results}
        made, unmade = run_ensembles(suite, runs, registry=self.registry, runs_dir=self.request.runs_dir)
        return SuiteOutcome(suite.name, (*runs.values(), *made.values()), self.failed | unmade)

    def say_interrupted(self) -> None:
        """Says what was ended and what is left to do."""
        logger.info(
            "%s: %d of %d runs are finished; ending %s; the same command continues %s",
            self.loaded.name,
            len(self.results),
            len(self.order),
            ", ".join(self.running) or "none",
            ", ".join([*self.running, *(member.key for member in self.pending)]) or "nothing",
        )

    def _members(self) -> Iterator[_Member]:
        if not isinstance(self.loaded, Suite):
            yield self._member(self.loaded.name, self.loaded.name, self.loaded, ())
            return
        for each in self.loaded.runs:
            yield self._member(each.key, each.run, each.spec, ("--only", each.key))

    def _member(self, key: str, run: str, spec: ResolvedSpec, only: Sequence[str]) -> _Member:
        request = self.request
        folder = run_folder(spec, self.registry, runs_dir=request.runs_dir, context=self.context)
        attempt = Attempt(
            key,
            (*request.words, *only),
            request.runs_dir.absolute() / LAUNCHED / f"{folder.path.name}.log",
            request.runs_dir.absolute(),
            request.folder,
            request.variables,
        )
        return _Member(key, run, spec, folder, shares_of(spec, self.registry, self.context), attempt)

    def _stored(self, member: _Member, *, says_changes: bool) -> RunOutcome | None:
        return stored_outcome(
            member.spec,
            self.registry,
            folder=member.folder,
            context=self.context,
            run=member.run,
            says_changes=says_changes,
        )

    def _finished_before(self, member: _Member) -> bool:
        found = self._stored(member, says_changes=False)
        if found is not None:
            self.results[member.key] = found
            self.done |= member.keys
        return found is not None

    def _ready(self) -> list[_Member]:
        """Returns the runs that may start now: no running one is at work on what they need, too."""
        free = self.launcher.free()
        if not self.pending or free <= 0 or (self.running and time.monotonic() - self._looked < _LOOK_S):
            return []
        self._looked = time.monotonic()
        taken = set()
        for each in self.running.values():
            unfinished = set(unfinished_keys(each.shares, each.folder.path))
            self.done |= each.keys - unfinished
            taken |= unfinished
        ready: list[_Member] = []
        for member in self.pending:
            needs = member.keys - self.done
            if len(ready) < free and not needs & taken:
                ready.append(member)
                taken |= needs
        return ready

    def _start(self, ready: Iterable[_Member]) -> None:
        chosen = list(ready)
        for member in chosen:
            member.attempt.forget()
            self.pending.remove(member)
            self.running[member.key] = member
            self.started[member.key] = time.monotonic()
        if chosen:
            self.launcher.start([member.attempt for member in chosen])

    def _end(self, ended: Ended) -> None:
        member = self.running.pop(ended.name)
        seconds = time.monotonic() - self.started[ended.name]
        found = self._stored(member, says_changes=True) if ended.code == 0 else None
        if found is not None:
            self.results[member.key] = replace(found, reused=False)
            self.done |= member.keys
        else:
            self.failed[member.key] = self._failure(member, ended)
        n_over = len(self.results) + len(self.failed)
        how = "finished" if found is not None else "failed"
        logger.info("run %s: %s in %.1f s (%d of %d)", member.key, how, seconds, n_over, len(self.order))
        if found is None:
            logger.error("%s failed: %s", member.key, self.failed[member.key])

    def _failure(self, member: _Member, ended: Ended) -> str:
        how = "it ended well, but left no finished run" if ended.code == 0 else ended.problem or how_ended(ended.code)
        lines = [f"{how}; the end of {member.attempt.log}:", *(f"  {line}" for line in log_end(member.attempt.log))]
        return "\n".join(lines)
