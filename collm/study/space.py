"""The search space: parameters with their places in the study file, conditional groups, points and assignments.

A point is a mapping of parameter names to labels, as Optuna stores it; a label stands for one value of the file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
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

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends as numbers; whole ones stay whole."""
        low, high = self.low.value, self.high.value
        assert isinstance(low, int | float) and isinstance(high, int | float)
        return low, high


@dataclass(frozen=True)
class Parameter:
    """One searched field.

    Attributes:
        name: Name in Optuna: the path, with `@choice` behind it inside a conditional group.
        path: Dotted path of the field.
        parts: The path in parts.
        place: Where its key is written.
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
        """Whether there is one value only: such a parameter is not shown to Optuna."""
        return len(self.choices) == 1

    @property
    def first(self) -> Label:
        """The first choice or the low end."""
        return self.span.ends[0] if self.span is not None else self.choices[0].label

    def distribution(self) -> BaseDistribution:
        """Returns the parameter as Optuna's distribution."""
        if self.span is None:
            return CategoricalDistribution([choice.label for choice in self.choices])
        low, high = self.span.ends
        if self.span.whole:
            return IntDistribution(int(low), int(high), log=self.span.log, step=int(self.span.step or 1))
        return FloatDistribution(float(low), float(high), log=self.span.log, step=self.span.step)

    def suggest(self, trial: Trial) -> Label:
        """Lets a trial choose a value; a chosen one stays."""
        drawn = self.distribution()
        if isinstance(drawn, CategoricalDistribution):
            label: Label = trial.suggest_categorical(self.name, drawn.choices)
            return label
        suggest = trial.suggest_int if isinstance(drawn, IntDistribution) else trial.suggest_float
        number: float = suggest(self.name, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
        return number

    def choice(self, label: Label) -> Choice:
        """Returns the choice of a label.

        Raises:
            KeyError: If there is none.
        """
        for choice in self.choices:
            if choice.label == label and isinstance(choice.label, bool) == isinstance(label, bool):
                return choice
        raise KeyError(f"{self.name}: {label!r}")

    def node(self, label: Label) -> Node:
        """Returns the value of a label with its place in the study file.

        Raises:
            KeyError: If there is none.
        """
        if self.span is None:
            return replace(self.choice(label).node, key_place=self.place)
        for end in (self.span.low, self.span.high):
            if label == end.value:
                return replace(end, key_place=self.place)
        return Node(label, self.place, key_place=self.place, raw=str(label))

    def n_values(self) -> int | None:
        """Returns how many values there are, None for a range without steps."""
        if self.span is None:
            return len(self.choices)
        if self.span.log or (self.span.step is None and not self.span.whole):
            return None
        low, high = self.span.ends
        return math.floor((high - low) / (self.span.step or 1) + 1e-9) + 1

    def values(self) -> list[Label] | None:
        """Returns every value in order, None for a range without steps."""
        if self.span is None:
            return [choice.label for choice in self.choices]
        count = self.n_values()
        if count is None:
            return None
        low, step = self.span.ends[0], self.span.step or 1
        number = int if self.span.whole else float
        return [number(low + index * step) for index in range(count)]

    def described(self) -> dict[str, Any]:
        """Returns the values as plain data, for comparing them with stored ones."""
        if self.span is None:
            return {"choices": [choice.label for choice in self.choices]}
        span = self.span
        return {"low": span.low.value, "high": span.high.value, "log": span.log, "step": span.step, "whole": span.whole}


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

    def ranges(self) -> list[Parameter]:
        """Returns the ranges outside of conditional groups."""
        return [parameter for parameter in self.parameters if parameter.span is not None]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Lets a running trial choose a value of every parameter that exists for it; returns the point."""
        return self._point(lambda parameter: parameter.suggest(trial))

    def first(self, chosen: Point | None = None) -> dict[str, Any]:
        """Returns the point of all first values and low ends, but for the chosen values of some names."""
        return self._point(lambda parameter: (chosen or {}).get(parameter.name, parameter.first))

    def active(self, point: Point) -> Iterator[tuple[Parameter, Label]]:
        """Yields the parameters that exist at a point with their labels, fixed ones included.

        Raises:
            KeyError: If the point lacks one, or has a label that does not exist.
        """
        yield from _walk(self.parameters, lambda parameter: point[parameter.name])

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
        return {parameter.name: parameter.described() for parameter in self.all()}

    def with_numbers(self, decimal: frozenset[str]) -> Space:
        """Returns the space with the ranges of these names drawn as decimal numbers, however their ends are written."""
        return Space(_retyped(self.parameters, decimal))

    def _point(self, choose: Callable[[Parameter], Label]) -> dict[str, Any]:
        return {parameter.name: label for parameter, label in _walk(self.parameters, choose) if not parameter.fixed}


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


def _walk(parameters: tuple[Parameter, ...], choose: Callable[[Parameter], Label]) -> Iterator[tuple[Parameter, Label]]:
    """Yields the parameters that exist where each one that is not fixed has the chosen label."""
    for parameter in parameters:
        label = parameter.first if parameter.fixed else choose(parameter)
        yield parameter, label
        if parameter.choices:
            yield from _walk(parameter.choice(label).group, choose)


def _retyped(parameters: tuple[Parameter, ...], decimal: frozenset[str]) -> tuple[Parameter, ...]:
    return tuple(
        replace(
            each,
            span=replace(each.span, whole=False) if each.span is not None and each.name in decimal else each.span,
            choices=tuple(replace(choice, group=_retyped(choice.group, decimal)) for choice in each.choices),
        )
        for each in parameters
    )
