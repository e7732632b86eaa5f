"""Finds the runs that a report is about: run folders, and the runs that a suite file names."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import yaml

from collm.component import BuildContext
from collm.ensemble import ensemble_folder
from collm.errors import RunError, UsageError
from collm.finished import run_folder
from collm.registry import Registry
from collm.report.deviations import Deviation, deviations
from collm.rescore import FLOORS, read_scores
from collm.runs.records import RunResults
from collm.runs.store import RunFolder
from collm.spec.expand import Suite, load_any
from collm.spec.model import ResolvedSpec

T = TypeVar("T")


@dataclass(frozen=True)
class ReportRun:
    """A finished run, read from its folder.

    Attributes:
        method: What is compared: the run's name within its suite, without its seed.
        seed: Its seed.
        path: Its folder.
        results: Content of `results.json`.
    """

    method: str
    seed: int
    path: Path
    results: RunResults

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Returns its scored rows."""
        return read_scores(self.path)

    @cached_property
    def floor_scores(self) -> pl.DataFrame | None:
        """Returns the floors' scores on the same rows, a column per floor; None where the run has none."""
        path = self.path / FLOORS
        return _read(path, functools.partial(pl.read_parquet, glob=False)) if path.is_file() else None

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Returns the resolved spec as plain data."""
        return _read(self.path / "spec.yaml", lambda path: dict(yaml.safe_load(path.read_text(encoding="utf-8"))))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Returns what was recorded of the machine; empty for an ensemble."""
        path = self.path / "environment.json"
        if not path.is_file():
            return {}
        return _read(path, lambda path: dict(json.loads(path.read_text(encoding="utf-8"))))


def _read(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, ValueError, TypeError, yaml.YAMLError, pl.exceptions.PolarsError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{path}: cannot be read ({said}); repeat its `collm run`") from error


@dataclass(frozen=True)
class MissingRun:
    """A run that a suite names and that has no finished folder."""

    method: str
    seed: int
    cause: str


@dataclass(frozen=True)
class Collected:
    """What a report is about.

    Attributes:
        title: Name of the suite, or of the runs.
        runs: Finished runs in the order given.
        missing: Runs of suites without a finished folder.
        departures: Run folder -> where the run departs from the paper.
    """

    title: str
    runs: tuple[ReportRun, ...]
    missing: tuple[MissingRun, ...] = field(default=())
    departures: Mapping[Path, Sequence[Deviation]] = field(default_factory=dict)


def collect(
    targets: Sequence[Path],
    *,
    runs_dir: Path,
    registry: Registry,
    overrides: Sequence[str],
    cwd: Path,
    context: BuildContext | None = None,
) -> Collected:
    """Reads what `collm report` was asked about.

    Args:
        targets: Run folders (or their names in `runs_dir`), spec files, suite files; in any mixture.
        runs_dir: Directory of runs.
        registry: What specs are resolved with.
        overrides: `path=value` texts that the runs of a file were started with.
        cwd: Folder that relative locations in `overrides` resolve against.
        context: What components are built with; the contents of a spec's files decide its run's folder.

    Raises:
        DataError: If a file that a spec names is missing; its run folder can be given instead.
        UsageError: If a target is neither a folder nor a file.
        SpecError: If a file has problems.
        RunError: If a run folder is not finished or unreadable, or nothing is finished at all.
    """
    titles: list[str] = []
    runs: list[ReportRun] = []
    missing: list[MissingRun] = []
    context = context or BuildContext(cache_dir=runs_dir, find=registry.get)
    for target in targets:
        folder = target if target.is_dir() else runs_dir / target
        if folder.is_dir():
            run = read_run(folder, strict=False)
            titles.append(run.results.name)
            runs.append(run)
        elif target.is_file():
            name, found, absent = _from_file(
                load_any(target, overrides, registry, cwd=cwd), runs_dir, registry, context
            )
            titles.append(name)
            runs.extend(found)
            missing.extend(absent)
        else:
            raise UsageError(
                f"{target}: neither a run folder (here or in {runs_dir}) nor a YAML file; `collm runs` lists the runs"
            )
    if not runs:
        raise RunError(f"nothing is finished in {runs_dir}: {'; '.join(f'{m.method}: {m.cause}' for m in missing)}")
    distinct = tuple({run.path.resolve(): run for run in runs}.values())
    departures = {run.path: deviations(run.spec, run.results, registry) for run in distinct}
    return Collected(" + ".join(dict.fromkeys(titles)), distinct, tuple(missing), departures)


def read_run(folder: Path, *, strict: bool = True) -> ReportRun:
    """Reads one finished run.

    Args:
        folder: Its folder.
        strict: Whether a `results.json` that is not as it was written is refused. Otherwise, where it can be read, the
            run says so in its notes, beside its numbers: people edit it. Other damage is always refused.

    Raises:
        RunError: If it is not finished, damaged, or not a run folder.
    """
    store = RunFolder.at(folder)
    if not store.is_done():
        raise RunError(f"{folder}: not finished ({failure_of(store)}); repeat its `collm run`, then report")
    if fault := store.damage(but=() if strict else ("results.json",)):
        raise RunError(f"{fault}; repeat its `collm run`")
    results = store.results()
    if fault := store.damage():
        note = f"{fault}: edited or damaged since; repeat its `collm run`"
        results = results.model_copy(update={"notes": [*results.notes, note]})
    return ReportRun(results.run, results.seed, folder, results)


def failure_of(folder: RunFolder) -> str:
    """Returns why a run is not finished, in one line."""
    if not folder.path.is_dir():
        return "not run yet"
    try:
        failures = [event for event in folder.events() if event["event"] == "run_failed"]
    except RunError as error:
        return str(error)
    return str(failures[-1]["error"]).splitlines()[0] if failures else "interrupted or still running"


def _from_file(
    loaded: Suite | ResolvedSpec, runs_dir: Path, registry: Registry, context: BuildContext
) -> tuple[str, list[ReportRun], list[MissingRun]]:
    def folder_of(spec: ResolvedSpec) -> RunFolder:
        return run_folder(spec, registry, runs_dir=runs_dir, context=context)

    if isinstance(loaded, Suite):
        members = {each.key: folder_of(each.spec) for each in loaded.runs}
        paths = {key: folder.path for key, folder in members.items()}
        folders = [(each.run, each.seed, members[each.key]) for each in loaded.runs]
        folders += [
            (each.run, each.seed, ensemble_folder(loaded.name, each, paths, runs_dir=runs_dir))
            for each in loaded.ensembles
        ]
    else:
        folders = [(loaded.name, loaded.seed, folder_of(loaded))]
    runs: list[ReportRun] = []
    missing: list[MissingRun] = []
    for method, seed, folder in folders:
        if not folder.is_done():
            missing.append(MissingRun(method, seed, failure_of(folder)))
            continue
        try:
            run = read_run(folder.path, strict=False)
        except RunError as error:
            missing.append(MissingRun(method, seed, str(error)))
        else:
            runs.append(replace(run, method=method, seed=seed))
    return loaded.name, runs, missing
