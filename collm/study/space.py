"""The search space: parameters with their places in the study file, conditional groups, points and assignments.

A point is a mapping of parameter names to labels, as Optuna stores it; a label stands for one value of the file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from collm.spec.node import Node, Place

Label = str | int | float | bool | None
Point = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """One value that a parameter may take.

    Attributes:
        label: What Optuna stores: a scalar as it is, a list or mapping as JSON text.
        node: The value as written.
        group: Parameters that exist only where this choice is taken.
    """

    label: Label
    node: Node
    group: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Span:
    """A range of numbers, both ends included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Distance between values; None = any number (any whole number where `whole`).
        log: Whether magnitudes are drawn evenly.
        whole: Whether only whole numbers are drawn.
    """

    low: Node
    high: Node
    step: float | None
    log: bool
    whole: bool


@dataclass(frozen=True)
class Parameter:
    """One searched field.

    Attributes:
        name: Name in Optuna: the path, with `@choice` behind it inside a conditional group.
        path: Dotted path of the field.
        parts: The path in parts.
        place: Where its key stands.
        choices: Its values; empty for a range. A fixed value is one choice.
        span: Its range; None with choices.
    """

    name: str
    path: str
    parts: tuple[str, ...]
    place: Place
    choices: tuple[Choice, ...] = ()
    span: Span | None = None

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose: such a parameter is not shown to Optuna."""
        return len(self.choices) == 1

    def distribution(self) -> BaseDistribution:
        """Returns the parameter as Optuna's distribution."""
        if self.span is None:
            return CategoricalDistribution([choice.label for choice in self.choices])
        low, high = self.span.low.value, self.span.high.value
        assert isinstance(low, int | float) and isinstance(high, int | float)
        if self.span.whole:
            return IntDistribution(int(low), int(high), log=self.span.log, step=int(self.span.step or 1))
        return FloatDistribution(float(low), float(high), log=self.span.log, step=self.span.step)

    def choice(self, label: Label) -> Choice:
        """Returns the choice of a label.

        Raises:
            KeyError: If there is none.
        """
        for choice in self.choices:
            if choice.label == label and isinstance(choice.label, bool) == isinstance(label, bool):
                return choice
        raise KeyError(f"{self.name}: {label!r}")

    def n_values(self) -> int | None:
        """Returns how many values there are, None for a range without steps."""
        if self.span is None:
            return len(self.choices)
        if self.span.log or (self.span.step is None and not self.span.whole):
            return None
        low, high, step = float(self.span.low.value), float(self.span.high.value), self.span.step or 1  # type: ignore[arg-type]
        return math.floor((high - low) / step + 1e-9) + 1

    def values(self) -> list[Label] | None:
        """Returns every value in order, None for a range without steps."""
        if self.span is None:
            return [choice.label for choice in self.choices]
        count = self.n_values()
        if count is None:
            return None
        low, step = float(self.span.low.value), self.span.step or 1  # type: ignore[arg-type]
        drawn = [low + index * step for index in range(count)]
        return [int(value) for value in drawn] if self.span.whole else list(drawn)


@dataclass(frozen=True)
class Space:
    """All parameters of a study, in the order of the file."""

    parameters: tuple[Parameter, ...]

    @property
    def conditional(self) -> bool:
        """Whether some parameters exist only under a choice of another."""
        return any(choice.group for parameter in self.all() for choice in parameter.choices)

    def all(self) -> Iterator[Parameter]:
        """Yields every parameter, those of groups included."""
        yield from _below(self.parameters)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Lets a trial choose a value of every parameter that exists for it; chosen ones stay.

        Args:
            trial: A running trial.

        Returns:
            The point.
        """
        return dict(_suggest(self.parameters, trial))

    def active(self, point: Point) -> Iterator[tuple[Parameter, Label]]:
        """Yields the parameters that exist at a point with their labels, fixed ones included.

        Raises:
            KeyError: If the point lacks one, or has a label that does not exist.
        """
        yield from _active(self.parameters, point)

    def assignments(self, point: Point) -> list[tuple[Parameter, Node]]:
        """Returns what a point writes into the spec.

        Raises:
            KeyError: As `active`.
        """
        return [(parameter, _node(parameter, label)) for parameter, label in self.active(point)]

    def first(self, chosen: Point | None = None) -> dict[str, Any]:
        """Returns the point of all first values and low ends.

        Args:
            chosen: Values that are taken instead, by name.
        """
        return dict(_first(self.parameters, chosen or {}))

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields every point of a space without ranges and groups, the last parameter fastest."""
        searched = [parameter for parameter in self.parameters if not parameter.fixed]
        for labels in itertools.product(*(parameter.values() or [] for parameter in searched)):
            yield {parameter.name: label for parameter, label in zip(searched, labels, strict=True)}

    def contains(self, point: Point) -> bool:
        """Whether a point lies in the space, with neither more nor fewer names."""
        try:
            active = {parameter.name: parameter for parameter, _ in self.active(point) if not parameter.fixed}
        except KeyError:
            return False
        if set(active) != set(point):
            return False
        for name, parameter in active.items():
            distribution = parameter.distribution()
            try:
                if not distribution._contains(distribution.to_internal_repr(point[name])):
                    return False
            except (ValueError, TypeError):
                return False
        return True

    def describe(self) -> dict[str, Any]:
        """Returns the space as plain data, for comparing it with a stored one."""
        return {parameter.name: _described(parameter) for parameter in self.all()}

    def with_numbers(self, decimal: frozenset[str]) -> Space:
        """Returns the space with the ranges of the named parameters drawn as decimal numbers.

        Args:
            decimal: Names of parameters whose field holds a decimal number, however the ends are written.
        """
        return Space(_retyped(self.parameters, decimal))


def label_of(value: Any) -> Label:
    """Returns what Optuna stores for a value: a scalar as it is, a list or mapping as JSON text."""
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    label: Label = value
    return label


def _below(parameters: tuple[Parameter, ...]) -> Iterator[Parameter]:
    for parameter in parameters:
        yield parameter
        for choice in parameter.choices:
            yield from _below(choice.group)


def _suggest(parameters: tuple[Parameter, ...], trial: Trial) -> Iterator[tuple[str, Any]]:
    for parameter in parameters:
        if parameter.fixed:
            yield from _suggest(parameter.choices[0].group, trial)
            continue
        distribution = parameter.distribution()
        if isinstance(distribution, CategoricalDistribution):
            label = trial.suggest_categorical(parameter.name, distribution.choices)
            yield parameter.name, label
            yield from _suggest(parameter.choice(label).group, trial)
        elif isinstance(distribution, IntDistribution):
            low, high, step = distribution.low, distribution.high, distribution.step
            yield parameter.name, trial.suggest_int(parameter.name, low, high, step=step, log=distribution.log)
        else:
            assert isinstance(distribution, FloatDistribution)
            low, high, size = distribution.low, distribution.high, distribution.step
            yield parameter.name, trial.suggest_float(parameter.name, low, high, step=size, log=distribution.log)


def _active(parameters: tuple[Parameter, ...], point: Point) -> Iterator[tuple[Parameter, Label]]:
    for parameter in parameters:
        label = parameter.choices[0].label if parameter.fixed else point[parameter.name]
        yield parameter, label
        if parameter.choices:
            yield from _active(parameter.choice(label).group, point)


def _first(parameters: tuple[Parameter, ...], chosen: Point) -> Iterator[tuple[str, Any]]:
    for parameter in parameters:
        label: Any = parameter.span.low.value if parameter.span else parameter.choices[0].label
        label = chosen.get(parameter.name, label)
        if not parameter.fixed:
            yield parameter.name, label
        if parameter.choices:
            yield from _first(parameter.choice(label).group, chosen)


def _node(parameter: Parameter, label: Label) -> Node:
    if parameter.choices:
        return replace(parameter.choice(label).node, key_place=parameter.place)
    assert parameter.span is not None
    for end in (parameter.span.low, parameter.span.high):
        if label == end.value:
            return replace(end, key_place=parameter.place)
    return Node(label, parameter.place, key_place=parameter.place, raw=str(label))


def _described(parameter: Parameter) -> Any:
    if parameter.span is None:
        return {"choices": [choice.label for choice in parameter.choices]}
    span = parameter.span
    described = {"low": span.low.value, "high": span.high.value, "log": span.log, "step": span.step}
    return described | {"whole": span.whole}


def _retyped(parameters: tuple[Parameter, ...], decimal: frozenset[str]) -> tuple[Parameter, ...]:
    return tuple(
        replace(
            each,
            span=replace(each.span, whole=False) if each.span is not None and each.name in decimal else each.span,
            choices=tuple(replace(choice, group=_retyped(choice.group, decimal)) for choice in each.choices),
        )
        for each in parameters
    )
