"""Finds the runs that a report is about: run folders, and the runs that a suite file names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from collm.ensemble import ensemble_folder
from collm.errors import RunError, UsageError
from collm.registry import Registry
from collm.rescore import FLOORS, read_scores
from collm.runs.store import RunFolder
from collm.spec.expand import Suite, load_any


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
    results: dict[str, Any]

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Returns its scored rows."""
        return read_scores(self.path)

    @cached_property
    def floor_scores(self) -> pl.DataFrame | None:
        """Returns the floors' scores on the same rows, a column per floor; None where the run has none."""
        path = self.path / FLOORS
        return pl.read_parquet(path, glob=False) if path.is_file() else None

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Returns the resolved spec as plain data."""
        return dict(yaml.safe_load((self.path / "spec.yaml").read_text(encoding="utf-8")))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Returns what was recorded of the machine; empty for an ensemble."""
        path = self.path / "environment.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


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
    """

    title: str
    runs: tuple[ReportRun, ...]
    missing: tuple[MissingRun, ...] = field(default=())


def collect(
    targets: Sequence[Path], *, runs_dir: Path, registry: Registry, overrides: Sequence[str], cwd: Path
) -> Collected:
    """Reads what `collm report` was asked about.

    Args:
        targets: Run folders (or their names in `runs_dir`), spec files, suite files; in any mixture.
        runs_dir: Directory of runs.
        registry: What specs are resolved with.
        overrides: `path=value` texts that the runs of a file were started with.
        cwd: Folder that relative locations in `overrides` resolve against.

    Raises:
        UsageError: If a target is neither a folder nor a file.
        SpecError: If a file has problems.
        RunError: If a run folder is not finished or unreadable, or nothing is finished at all.
    """
    titles: list[str] = []
    runs: list[ReportRun] = []
    missing: list[MissingRun] = []
    for target in targets:
        folder = target if target.is_dir() else runs_dir / target
        if folder.is_dir():
            run = read_run(folder)
            titles.append(str(run.results["name"]))
            runs.append(run)
        elif target.is_file():
            name, found, absent = _from_file(target, runs_dir, registry, overrides, cwd)
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
    return Collected(" + ".join(dict.fromkeys(titles)), distinct, tuple(missing))


def read_run(folder: Path) -> ReportRun:
    """Reads one finished run.

    Raises:
        RunError: If it is not finished, or not a run folder.
    """
    store = RunFolder.at(folder)
    if not store.is_done():
        raise RunError(f"{folder}: not finished ({failure_of(store)}); repeat its `collm run`, then report")
    results = store.results()
    return ReportRun(str(results["run"]), int(results["seed"]), folder, results)


def failure_of(folder: RunFolder) -> str:
    """Returns why a run is not finished, in one line."""
    if not folder.path.is_dir():
        return "not run yet"
    failures = [event for event in folder.events() if event["event"] == "run_failed"]
    return str(failures[-1]["error"]).splitlines()[0] if failures else "interrupted or still running"


def _from_file(
    path: Path, runs_dir: Path, registry: Registry, overrides: Sequence[str], cwd: Path
) -> tuple[str, list[ReportRun], list[MissingRun]]:
    loaded = load_any(path, overrides, registry, cwd=cwd)
    if isinstance(loaded, Suite):
        specs = {member.key: member.spec for member in loaded.runs}
        folders = [
            (each.run, each.seed, RunFolder(runs_dir, each.spec.name, each.spec.spec_hash)) for each in loaded.runs
        ]
        folders += [
            (each.run, each.seed, ensemble_folder(loaded.name, each, specs, runs_dir=runs_dir))
            for each in loaded.ensembles
        ]
    else:
        folders = [(loaded.name, loaded.seed, RunFolder(runs_dir, loaded.name, loaded.spec_hash))]
    runs: list[ReportRun] = []
    missing: list[MissingRun] = []
    for method, seed, folder in folders:
        if folder.is_done():
            runs.append(ReportRun(method, seed, folder.path, folder.results()))
        else:
            missing.append(MissingRun(method, seed, failure_of(folder)))
    return loaded.name, runs, missing
