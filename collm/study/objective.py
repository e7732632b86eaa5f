"""What a study optimises: a validation metric of a run, or what a run costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.spec.node import Node
from collm.spec.problems import nearest
from collm.spec.study_section import Direction

COSTS: Mapping[str, str] = {
    "cost.seconds_per_sample": "seconds of scoring per row, loading included",
    "cost.fit_seconds": "seconds of fitting and tuning, counted in full where a stage was reused",
}
SPLIT = "valid"
_SLICES = ("all", "warm", "cold")


@dataclass(frozen=True)
class Objective:
    """One number of a run.

    Attributes:
        text: As written, e.g. `valid.warm.auc`.
        part: Slice; empty for a cost.
        metric: Metric name; empty for a cost.
        direction: Whether more or less is better.
    """

    text: str
    part: str
    metric: str
    direction: Direction

    def value(self, results: Mapping[str, Any]) -> float:
        """Reads the number off a run's results.

        Args:
            results: Content of `results.json`.

        Raises:
            ValueError: If it is missing, null or not finite; says why.
        """
        if not self.metric:
            return _cost(self.text, results)
        record = results["metrics"][SPLIT][self.part][self.metric]
        value = record["value"]
        if value is None:
            raise ValueError(f"{self.text} has no value: {record.get('reason') or 'no usable row'}")
        if not math.isfinite(value):
            raise ValueError(f"{self.text} is {value}")
        return float(value)


def _cost(text: str, results: Mapping[str, Any]) -> float:
    timing = results["timing"]
    if text == "cost.fit_seconds":
        return float(
            sum(
                each.get("work_seconds", each["seconds"])
                for name, each in timing.items()
                if name.startswith(("fit_", "tune_"))
            )
        )
    rows = results["counts"][SPLIT]
    return float(timing["evaluate"]["work_seconds"]) / float(rows)


def read_objectives(node: Node, registry: Registry, problems: list[Problem]) -> tuple[Objective, ...]:
    """Reads `objective` and `direction`; what is not text there is left to the section's own check.

    Args:
        node: The study section as written.
        registry: Where metrics are looked up.
        problems: Takes what is wrong.
    """
    written, given = node.fields.get("objective"), node.fields.get("direction")
    if written is None:
        return ()
    texts = [each for each in _items(written) if isinstance(each.value, str)]
    if not texts:
        problems.append(written.place.problem("names no objective", "study.objective"))
    directions: list[Direction | None] = [None] * len(texts)
    if given is not None and given.value is not None:
        found = [each.value for each in _items(given)]
        if not all(each in ("maximize", "minimize") for each in found):
            return ()
        if len(found) != len(texts):
            message = f"must name one direction per objective: {len(texts)} objectives"
            problems.append(given.place.problem(message, "study.direction"))
            return ()
        directions = cast("list[Direction | None]", found)
    objectives: list[Objective] = []
    for at, direction in zip(texts, directions, strict=True):
        objective = _read_one(str(at.value), at, direction, registry, problems)
        if objective is not None and any(objective.text == each.text for each in objectives):
            problems.append(at.place.problem(f"'{objective.text}' stands twice", "study.objective"))
        elif objective is not None:
            objectives.append(objective)
    return tuple(objectives)


def _read_one(
    text: str, node: Node, direction: Direction | None, registry: Registry, problems: list[Problem]
) -> Objective | None:
    def refuse(message: str) -> None:
        problems.append(node.place.problem(message, "study.objective"))

    if text in COSTS:
        if direction == "maximize":
            refuse(f"'{text}' is a cost: its direction is minimize")
        return Objective(text, "", "", "minimize")
    split, _, rest = text.partition(".")
    part, _, metric = rest.rpartition(".")
    part = part or "all"
    if split == "test" or split == "train":
        why = "the test split is for the final number only" if split == "test" else "training rows say nothing"
        refuse(f"'{text}': {why}; search on validation rows: {SPLIT}.{rest or 'auc'}")
        return None
    if split != SPLIT or not metric:
        allowed = [*COSTS, *(f"{SPLIT}.{name}" for name in registry.names("metric"))]
        refuse(f"'{text}' is not SPLIT[.SLICE].METRIC{nearest(text, allowed)}; e.g. {SPLIT}.auc, {', '.join(COSTS)}")
        return None
    if part not in _SLICES:
        refuse(f"'{text}': unknown slice '{part}'; slices: {', '.join(_SLICES)}")
        return None
    return _with_direction(text, part, metric, direction, refuse, registry)


def _with_direction(
    text: str, part: str, metric: str, direction: Direction | None, refuse: Any, registry: Registry
) -> Objective | None:
    try:
        component = registry.get("metric", metric)
    except SpecError as error:
        refuse(f"'{text}': {error.problems[0].message}")
        return None
    better = component.load_factory()(component.config(name=metric)).higher_is_better
    natural: Direction = "maximize" if better else "minimize"
    if direction is not None and direction != natural:
        refuse(f"'{metric}' is better when {'larger' if better else 'smaller'}: its direction is {natural}")
    return Objective(text, part, metric, natural)


def produced_problems(objectives: Sequence[Objective], spec: ResolvedSpec, node: Node) -> list[Problem]:
    """Returns a problem for every objective that a run of this spec does not give.

    Args:
        objectives: What is optimised.
        spec: A trial's spec.
        node: The study section as written.
    """
    found = []
    for objective, at in zip(objectives, _items(node.fields["objective"]), strict=True):
        for field, name in (("slices", objective.part), ("metrics", objective.metric)):
            known = getattr(spec.evaluate, field)
            if name and name not in known:
                message = (
                    f"'{objective.text}': the base does not measure '{name}'; its evaluate.{field} are "
                    f"{', '.join(known)}: add it there"
                )
                found.append(at.place.problem(message, "study.objective"))
    return found


def _items(node: Node) -> tuple[Node, ...]:
    return node.value if isinstance(node.value, tuple) else (node,)
