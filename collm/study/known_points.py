"""Points that a study file puts first (`study.enqueue`), read against the search space; every mistake located."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from collm.errors import Problem
from collm.spec.node import Node
from collm.spec.problems import nearest, unknown_key
from collm.study.records import ENQUEUED
from collm.study.space import Label, Parameter, Space, label_of
from collm.study.study_file import StudyFile

_MOST_SHOWN = 12
_KIND = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "NoneType": "null"}


@dataclass(frozen=True)
class KnownPoint:
    """One entry of `study.enqueue`.

    Attributes:
        node: As written.
        at: Its path in the file, e.g. `study.enqueue[0]`.
        point: Names of parameters -> labels; the sampler chooses what it lacks.
        whole: Whether it lacks nothing.
    """

    node: Node
    at: str
    point: Mapping[str, Any]
    whole: bool

    @property
    def key(self) -> str:
        """What tells it from other points in the storage, whatever its place in the file."""
        return json.dumps(self.point, sort_keys=True)


def read_known_points(file: StudyFile, problems: list[Problem]) -> tuple[KnownPoint, ...]:
    """Reads `study.enqueue`.

    Args:
        file: The study file, ranges typed like the fields that they fill.
        problems: Takes what is wrong.
    """
    listed = file.node.fields.get("enqueue")
    entries = listed.value if listed is not None and isinstance(listed.value, tuple) else ()
    found: dict[str, KnownPoint] = {}
    for number, node in enumerate(entries):
        reader = _Reader(node, f"study.enqueue[{number}]", file.space, problems)
        known = reader.read(need_all="every-point" in file.needs)
        if known is None:
            continue
        if (first := found.get(known.key)) is not None:
            problems.append(node.place.problem(f"is the point of line {first.node.place.line} again", known.at))
        found.setdefault(known.key, known)
    trials = file.section.trials
    if listed is not None and trials is not None and len(entries) > trials:
        message = f"holds {len(entries)} points, but study.trials is {trials}: raise it, or leave points out"
        problems.append(listed.place.problem(message, "study.enqueue"))
    return tuple(found.values())


def untried(points: Sequence[KnownPoint], trials: Sequence[FrozenTrial]) -> list[KnownPoint]:
    """Returns the points that no trial has begun and whose values no complete trial has."""
    begun = {trial.user_attrs.get(ENQUEUED) for trial in trials}
    complete = [trial.params for trial in trials if trial.state == TrialState.COMPLETE]
    return [each for each in points if each.key not in begun and each.point not in complete]


def untried_note(points: Sequence[KnownPoint], trials: Sequence[FrozenTrial], *, n_trials: int) -> str:
    """Returns a sentence on points that no trial is left for; empty without.

    Args:
        points: Those of `study.enqueue`.
        trials: The study's trials.
        n_trials: Trials that the study has at most.
    """
    drawn = [trial.params for trial in trials]
    places = [known.at for known in untried(points, trials) if known.point not in drawn]
    if not places or len(trials) < n_trials:
        return ""
    return (
        f"{len(places)} of {len(points)} points of study.enqueue are not tried, since all {n_trials} trials are begun: "
        f"{', '.join(places)}; to try them, raise study.trials by {len(places)}"
    )


@dataclass
class _Reader:
    """Reads one point along the groups that it chooses."""

    node: Node
    at: str
    space: Space
    problems: list[Problem]
    point: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    def read(self, *, need_all: bool) -> KnownPoint | None:
        """Returns the point, None where it has problems."""
        n_before = len(self.problems)
        if not self.node.fields:
            self._complain(self.node, "holds no value: map at least one searched path to its value", self.at)
            return None
        self._walk(self.space.parameters)
        # Below a value that is wrong nothing is known to exist.
        if len(self.problems) == n_before:
            for key in self.node.fields.keys() - self.used:
                self._complain(self.node.fields[key], self._unused(key), f"{self.at}.{key}")
        if need_all and self.missing and len(self.problems) == n_before:
            self._complain(self.node, f"a grid needs whole points; it lacks {', '.join(self.missing)}", self.at)
        if len(self.problems) > n_before:
            return None
        return KnownPoint(self.node, self.at, self.point, whole=not self.missing)

    def _walk(self, parameters: tuple[Parameter, ...]) -> None:
        for parameter in parameters:
            key = parameter.name if parameter.name in self.node.fields else parameter.path
            written = self.node.fields.get(key)
            label: Label = parameter.first
            if written is not None:
                self.used.add(key)
                fault, label = _label(parameter, written)
                if fault:
                    self._complain(written, f"got {written.shown()}, {fault}", f"{self.at}.{key}")
                    continue
                if not parameter.fixed:
                    self.point[parameter.name] = label
            elif not parameter.fixed:
                self.missing.append(parameter.path)
                continue
            if parameter.choices:
                self._walk(parameter.choice(label).group)

    def _unused(self, key: str) -> str:
        above = [f"'{name}' is {label}" for path, name, label in _groups(self.space.parameters) if key in path]
        if above:
            return f"exists only where {' or '.join(dict.fromkeys(above))}; the point must say so, or leave this out"
        paths = list(dict.fromkeys(each.path for each in self.space.all()))
        return unknown_key(key, paths, what="searched path")

    def _complain(self, node: Node, message: str, path: str) -> None:
        self.problems.append(node.place.problem(message, path))


def _groups(parameters: tuple[Parameter, ...]) -> Iterator[tuple[tuple[str, str], str, Label]]:
    """Yields path and name of every parameter in a group, with the choice that it exists under."""
    for parameter in parameters:
        for choice in parameter.choices:
            yield from (((each.path, each.name), parameter.path, choice.label) for each in choice.group)
            yield from _groups(choice.group)


def _label(parameter: Parameter, node: Node) -> tuple[str, Label]:
    """Returns what is wrong with a written value, empty where it lies in the space, and its label."""
    value = node.plain()
    if parameter.span is None:
        try:
            return "", parameter.choice(label_of(value)).label
        except KeyError:
            known = [str(choice.label) for choice in parameter.choices]
            if str(value) in known:
                labels = {
                    type(choice.label).__name__ for choice in parameter.choices if str(choice.label) == str(value)
                }
                return f"must be {_KIND[labels.pop()]}, not {_KIND[type(value).__name__]}", None
            shown = ", ".join(known[:_MOST_SHOWN]) + (", ..." if len(known) > _MOST_SHOWN else "")
            return f"must be one of: {shown}{nearest(str(value), known).rstrip('?') if known else ''}", None
    low, high = parameter.span.ends
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number", None
    if not low <= value <= high:
        return f"must be from {low} to {high}", None
    if parameter.span.whole and value != int(value):
        return "must be a whole number", None
    label = int(value) if parameter.span.whole else float(value)
    drawn = parameter.distribution()
    if not drawn._contains(drawn.to_internal_repr(label)):
        return f"must be {low} plus whole steps of {parameter.span.step}", None
    return "", label
