"""The `search` mapping of a study file -> parameters; every mistake located."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from collm.errors import Problem
from collm.spec.node import Node, Place
from collm.spec.override import split_path
from collm.spec.problems import unknown_key
from collm.spec.resolve import TOP_LEVEL
from collm.study.space import Choice, Label, Parameter, Span, label_of

CHOICES = ("choices",)
RANGE = ("low", "high", "log", "step")
_MAX_STEPS = 1_000_000_000
# Another name, profile or way of measuring would make the values of trials incomparable.
NOT_SEARCHED = ("name", "profile", "evaluate", "slices")


def read_search(node: Node, problems: list[Problem]) -> tuple[Parameter, ...]:
    """Reads the parameters of `study.search`.

    Args:
        node: The mapping.
        problems: Takes what is wrong.
    """
    if not node.fields:
        message = f"got {node.shown()}, must map at least one dotted path to what is tried there"
        problems.append(node.place.problem(message, "study.search"))
        return ()
    return _Reader(problems).group(node, "study.search", "", {})


@dataclass
class _Reader:
    problems: list[Problem] = field(default_factory=list)

    def group(self, node: Node, shown: str, suffix: str, taken: Mapping[str, Place]) -> tuple[Parameter, ...]:
        """Reads one mapping of paths; `taken` are the paths of the groups around it."""
        found = []
        known = dict(taken)
        for path, each in node.fields.items():
            parameter = self._parameter(path, each, shown, suffix, {**known, **_places(node)})
            if path in taken:
                self._complain(each.where, f"is searched in line {taken[path].line} already, around this group", shown)
            if parameter is not None:
                found.append(parameter)
        return tuple(found)

    def _parameter(
        self, path: str, node: Node, shown: str, suffix: str, around: Mapping[str, Place]
    ) -> Parameter | None:
        at = f"{shown}.{path}"
        parts = split_path(path)
        if parts is None or parts[0] not in TOP_LEVEL or parts[0] in NOT_SEARCHED:
            self._complain(node.where, _not_a_field(path, parts), at)
            return None
        parameter = Parameter(path + suffix, path, parts, node.where)
        if isinstance(node.value, tuple):
            return self._listed(parameter, node, at)
        if not isinstance(node.value, Mapping):
            return _with(parameter, choices=(Choice(node.value, node),))
        unknown = [key for key in node.fields if key not in (*CHOICES, *RANGE)]
        for key in unknown:
            message = unknown_key(key, (*CHOICES, *RANGE))
            self._complain(node.fields[key].where, f"{message}; a mapping as fixed value goes into choices: [...]", at)
        if unknown:
            return None
        if "choices" in node.fields:
            return self._choices(parameter, node, at, around)
        return self._range(parameter, node, at)

    def _choices(self, parameter: Parameter, node: Node, at: str, around: Mapping[str, Place]) -> Parameter | None:
        for key in node.fields.keys() & set(RANGE):
            self._complain(node.fields[key].where, f"`{key}` belongs to a range; with `choices` it means nothing", at)
        choices = node.fields["choices"]
        if isinstance(choices.value, tuple):
            return self._listed(parameter, choices, f"{at}.choices")
        if not choices.fields:
            message = f"got {choices.shown()}, must be a list of values, or map each value to its own search"
            self._complain(choices.place, message, f"{at}.choices")
            return None
        found = []
        for label, group in choices.fields.items():
            below: tuple[Parameter, ...] = ()
            inner = f"{at}.choices.{label}"
            if group.value is not None and not isinstance(group.value, Mapping):
                message = f"got {group.shown()}, must map dotted paths to what is tried there; {{}} = nothing more"
                self._complain(group.place, message, inner)
            elif group.fields:
                suffix = parameter.name.removeprefix(parameter.path) + f"@{label}"
                below = self.group(group, inner, suffix, around)
            found.append(Choice(label, Node(label, group.where, raw=label), below))
        return _with(parameter, choices=tuple(found))

    def _listed(self, parameter: Parameter, node: Node, at: str) -> Parameter | None:
        if not node.value:
            self._complain(node.place, "got an empty list, must hold at least one value", at)
            return None
        assert isinstance(node.value, tuple)
        found: dict[tuple[type, Label], Choice] = {}
        for index, each in enumerate(node.value):
            label = label_of(each.plain())
            if (type(label), label) in found:
                self._complain(each.place, f"{each.shown()} is given twice", f"{at}[{index}]")
            found[type(label), label] = Choice(label, each)
        return _with(parameter, choices=tuple(found.values()))

    def _range(self, parameter: Parameter, node: Node, at: str) -> Parameter | None:
        before = len(self.problems)
        low, high = (self._number(node, key, at) for key in ("low", "high"))
        step = self._number(node, "step", at) if "step" in node.fields else None
        log = node.fields.get("log")
        if log is not None and not isinstance(log.value, bool):
            self._complain(log.place, f"got {log.shown()}, must be true or false", f"{at}.log")
        if len(self.problems) > before or low is None or high is None:
            return None
        logarithmic = log is not None and log.value is True
        self._check_range(low, high, step, logarithmic=logarithmic, at=at)
        if len(self.problems) > before:
            return None
        whole = all(isinstance(each.value, int) for each in (low, high, step) if each is not None)
        size = step.value if step is not None else None
        assert size is None or isinstance(size, int | float)
        return _with(parameter, span=Span(low, high, size, logarithmic, whole))

    def _check_range(self, low: Node, high: Node, step: Node | None, *, logarithmic: bool, at: str) -> None:
        bottom, top = _float(low), _float(high)
        if bottom >= top:
            self._complain(high.place, f"got {high.shown()}, must be more than low ({low.raw})", f"{at}.high")
            return
        if not math.isfinite(top - bottom):
            self._complain(high.place, f"got {high.shown()}, too far from low ({low.raw}) for a range", f"{at}.high")
            return
        if logarithmic and bottom <= 0:
            self._complain(low.place, f"got {low.shown()}, must be more than 0 where log is true", f"{at}.low")
        if step is not None and logarithmic:
            self._complain(step.where, "log and step cannot be combined: list the values as choices", f"{at}.step")
        elif step is not None and not 0 < _float(step) <= top - bottom:
            self._complain(step.place, f"got {step.shown()}, must be more than 0 and at most high - low", f"{at}.step")
        elif step is not None and (top - bottom) / _float(step) > _MAX_STEPS:
            self._complain(step.place, f"got {step.shown()}, makes more than {_MAX_STEPS:,} steps", f"{at}.step")
        elif step is not None and (ends := _ends_beside(bottom, top, _float(step))):
            message = f"got {high.shown()}, must be low ({low.raw}) plus whole steps of {step.raw}: {ends}"
            self._complain(high.place, message, f"{at}.high")

    def _number(self, node: Node, key: str, at: str) -> Node | None:
        each = node.fields.get(key)
        if each is None:
            self._complain(node.where, f"`{key}` is missing: write choices: [...], or low and high", at)
        elif isinstance(each.value, bool) or not isinstance(each.value, int | float):
            self._complain(each.place, f"got {each.shown()}, must be a number", f"{at}.{key}")
        else:
            return each
        return None

    def _complain(self, place: Place, message: str, path: str) -> None:
        self.problems.append(place.problem(message, path))


def _with(parameter: Parameter, *, choices: tuple[Choice, ...] = (), span: Span | None = None) -> Parameter:
    return Parameter(parameter.name, parameter.path, parameter.parts, parameter.place, choices, span)


def _places(node: Node) -> dict[str, Place]:
    return {path: each.where for path, each in node.fields.items()}


def _float(node: Node) -> float:
    assert isinstance(node.value, int | float)
    return float(node.value)


def _ends_beside(low: float, high: float, step: float) -> str:
    """Names the reachable ends on both sides of `high`; empty where it is one, as it is written in decimal digits."""
    bottom, top, each = (Decimal(str(value)) for value in (low, high, step))
    below = (top - bottom) // each * each + bottom
    return "" if below == top else f"{float(below):g} or {float(below + each):g}"


def _not_a_field(path: str, parts: tuple[str, ...] | None) -> str:
    if parts is None:
        return f"'{path}' is not a dotted path such as encoder.fit.learning_rate"
    if parts[0] in NOT_SEARCHED:
        return f"'{parts[0]}' cannot be searched: trials that differ in it cannot be compared"
    return unknown_key(parts[0], [key for key in TOP_LEVEL if key not in NOT_SEARCHED], what="section")
