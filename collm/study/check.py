"""A checked study: makes the spec of each point, and shows before the first trial that every value can validate."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from collm.component import BuildContext
from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.contents import spec_contents
from collm.spec.expand import keep_set
from collm.spec.model import ResolvedSpec
from collm.spec.node import Node, from_plain
from collm.spec.override import merge, set_at
from collm.spec.resolve import in_file_order, resolve_document
from collm.spec.sections import OF_PREQUENTIAL, EvaluateConfig
from collm.study.known_points import KnownPoint, read_known_points
from collm.study.space import Label, Parameter, Point, Space
from collm.study.study_file import SPLIT, StudyFile, unproduced

# Where a value fails with the first values of the others, this many other points are tried before it is refused.
_OTHER_POINTS = 32


@dataclass(frozen=True)
class CheckedStudy:
    """A study with what its trials are made of.

    A point that changes a component's `name` replaces that section whole, as a run of a suite does.

    Attributes:
        file: The study file, ranges typed like the fields that they fill.
        registry: Where components come from.
        context: What components are built with; the contents of their files are a part of a trial.
        known_points: What is tried first.
    """

    file: StudyFile
    registry: Registry
    context: BuildContext
    known_points: tuple[KnownPoint, ...] = ()

    def trial(self, point: Point) -> ResolvedSpec:
        """Returns what a trial runs: validation rows only, without intervals. Nothing else is scored or updated.

        Args:
            point: Names of parameters -> labels.

        Raises:
            SpecError: If the point does not validate.
            KeyError: If it does not belong to the space.
        """
        document = self._document(point)
        as_split = [(name, EvaluateConfig.model_fields[name].default) for name in OF_PREQUENTIAL]
        for field, value in [("splits", [SPLIT]), ("resamples", 0), ("ranking", None), *as_split]:
            place = document.nearest(("evaluate", field)).place
            document = set_at(document, ("evaluate", field), from_plain(value, place))
        return resolve_document(document, self.registry)

    def whole(self, point: Point) -> ResolvedSpec:
        """Returns the spec with the evaluation of the base, test rows included; raises as `trial`."""
        return resolve_document(self._document(point), self.registry)

    def contents(self, spec: ResolvedSpec) -> dict[str, str]:
        """Returns field -> digest of every place that a trial's spec names.

        Raises:
            DataError: If files are missing.
        """
        return spec_contents(spec, self.registry, self.context)

    def _document(self, point: Point) -> Node:
        """The base with a point written into it, each value placed where the study file has it."""
        base = self.file.base
        over = Node({}, base.place)
        for parameter, label in self.file.space.active(point):
            over = set_at(over, parameter.parts, parameter.node(label))
        merged = keep_set(base, merge(base, replace(over, key_place=None)), self.registry)
        return merged.with_fields({**merged.fields, "name": from_plain(self.file.name, base.place)})


def check_study(file: StudyFile, registry: Registry, context: BuildContext | None = None) -> CheckedStudy:
    """Resolves the spec at every choice and at both ends of every range.

    Args:
        file: The study file.
        registry: What is installed.
        context: What components are built with; None = without a cache.

    Raises:
        SpecError: With every unknown path, value out of bounds, choice or enqueued point that cannot validate, and
            objective that the run does not produce, placed in the study file or its base.
    """
    study = CheckedStudy(file, registry, context or BuildContext(cache_dir=file.base.place.folder, find=registry.get))
    problems: list[Problem] = []
    decimal: set[str] = set()
    for parameter, label, chosen in _probes(file.space):
        try:
            spec = study.trial(file.space.first(chosen))
        except SpecError as error:
            if not _fits_elsewhere(study, chosen):
                problems.extend(_own(error, file))
            continue
        value = flat(spec.plain()).get(parameter.path)
        if parameter.span is not None and isinstance(value, float) and not isinstance(label, bool):
            decimal.add(parameter.name)
    if not problems:
        problems = _objective_problems(study)
    if problems:
        raise SpecError(in_file_order(problems))
    study = replace(study, file=replace(file, space=file.space.with_numbers(frozenset(decimal))))
    known = read_known_points(study.file, problems)
    problems += [problem for each in known for problem in _known_point_problems(study, each)]
    if problems:
        raise SpecError(in_file_order(problems))
    return replace(study, known_points=known)


def probed_specs(study: CheckedStudy) -> Iterator[ResolvedSpec]:
    """Yields the spec at every value of the search space that validates with the first values of the others."""
    space = study.file.space
    yield study.trial(space.first())
    for _, _, chosen in _probes(space):
        try:
            yield study.trial(space.first(chosen))
        except SpecError:
            continue


def _probes(space: Space) -> Iterator[tuple[Parameter, Label, dict[str, Any]]]:
    """Every value once, with the choices above it that make it exist."""
    if all(parameter.fixed for parameter in space.parameters):
        return
    yield from _probes_of(space.parameters, {})


def _probes_of(
    parameters: tuple[Parameter, ...], above: dict[str, Any]
) -> Iterator[tuple[Parameter, Label, dict[str, Any]]]:
    for parameter in parameters:
        if parameter.span is not None:
            for end in (parameter.span.low, parameter.span.high):
                label: Any = end.value
                yield parameter, label, {**above, parameter.name: label}
        for choice in parameter.choices:
            chosen = above if parameter.fixed else {**above, parameter.name: choice.label}
            yield parameter, choice.label, chosen
            yield from _probes_of(choice.group, chosen)


def _fits_elsewhere(study: CheckedStudy, chosen: Point) -> bool:
    generator, space = random.Random(0), study.file.space
    for _ in range(_OTHER_POINTS):
        try:
            study.trial(space.first({**_drawn(space, generator), **chosen}))
        except SpecError:
            continue
        return True
    return False


def _drawn(space: Space, generator: random.Random) -> dict[str, Any]:
    return {
        each.name: generator.choice([end.value for end in (each.span.low, each.span.high)])
        if each.span is not None
        else generator.choice([choice.label for choice in each.choices])
        for each in space.all()
    }


def _known_point_problems(study: CheckedStudy, known: KnownPoint) -> list[Problem]:
    try:
        study.trial(study.file.space.first(known.point))
    except SpecError as error:
        if known.whole or not _fits_elsewhere(study, known.point):
            message = f"the point does not validate: {str(error).splitlines()[0]}"
            return [known.node.place.problem(message, known.at)]
    return []


def _own(error: SpecError, file: StudyFile) -> list[Problem]:
    """Places a problem of a searched value under its key of the study file."""
    here = file.place.file
    return [_own_problem(problem, file.space) if problem.file == here else problem for problem in error.problems]


def _own_problem(problem: Problem, space: Space) -> Problem:
    for each in space.all():
        if problem.path == each.path or problem.path.startswith((f"{each.path}.", f"{each.path}[")):
            return replace(problem, path=f"study.search.{problem.path}")
        if each.path.startswith(f"{problem.path}.") and problem.line in _lines(each):
            # A part of the path that does not exist: one problem at the key, not one at each value.
            at = f"study.search.{each.path}"
            return replace(problem, path=at, line=each.place.line, column=each.place.column)
    return problem


def _lines(parameter: Parameter) -> set[int | None]:
    values = [choice.node for choice in parameter.choices]
    if parameter.span is not None:
        values += [parameter.span.low, parameter.span.high]
    return {node.place.line for node in values}


def _objective_problems(study: CheckedStudy) -> list[Problem]:
    try:
        spec = study.whole(study.file.space.first())
    except SpecError:
        return []
    return unproduced(study.file, spec)


def flat(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested plain data as dotted paths; lists count as one value."""
    if isinstance(plain, dict) and plain:
        found: dict[str, Any] = {}
        for key, value in plain.items():
            found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: plain}
