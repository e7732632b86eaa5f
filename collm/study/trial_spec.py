"""A point of the search space -> the resolved spec of its trial, and the complete spec to keep of the best one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from collm.component import BuildContext
from collm.registry import Registry
from collm.spec.contents import spec_contents
from collm.spec.expand import keep_set
from collm.spec.model import ResolvedSpec
from collm.spec.node import Node, from_plain
from collm.spec.override import merge, set_at
from collm.spec.resolve import resolve_document
from collm.study.objective import SPLIT
from collm.study.space import Point, Space


@dataclass(frozen=True)
class TrialSpecs:
    """Makes the specs of a study's trials.

    A point that changes a component's `name` replaces that section whole, as a run of a suite does.

    Attributes:
        name: Name of every trial's spec: that of the study.
        base: The base spec, overrides applied.
        space: The search space.
        registry: Where components come from.
        context: What components are built with; the contents of their files are a part of a trial.
    """

    name: str
    base: Node
    space: Space
    registry: Registry
    context: BuildContext

    def trial(self, point: Point) -> ResolvedSpec:
        """Returns what a trial runs: validation rows only, without intervals. Test rows are never scored in a search.

        Args:
            point: Names of parameters -> labels.

        Raises:
            SpecError: If the point does not validate.
            KeyError: If it is not a point of the space.
        """
        document = self.document(point)
        for field, value in (("splits", [SPLIT]), ("resamples", 0)):
            place = document.nearest(("evaluate", field)).place
            document = set_at(document, ("evaluate", field), from_plain(value, place))
        return resolve_document(document, self.registry)

    def contents(self, spec: ResolvedSpec) -> dict[str, str]:
        """Returns field -> digest of every place that a trial's spec names.

        Raises:
            DataError: If files are missing.
        """
        return spec_contents(spec, self.registry, self.context)

    def whole(self, point: Point) -> ResolvedSpec:
        """Returns the spec with the base's own evaluation, so that its run reports test numbers too.

        Raises:
            SpecError: As `trial`.
            KeyError: As `trial`.
        """
        return resolve_document(self.document(point), self.registry)

    def document(self, point: Point) -> Node:
        """Returns the base with a point written into it, each value placed where the study file has it."""
        over = Node({}, self.base.place)
        for parameter, node in self.space.assignments(point):
            over = set_at(over, parameter.parts, node)
        merged = keep_set(self.base, merge(self.base, replace(over, key_place=None)), self.registry)
        return merged.with_fields({**merged.fields, "name": from_plain(self.name, self.base.place)})


def flat(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested plain data as dotted paths; lists count as one value."""
    if isinstance(plain, dict) and plain:
        found: dict[str, Any] = {}
        for key, value in plain.items():
            found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: plain}
