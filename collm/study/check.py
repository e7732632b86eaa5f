"""Asks before the first trial whether every value of the search space can validate and every objective is produced."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from collm.component import BuildContext
from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import in_file_order
from collm.study.objective import produced_problems
from collm.study.space import Label, Parameter, Point, Space
from collm.study.study_file import StudyFile
from collm.study.trial_spec import TrialSpecs, flat

# Where a value fails beside the first values of the others, this many other points are tried before it is refused.
_OTHER_POINTS = 32


@dataclass(frozen=True)
class CheckedStudy:
    """A study whose every value can validate.

    Attributes:
        file: The study file, ranges typed like the fields that they fill.
        specs: Makes specs of its points.
    """

    file: StudyFile
    specs: TrialSpecs


def check_study(file: StudyFile, registry: Registry, context: BuildContext | None = None) -> CheckedStudy:
    """Resolves the spec at every choice and at both ends of every range.

    Args:
        file: The study file.
        registry: What is installed.
        context: What components are built with; None = without a cache.

    Raises:
        SpecError: With every unknown path, value out of bounds, choice that cannot validate, and objective that the run
            does not produce, placed in the study file or its base.
    """
    context = context or BuildContext(cache_dir=file.base.place.folder, find=registry.get)
    specs = TrialSpecs(file.name, file.base, file.space, registry, context)
    problems: list[Problem] = []
    decimal: set[str] = set()
    for parameter, label, chosen in _probes(file.space):
        point = file.space.first(chosen)
        try:
            spec = specs.trial(point)
        except SpecError as error:
            if not _fits_elsewhere(specs, chosen):
                problems.extend(_own(error, file))
            continue
        value = flat(spec.plain()).get(parameter.path)
        if parameter.span is not None and isinstance(value, float) and not isinstance(label, bool):
            decimal.add(parameter.name)
    if not problems:
        problems.extend(_objective_problems(specs, file))
    if problems:
        raise SpecError(in_file_order(problems))
    space = file.space.with_numbers(frozenset(decimal))
    return CheckedStudy(replace(file, space=space), replace(specs, space=space))


def probed_specs(checked: CheckedStudy) -> Iterator[ResolvedSpec]:
    """Yields the spec at every value of the search space that validates beside the first values of the others.

    Args:
        checked: The study.
    """
    yield checked.specs.trial(checked.file.space.first())
    for _, _, chosen in _probes(checked.file.space):
        try:
            yield checked.specs.trial(checked.file.space.first(chosen))
        except SpecError:
            continue


def _probes(space: Space) -> Iterator[tuple[Parameter, Label, dict[str, Any]]]:
    """Every value once, with the choices above it that make it exist."""
    if not any(not parameter.fixed for parameter in space.parameters):
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


def _fits_elsewhere(specs: TrialSpecs, chosen: Point) -> bool:
    generator = random.Random(0)
    for _ in range(_OTHER_POINTS):
        point = specs.space.first({**_drawn(specs.space, generator), **chosen})
        try:
            specs.trial(point)
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


def _own(error: SpecError, file: StudyFile) -> list[Problem]:
    """Says under which key of the study file a problem of a searched value stands."""
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


def _objective_problems(specs: TrialSpecs, file: StudyFile) -> list[Problem]:
    try:
        spec = specs.trial(file.space.first())
    except SpecError:
        return []
    return produced_problems(file.objectives, spec, file.node)
