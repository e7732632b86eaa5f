"""Finds the runs that a report is about: run folders, and the runs that a suite file names."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import yaml

from collm.component import BuildContext
from collm.ensemble import ensemble_folder
from collm.errors import RunError, UsageError
from collm.files import file_digest
from collm.finished import run_folder
from collm.registry import Registry
from collm.report.deviations import Deviation, deviations
from collm.report.packed import is_packed, open_pack
from collm.rescore import FLOORS, RANKING, read_scores
from collm.runs.records import RunResults
from collm.runs.remote import place_of
from collm.runs.store import RunFolder
from collm.spec.expand import Suite, load_any
from collm.spec.model import ResolvedSpec
from collm.spec.only import ONLY

T = TypeVar("T")


@dataclass(frozen=True)
class ReportRun:
    """A finished run, read from its folder.

    Attributes:
        method: What is compared: the run's name within its suite, without its seed.
        seed: Its seed.
        path: Its folder.
        results: Content of `results.json`.
        place: Where a reader finds it: its folder, or its place in the zip that it was read from.
        linked: What a page links to: its folder, or that zip.
    """

    method: str
    seed: int
    path: Path
    results: RunResults
    place: Path
    linked: Path

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Returns its scored rows."""
        with naming(self.path, self.place):
            return read_scores(self.path)

    @cached_property
    def floor_scores(self) -> pl.DataFrame | None:
        """Returns the floors' scores on the same rows, a column per floor; None where the run has none."""
        path = self.path / FLOORS
        with naming(self.path, self.place):
            return _read(path, functools.partial(pl.read_parquet, glob=False)) if path.is_file() else None

    @cached_property
    def ranking(self) -> pl.DataFrame | None:
        """Returns its ranked lists and those of the floors; None where the run ranked nothing."""
        path = self.path / RANKING
        with naming(self.path, self.place):
            return _read(path, functools.partial(pl.read_parquet, glob=False)) if path.is_file() else None

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Returns the resolved spec as plain data."""
        with naming(self.path, self.place):
            return _read(self.path / "spec.yaml", lambda path: dict(yaml.safe_load(path.read_text(encoding="utf-8"))))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Returns what was recorded of the machine; empty for an ensemble."""
        path = self.path / "environment.json"
        if not path.is_file():
            return {}
        with naming(self.path, self.place):
            return _read(path, lambda path: dict(json.loads(path.read_text(encoding="utf-8"))))


@contextlib.contextmanager
def naming(path: Path, place: Path) -> Iterator[None]:
    """Makes messages of the block name the place that a user knows in place of a folder that files were unpacked to."""
    try:
        yield
    except RunError as error:
        if path == place or str(path) not in str(error):
            raise
        raise RunError(str(error).replace(str(path), str(place))) from error


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
        notes: Sentences on what the targets leave out.
    """

    title: str
    runs: tuple[ReportRun, ...]
    missing: tuple[MissingRun, ...] = field(default=())
    departures: Mapping[Path, Sequence[Deviation]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How targets of a report are read.

    Attributes:
        runs_dir: Directory of runs.
        registry: What specs are resolved with.
        context: What components are built with; the contents of a spec's files decide its run's folder.
        overrides: `path=value` texts that the runs of a file were started with.
        only: Names of the runs that are wanted of a suite; empty = all.
        cwd: Folder that relative locations in `overrides` resolve against.
        scratch: Empty folder that packed runs are unpacked to; they are read from there as long as the report is made.
    """

    runs_dir: Path
    registry: Registry
    context: BuildContext
    overrides: Sequence[str] = ()
    only: Sequence[str] = ()
    cwd: Path = Path()
    scratch: Path | None = None


def collect(targets: Sequence[Path], reading: Reading) -> Collected:
    """Reads what `collm report` was asked about.

    Args:
        targets: Run folders (or their names in the directory of runs), spec files, suite files, packed runs; in any
            mixture.
        reading: How they are read.

    Raises:
        DataError: If a file that a spec names is missing; its run folder can be given instead.
        UsageError: If a target is neither a folder nor a file, or runs are chosen of what is not a suite.
        SpecError: If a file has problems.
        RunError: If a run folder is not finished or unreadable, or nothing is finished at all.
    """
    parts = [_of_target(target, reading) for target in targets]
    runs = [run for part in parts for run in part.runs]
    missing = tuple(each for part in parts for each in part.missing)
    if not runs:
        causes = "; ".join(f"{each.method}: {each.cause}" for each in missing)
        raise RunError(f"nothing is finished in {place_of(reading.runs_dir)}: {causes}")
    # The same run may be given twice, as a folder and in a zip.
    by_content: dict[tuple[str, str], ReportRun] = {}
    for run in runs:
        by_content.setdefault((run.path.name, file_digest(run.path / "results.json")), run)
    distinct = tuple(by_content.values())
    departures = {run.path: deviations(run.spec, run.results, reading.registry) for run in distinct}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Collected(" + ".join(dict.fromkeys(part.title for part in parts)), distinct, missing, departures, notes)


def _of_target(target: Path, reading: Reading) -> Collected:
    if is_packed(target):
        return _from_pack(target, reading)
    folder = target if target.is_dir() else reading.runs_dir / target
    if target.name == str(target) and not target.is_file():
        # Gets it where the directory of runs mirrors a store.
        RunFolder.at(folder).is_done()
    if folder.is_dir():
        if reading.only:
            raise UsageError(f"{ONLY}: chooses runs of a suite file, and {target} is one run's folder")
        run = read_run(folder, strict=False)
        return Collected(run.results.name, (run,))
    if target.is_file():
        loaded = load_any(target, reading.overrides, reading.registry, cwd=reading.cwd, only=reading.only)
        return _from_file(loaded, reading)
    raise UsageError(
        f"{target}: neither a run folder (here or in {place_of(reading.runs_dir)}) nor a YAML file nor packed runs; "
        "`collm runs` lists the runs"
    )


def _from_pack(target: Path, reading: Reading) -> Collected:
    if reading.only:
        raise UsageError(f"{ONLY}: chooses runs of a suite file, and {target} holds packed runs")
    if reading.scratch is None:
        raise UsageError(f"{target}: packed runs are read with a folder to unpack them to")
    packed = open_pack(target, reading.scratch)
    runs = []
    for each in packed.runs:
        with naming(each.path, each.place):
            run = read_run(each.path)
        runs.append(
            replace(run, method=each.method, place=each.place, linked=target if target.is_file() else each.path)
        )
    return Collected(packed.title, tuple(runs), notes=packed.notes)


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
    return ReportRun(results.run, results.seed, folder, results, place=folder, linked=folder)


def failure_of(folder: RunFolder) -> str:
    """Returns why a run is not finished, in one line."""
    if not folder.path.is_dir():
        return "not run yet"
    try:
        failures = [event for event in folder.events() if event["event"] == "run_failed"]
    except RunError as error:
        return str(error)
    return str(failures[-1]["error"]).splitlines()[0] if failures else "interrupted or still running"


def _from_file(loaded: Suite | ResolvedSpec, reading: Reading) -> Collected:
    def folder_of(spec: ResolvedSpec) -> RunFolder:
        return run_folder(spec, reading.registry, runs_dir=reading.runs_dir, context=reading.context)

    notes: tuple[str, ...] = ()
    if isinstance(loaded, Suite):
        if left_out := loaded.says_left_out():
            notes = (f"{left_out}. p (Holm) is corrected for the pairs shown here alone.",)
        members = {each.key: folder_of(each.spec) for each in loaded.runs}
        paths = {key: folder.path for key, folder in members.items()}
        folders = [(each.run, each.seed, members[each.key]) for each in loaded.runs]
        folders += [
            (each.run, each.seed, ensemble_folder(loaded.name, each, paths, runs_dir=reading.runs_dir))
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
    return Collected(loaded.name, tuple(runs), tuple(missing), notes=notes)
