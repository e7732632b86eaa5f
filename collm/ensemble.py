"""Runs made of runs: the mean of `score` over the same rows, with a run folder like any other."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from collm.errors import CollmError, RunError
from collm.files import file_digest
from collm.finished import outcome
from collm.metrics.score_notes import few_users_notes, rounded_logits
from collm.registry import Registry
from collm.rescore import FLOORS, SCORES, Measure, mean_score, measure_scores, read_scores
from collm.runs.records import RunOutcome, RunResults
from collm.runs.store import RunFolder
from collm.spec.expand import Suite, SuiteEnsemble
from collm.spec.fingerprint import fingerprint
from collm.spec.model import ResolvedSpec
from collm.stages.evaluate import build_metrics
from collm.stages.score_tables import PREQUENTIAL, WINDOW_COLUMNS

logger = logging.getLogger(__name__)
NOT_RANKED = "An ensemble ranks no candidates: tables of rankings hold its members alone."


def ensemble_folder(suite: str, ensemble: SuiteEnsemble, members: Mapping[str, Path], *, runs_dir: Path) -> RunFolder:
    """Returns the run folder of an ensemble; its hash is of its members' hashes.

    Args:
        suite: Name of the suite.
        ensemble: The ensemble.
        members: Key -> run folder of each member at least.
        runs_dir: Directory of runs.
    """
    hashes = [members[member].name.rpartition("-")[2] for member in ensemble.members]
    digest = fingerprint({"ensemble": hashes})[:10]
    return RunFolder(runs_dir, f"{suite}-{ensemble.run}", digest)


def run_ensembles(
    suite: Suite, results: Mapping[str, RunOutcome], *, registry: Registry, runs_dir: Path
) -> tuple[dict[str, RunOutcome], dict[str, str]]:
    """Averages the scores of finished runs for every ensemble of a suite.

    Args:
        suite: The expanded suite.
        results: Key -> each finished run.
        registry: Where metrics come from.
        runs_dir: Directory of runs.

    Returns:
        Key -> each ensemble, and key -> message of each that could not be made.
    """
    specs = {member.key: member.spec for member in suite.runs}
    made: dict[str, RunOutcome] = {}
    failed: dict[str, str] = {}
    for ensemble in suite.ensembles:
        try:
            if lacking := [key for key in ensemble.members if key not in results]:
                raise RunError(f"needs {', '.join(lacking)}, which did not finish")
            made[ensemble.key] = run_ensemble(
                suite.name, ensemble, specs, results, registry=registry, runs_dir=runs_dir
            )
        except CollmError as error:
            failed[ensemble.key] = str(error)
            logger.error("%s failed: %s", ensemble.key, error)
    return made, failed


def run_ensemble(
    suite: str,
    ensemble: SuiteEnsemble,
    specs: Mapping[str, ResolvedSpec],
    results: Mapping[str, RunOutcome],
    *,
    registry: Registry,
    runs_dir: Path,
) -> RunOutcome:
    """Averages the scores of finished runs, or returns what that gave before for the same scores.

    Args:
        suite: Name of the suite.
        ensemble: The ensemble.
        specs: Key -> spec of each run of the suite.
        results: Key -> run, of each member at least.
        registry: Where metrics come from.
        runs_dir: Directory of runs.

    Returns:
        The ensemble.

    Raises:
        RunError: If the members did not score the same rows.
    """
    members = {key: results[key].folder for key in ensemble.members}
    folder = ensemble_folder(suite, ensemble, members, runs_dir=runs_dir)
    inputs = {key: file_digest(path / SCORES) for key, path in members.items()}
    if _is_made(folder, inputs):
        return outcome(folder, ensemble.run, reused=True)
    with folder.lock(on_wait=logger.warning):
        fault = folder.damage() if folder.is_done() else ""
        if fault:
            logger.warning("%s: %s; the ensemble is recomputed", ensemble.key, fault)
            folder.clear()
        reused = _is_made(folder, inputs)
        if not reused:
            _average(folder, suite, ensemble, specs, results, members, inputs, registry)
            folder.write_done()
    return outcome(folder, ensemble.run, reused=reused)


def _is_made(folder: RunFolder, inputs: Mapping[str, str]) -> bool:
    return folder.is_done() and not folder.damage() and folder.results().inputs == inputs


def _average(
    folder: RunFolder,
    suite: str,
    ensemble: SuiteEnsemble,
    specs: Mapping[str, ResolvedSpec],
    results: Mapping[str, RunOutcome],
    members: Mapping[str, Path],
    inputs: dict[str, str],
    registry: Registry,
) -> None:
    first = specs[ensemble.members[0]]
    read = {key: read_scores(path) for key, path in members.items()}
    # Windows and the scores without updates are a member's own.
    frame = mean_score(read).drop(WINDOW_COLUMNS, strict=False)
    measure = Measure(
        warm=first.slices.warm,
        cold=first.slices.cold,
        slices=first.evaluate.slices,
        metrics=build_metrics(first.evaluate.metrics, registry),
        resamples=first.evaluate.resamples,
    )
    lead, floors = results[ensemble.members[0]].results.plain(), members[ensemble.members[0]] / FLOORS
    writers: dict[str, Callable[[Path], Any]] = {SCORES: frame.write_parquet}
    if floors.is_file():
        writers[FLOORS] = functools.partial(shutil.copyfile, floors)
    content: dict[str, Any] = {
        "schema": lead["schema"],
        "name": f"{suite}-{ensemble.run}",
        "run": ensemble.run,
        "spec_hash": folder.path.name.rpartition("-")[2],
        "seed": ensemble.seed,
        "profile": first.profile,
        "metrics": measure_scores(frame, measure),
        "floors": lead.get("floors", {}),
        "timing": {},
        "inputs": inputs,
        "counts": lead.get("counts", {}),
        "full_counts": lead.get("full_counts", {}),
        "protocol": _protocol([results[key].results.plain() for key in ensemble.members]),
        "facts": {"ensemble": {key: str(path.name) for key, path in members.items()}},
        "notes": [
            f"The mean of the scores of {' and '.join(ensemble.members)}.",
            *([NOT_RANKED] if first.evaluate.ranking is not None else []),
            *_prequential_notes({key: results[key].results.notes for key in ensemble.members}),
            *_rounded_notes(read),
            *few_users_notes(frame),
        ],
    }
    results_record = RunResults.check(content, place=str(folder.path / "results.json"))
    folder.replace({"ensemble": {key: specs[key].plain() for key in ensemble.members}}, results_record, writers)


def _protocol(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the first member's; a mean with a member that sees the evaluation period sees it, too."""
    found = [dict(each.get("protocol", {})) for each in members]
    sees = any(each.get("sees_earlier_rows") for each in found)
    return found[0] | ({"sees_earlier_rows": True} if sees else {})


def _prequential_notes(members: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yields how members were updated while they scored; their mean has no windows of its own."""
    for key, notes in members.items():
        yield from (f"{key}: {each}" for each in notes if each.startswith(PREQUENTIAL))


def _rounded_notes(members: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    """Yields a sentence per member whose probabilities are tied where its logits are not: their mean is tied, too."""
    for key, frame in members.items():
        for said in rounded_logits(frame).values() if not frame["logit"].null_count() else ():
            yield f"{key}: {said}, so the mean of scores ranks those rows by the other members alone."
