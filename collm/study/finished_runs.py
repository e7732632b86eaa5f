"""Finished runs as trials of a study (`study.from_runs`): those whose settings and files are a point of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState, create_trial

from collm.errors import CollmError, Problem, SpecError
from collm.finished import input_hashes
from collm.runs.records import RunResults
from collm.runs.store import RunFolder
from collm.spec.contents import hash_with
from collm.spec.model import ResolvedSpec
from collm.spec.read import read_file
from collm.spec.resolve import resolve_document
from collm.spec.sections import OF_PREQUENTIAL
from collm.study import records
from collm.study.check import CheckedStudy, flat
from collm.study.space import Label, Parameter, label_of
from collm.study.storage import StudyStorage

SPEC_FILE = "spec.yaml"
# A trial scores validation rows without intervals; neither changes a value on them.
_NOT_COMPARED = ("name", "evaluate.splits", "evaluate.resamples")
_SHOWN = 3


class _NotATrial(Exception):
    """Why a run is not a trial of the study."""


@dataclass(frozen=True)
class TakenIn:
    """What became of the runs of `study.from_runs`.

    Attributes:
        taken: Folders that became trials now.
        known: Folders whose point the study has already.
        refused: Folder -> why it is not a trial of this study.
    """

    taken: tuple[Path, ...]
    known: tuple[Path, ...]
    refused: Mapping[Path, str]

    def lines(self) -> list[str]:
        """Returns what to tell the user; nothing where nothing is new."""
        if not self.taken and not self.refused:
            return []
        head = f"{len(self.taken)} finished runs taken in as trials"
        if self.known:
            head += f", {len(self.known)} are trials already"
        by_reason: dict[str, list[str]] = {}
        for folder, reason in self.refused.items():
            by_reason.setdefault(reason, []).append(folder.name)
        return [head, *(f"not taken in: {', '.join(names)}: {reason}" for reason, names in by_reason.items())]


def run_folders(checked: CheckedStudy) -> list[Path]:
    """Returns the run folders that `study.from_runs` names.

    Raises:
        SpecError: If a place does not exist or holds no run.
    """
    found: dict[Path, None] = {}
    problems: list[Problem] = []
    for number, path in enumerate(checked.file.section.from_runs):
        below = [path] if (path / SPEC_FILE).is_file() else []
        if not below and path.is_dir():
            below = sorted(each for each in path.iterdir() if (each / SPEC_FILE).is_file())
        if not below:
            what = f"holds no run folder (a folder with {SPEC_FILE})" if path.exists() else "no such folder"
            node = checked.file.node.nearest(("from_runs", number))
            problems.append(node.place.problem(f"'{path}': {what}", f"study.from_runs[{number}]"))
        found |= dict.fromkeys(below)
    if problems:
        raise SpecError(problems)
    return list(found)


def take_in(checked: CheckedStudy, storage: StudyStorage, study: Study) -> TakenIn:
    """Adds a complete trial for every finished run that is a point of the study and not in it yet.

    Raises:
        SpecError: If a place of `study.from_runs` does not exist or holds no run.
    """
    taken: list[Path] = []
    known: list[Path] = []
    refused: dict[Path, str] = {}
    for folder in run_folders(checked):
        try:
            run = _read_run(checked, folder)
        except (_NotATrial, CollmError) as error:
            refused[folder] = str(error).splitlines()[0]
            continue
        with storage.lock(checked.file.name):
            if records.same_spec(study.get_trials(deepcopy=False), run.identity, -1) is not None:
                known.append(folder)
                continue
            study.add_trial(run.trial(checked))
            taken.append(folder)
    return TakenIn(tuple(taken), tuple(known), refused)


@dataclass(frozen=True)
class _Run:
    """A finished run that is a point of the study."""

    folder: Path
    point: Mapping[str, Any]
    identity: str
    values: tuple[float, ...]
    results: RunResults

    def trial(self, checked: CheckedStudy) -> Any:
        """Returns the run as a complete trial."""
        timing = self.results.timing.items()
        stages = {
            name: {"seconds": each.seconds, "reused": each.reused, "work_seconds": each.work_seconds}
            for name, each in timing
        }
        return create_trial(
            state=TrialState.COMPLETE,
            values=list(self.values),
            params=dict(self.point),
            distributions=distributions(checked, self.point),
            user_attrs={
                records.RUN_DIR: str(self.folder),
                records.STAGES: stages,
                records.TAKEN_FROM: str(self.folder),
                records.SPEC_HASH: self.identity,
                # It was not begun here.
                records.ATTEMPTS: 0,
            },
        )


def distributions(checked: CheckedStudy, point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns Optuna's distribution of every parameter that exists at a point."""
    active = checked.file.space.active(point)
    return {parameter.name: parameter.distribution() for parameter, _ in active if not parameter.fixed}


def _read_run(checked: CheckedStudy, folder: Path) -> _Run:
    stored = RunFolder.at(folder)
    if not stored.is_done():
        raise _NotATrial("it is not finished")
    if fault := stored.damage():
        raise _NotATrial(fault)
    try:
        spec = resolve_document(read_file(folder / SPEC_FILE), checked.registry)
    except SpecError as error:
        raise _NotATrial(f"its spec does not validate here: {error.problems[0].message}") from error
    point = _point_of(checked, spec)
    trial = checked.trial(point)
    alike = _ranking_as(trial, spec)
    if differences := _differences(alike, spec):
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise _NotATrial(f"it differs from the base: {'; '.join(differences[:_SHOWN])}{more}")
    results = stored.results()
    now = input_hashes(alike, checked.registry, checked.context)
    if changed := sorted(key for key in {*now, *results.inputs} if now.get(key) != results.inputs.get(key)):
        raise _NotATrial(f"it was made with other contents of {', '.join(changed)}")
    return _Run(folder, point, hash_with(trial, checked.contents(trial)), _values(checked, results), results)


def _ranking_as(trial: ResolvedSpec, spec: ResolvedSpec) -> ResolvedSpec:
    """Returns a trial that ranks and updates as a finished run did: neither changes a value on validation rows."""
    evaluate = trial.evaluate.model_copy(
        update={name: getattr(spec.evaluate, name) for name in ("ranking", *OF_PREQUENTIAL)}
    )
    return replace(trial, evaluate=evaluate)


def _values(checked: CheckedStudy, results: RunResults) -> tuple[float, ...]:
    found = []
    for objective in checked.file.objectives:
        try:
            found.append(objective.value(results))
        except KeyError as error:
            raise _NotATrial(f"it did not measure {objective.text} ({error} is missing)") from error
        except ValueError as error:
            raise _NotATrial(str(error)) from error
    return tuple(found)


def _point_of(checked: CheckedStudy, spec: ResolvedSpec) -> dict[str, Any]:
    """Returns the point of the search space that a spec lies at."""
    plain = spec.plain()
    point: dict[str, Any] = {}
    for parameter, label in _labels(checked.file.space.parameters, plain):
        if not parameter.fixed:
            point[parameter.name] = label
    if not checked.file.space.contains(point):
        shown = ", ".join(f"{name} {value}" for name, value in point.items())
        raise _NotATrial(f"it lies outside of the search space: {shown}")
    return point


def _labels(parameters: tuple[Parameter, ...], plain: Mapping[str, Any]) -> Iterator[tuple[Parameter, Label]]:
    for parameter in parameters:
        value: Any = plain
        for part in parameter.parts:
            if not isinstance(value, Mapping) or part not in value:
                raise _NotATrial(f"its spec has no {parameter.path}")
            value = value[part]
        label = _label(parameter, value)
        yield parameter, label
        if parameter.choices:
            yield from _labels(parameter.choice(label).group, plain)


def _label(parameter: Parameter, value: Any) -> Label:
    """Returns the label of a resolved value; a location is written relative to the study file."""
    if parameter.span is not None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number:
            raise _NotATrial(f"{parameter.path} is {value!r}, the search has numbers")
        return int(value) if parameter.span.whole and value == int(value) else value
    for choice in parameter.choices:
        written = choice.node.plain()
        if label_of(written) == label_of(value) and isinstance(written, bool) == isinstance(value, bool):
            return choice.label
        if isinstance(written, str) and os.path.abspath(choice.node.place.folder / written) == str(value):
            return choice.label
    raise _NotATrial(f"{parameter.path} is {value}, which the search does not have")


def _differences(trial: ResolvedSpec, spec: ResolvedSpec) -> list[str]:
    wanted, found = (flat(each.plain(locations=False)) for each in (trial, spec))
    paths = [path for path in {**wanted, **found} if path not in _NOT_COMPARED]
    return [
        f"{path}: {found.get(path)} there, {wanted.get(path)} here"
        for path in paths
        if wanted.get(path) != found.get(path)
    ]
