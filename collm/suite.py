"""Runs all runs of a suite; a run that fails is named and the others go on."""

from __future__ import annotations

import logging
import time
from typing import Any

from collm.component import BuildContext
from collm.engine.progress import progress
from collm.ensemble import run_ensembles
from collm.errors import CollmError, DataError, InUse
from collm.finished import run_folder
from collm.registry import Registry
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.runs.records import RunOutcome, SuiteOutcome
from collm.spec.expand import Suite
from collm.spec.model import ResolvedSpec

logger = logging.getLogger(__name__)
_POLL_S = 1.0


def run_suite(suite: Suite, registry: Registry, options: RunOptions) -> SuiteOutcome:
    """Runs a suite in the order of its file, then its ensembles; stages that several runs need are worked out once.

    Args:
        suite: The expanded suite.
        registry: Where components come from.
        options: Directories, device, threads.

    Returns:
        Finished runs, ensembles, and messages of runs that failed.
    """
    options.processes.run_on_main(lambda: _say_plan(suite, registry, options))
    results, failed = _run_free_ones(suite, registry, options)
    results = {member.key: results[member.key] for member in suite.runs if member.key in results}

    def average() -> tuple[dict[str, Any], dict[str, str]]:
        made, failures = run_ensembles(suite, results, registry=registry, runs_dir=options.runs_dir)
        return {key: each.plain() for key, each in made.items()}, failures

    mixed, unmade = options.processes.run_on_main(average)
    runs = (*results.values(), *map(RunOutcome.of, mixed.values()))
    return SuiteOutcome(suite.name, runs, failed | unmade)


def _run_free_ones(
    suite: Suite, registry: Registry, options: RunOptions
) -> tuple[dict[str, RunOutcome], dict[str, str]]:
    """Runs what is free; several commands on one suite share its runs, and each comes back to what others work on."""
    results: dict[str, RunOutcome] = {}
    failed: dict[str, str] = {}
    announced: set[str] = set()
    pending = list(enumerate(suite.runs, start=1))
    while pending:
        busy = []
        for number, member in pending:
            if member.key not in announced:
                logger.info("%s: run %d of %d: %s", suite.name, number, len(suite.runs), member.key)
            place = f"{suite.name}: run {number} of {len(suite.runs)}: {member.key}"
            try:
                with progress(place, shown=options.processes.is_main):
                    results[member.key] = run_spec(member.spec, registry, options, run=member.run, wait=False)
            except InUse:
                if member.key not in announced:
                    logger.info("%s: another process works on it; it is come back to", member.key)
                announced.add(member.key)
                busy.append((number, member))
            except CollmError as error:
                failed[member.key] = str(error)
                logger.error("%s failed: %s", member.key, error)
        if len(busy) == len(pending):
            # A process that is killed leaves its run to whichever command looks next.
            time.sleep(_POLL_S)
        pending = busy
    return results, failed


def _say_plan(suite: Suite, registry: Registry, options: RunOptions) -> None:
    """Says what is finished and what is to do; whether code or files changed is looked at in each one's turn."""
    done = [member.key for member in suite.runs if _is_done(member.spec, registry, options)]
    missing = [member.key for member in suite.runs if member.key not in done]
    logger.info(
        "%s: %d runs, %d ensembles; finished before: %s; to do: %s",
        suite.name,
        len(suite.runs),
        len(suite.ensembles),
        ", ".join(done) or "none",
        ", ".join(missing) or "none",
    )


def _is_done(spec: ResolvedSpec, registry: Registry, options: RunOptions) -> bool:
    context = BuildContext(cache_dir=options.cache_dir, find=registry.get)
    try:
        return run_folder(spec, registry, runs_dir=options.runs_dir, context=context).is_done()
    except DataError:
        return False
