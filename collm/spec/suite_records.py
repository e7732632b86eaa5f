"""What a suite file says, as records: its runs, axes, exclusions and ensembles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collm.spec.node import Node, Place


@dataclass(frozen=True)
class RunEntry:
    """One entry of `runs`.

    Attributes:
        name: Its name.
        layers: Overrides on the base, each laid over what those before it left: one for each suite, from the lowest
            base up, that has a run of this name; none for the base as it is.
        place: Where the highest of these suites names it.
        path: Its dotted path there; empty where no suite does.
    """

    name: str
    layers: tuple[Node, ...]
    place: Place
    path: str


@dataclass(frozen=True)
class Option:
    """One value of a matrix axis with its part of the run's name."""

    label: str
    value: Node


@dataclass(frozen=True)
class Axis:
    """One entry of `matrix`: a dotted path and its values."""

    path: str
    parts: tuple[str, ...]
    choices: tuple[Option, ...]


@dataclass(frozen=True)
class Exclusion:
    """One entry of `exclude`: a run's full name, or values of `run`, `seed` and matrix paths that must all match."""

    wanted: str | Mapping[str, Any]
    place: Place

    def matches(self, run: str, choices: Mapping[str, object], seed: object) -> bool:
        """Whether it takes out a cell: a run with its labels, values by matrix path, a seed if there is one."""
        if isinstance(self.wanted, str):
            return run == self.wanted
        known = {**choices, "seed": seed}
        return all(key in known and known[key] == value for key, value in self.wanted.items())


@dataclass(frozen=True)
class Ensemble:
    """One entry of `ensembles`: the runs whose scores are averaged."""

    name: str
    members: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class SuiteFile:
    """A suite as written.

    Attributes:
        place: Where the suite starts.
        runs: At least one entry.
        matrix: Axes that cross with the runs.
        seeds: Nodes that hold whole numbers; empty = the base's own seed.
        exclude: Cells that are left out.
        ensembles: Mixtures of runs.
    """

    name: str
    place: Place
    base: Node
    runs: tuple[RunEntry, ...]
    matrix: tuple[Axis, ...]
    seeds: tuple[Node, ...]
    exclude: tuple[Exclusion, ...]
    ensembles: tuple[Ensemble, ...]
