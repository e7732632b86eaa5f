"""A suite file -> its runs: a base spec, overrides per run, a matrix of values, seeds.

`runs`, `matrix` and `seeds` cross; `exclude` takes cells out; `ensembles` name runs whose scores are averaged, once per
matrix cell and seed. Each run is resolved like a spec of its own.
A run that changes a component's `name` replaces that section whole: the old component's fields do not stay behind. What
`--set` gave stays where the new component has that field too, so that `--set tuning.max_rows=9` reaches every run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from collm.component import Kind
from collm.contracts.component_check import config_field
from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.model import COMPONENT_SECTIONS, ENCODERS, ResolvedSpec
from collm.spec.node import Node, Place, from_plain, leaves
from collm.spec.override import SET, apply_overrides, merge, set_at
from collm.spec.read import read_file
from collm.spec.resolve import SUITE_KEYS, in_file_order, resolve_document
from collm.spec.suite_file import SuiteFile, read_suite

MAX_RUNS = 10_000


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        key: Unique within the suite, e.g. `mf` or `mf-seed1`.
        run: The run without its seed.
        seed: Its seed.
        spec: Its resolved spec, named `SUITE-RUN`.
    """

    key: str
    run: str
    seed: int
    spec: ResolvedSpec


@dataclass(frozen=True)
class SuiteEnsemble:
    """Several runs of a suite whose scores are averaged.

    Attributes:
        key: Unique within the suite, e.g. `mf+text-only-seed1`.
        run: The ensemble without its seed.
        seed: Seed of its members.
        members: Keys of the runs that it averages.
    """

    key: str
    run: str
    seed: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """Several runs from one file, in the order of the file, and the mixtures of them."""

    name: str
    runs: tuple[SuiteRun, ...]
    ensembles: tuple[SuiteEnsemble, ...] = ()


@dataclass(frozen=True)
class _Cell:
    """One run before it is resolved: its document, and where messages point when only this run is wrong."""

    run: str
    suffix: str
    document: Node
    place: Place
    path: str
    choices: Mapping[str, object]


def load_any(path: Path, overrides: Sequence[str], registry: Registry, *, cwd: Path) -> ResolvedSpec | Suite:
    """Reads a spec or a suite; a file with `base`, `runs`, `matrix`, `seeds` or `exclude` is a suite.

    Args:
        path: The YAML file.
        overrides: `path=value` texts of `--set`; in a suite they change the base, before runs do.
        registry: What is installed.
        cwd: Folder that relative locations in `overrides` resolve against.

    Raises:
        SpecError: With every problem of the file, its base and the overrides.
    """
    document = read_file(path)
    if "study" in document.fields and "base" in document.fields:
        message = f"is a study file, which is run with `collm study {path}`"
        raise SpecError([document.fields["study"].where.problem(message, "study")])
    if not document.fields.keys() & set(SUITE_KEYS):
        return resolve_document(apply_overrides(document, overrides, cwd=cwd), registry)
    suite = read_suite(document, path)
    base = apply_overrides(suite.base, overrides, cwd=cwd)
    return expand(suite, base, registry)


def expand(suite: SuiteFile, base: Node, registry: Registry) -> Suite:
    """Crosses runs, matrix and seeds and resolves each cell.

    Args:
        suite: The suite file.
        base: Its base spec, overrides applied.
        registry: What is installed.

    Raises:
        SpecError: With the problems of all runs; one that only some runs have is placed at those runs.
    """
    _check_number(suite)
    cells = _cells(suite, base, registry)
    runs: list[SuiteRun] = []
    places: list[tuple[_Cell, SuiteRun]] = []
    found: list[tuple[_Cell, list[Problem]]] = []
    for cell in cells:
        problems: list[Problem] = []
        for seed in suite.seeds or (None,):
            document = cell.document if seed is None else set_at(cell.document, ("seed",), seed)
            if _excluded(suite, cell, seed):
                continue
            try:
                spec = resolve_document(document, registry)
            except SpecError as error:
                problems.extend(error.problems)
                continue
            key = f"{cell.run}-seed{spec.seed}" if len(suite.seeds) > 1 else cell.run
            runs.append(SuiteRun(key, cell.run, spec.seed, spec))
            places.append((cell, runs[-1]))
        found.append((cell, list(dict.fromkeys(problems))))
    ensembles = _ensembles(suite, places)
    problems = [*_placed(found, suite.place.file), *_unused_excludes(suite, cells)]
    if not problems:
        problems = _empty_ensembles(suite, ensembles)
    if problems:
        raise SpecError(in_file_order(problems))
    if not runs:
        raise SpecError([suite.place.problem("every run is excluded", "exclude")])
    return Suite(suite.name, tuple(runs), tuple(each for members in ensembles.values() for each in members))


def _check_number(suite: SuiteFile) -> None:
    """Refuses a suite of more runs than can be expanded, before its cells are made one by one."""
    factors = {"runs": len(suite.runs), **{axis.path: len(axis.choices) for axis in suite.matrix}}
    factors["seeds"] = max(1, len(suite.seeds))
    number = math.prod(factors.values())
    if number > MAX_RUNS:
        product = " x ".join(f"{n:,} {name}" for name, n in factors.items() if n > 1)
        message = f"makes {number:,} runs ({product}); at most {MAX_RUNS:,} can be expanded: search with `collm study`"
        raise SpecError([suite.place.problem(message, "matrix" if suite.matrix else "seeds")])


def _ensembles(suite: SuiteFile, places: Sequence[tuple[_Cell, SuiteRun]]) -> dict[str, list[SuiteEnsemble]]:
    """Makes an ensemble once for each matrix cell and seed that has all its members."""
    by_cell: dict[tuple[str, int], dict[str, SuiteRun]] = {}
    for cell, run in places:
        by_cell.setdefault((cell.suffix, run.seed), {})[str(cell.choices["run"])] = run
    several = len(suite.seeds) > 1
    return {
        each.name: [
            SuiteEnsemble(
                key=f"{each.name}{suffix}" + (f"-seed{seed}" if several else ""),
                run=f"{each.name}{suffix}",
                seed=seed,
                members=tuple(runs[member].key for member in each.members),
            )
            for (suffix, seed), runs in by_cell.items()
            if all(member in runs for member in each.members)
        ]
        for each in suite.ensembles
    }


def _empty_ensembles(suite: SuiteFile, ensembles: Mapping[str, Sequence[SuiteEnsemble]]) -> list[Problem]:
    return [
        each.place.problem("no cell has all of its members: `exclude` takes them out", f"ensembles.{each.name}")
        for each in suite.ensembles
        if not ensembles[each.name]
    ]


def _cells(suite: SuiteFile, base: Node, registry: Registry) -> list[_Cell]:
    problems: list[Problem] = []
    cells: list[_Cell] = []
    for run in suite.runs:
        document = keep_set(base, merge(base, run.overrides), registry) if run.overrides is not None else base
        for choice in itertools.product(*(axis.choices for axis in suite.matrix)):
            suffix, changed = "", document
            for axis, option in zip(suite.matrix, choice, strict=True):
                suffix = f"{suffix}-{option.label}"
                try:
                    changed = set_at(changed, axis.parts, option.value)
                except SpecError as error:
                    problems.extend(replace(each, path=f"matrix.{axis.path}") for each in error.problems)
            label = run.name + suffix
            name = from_plain(f"{suite.name}-{label}", suite.place)
            changed = changed.with_fields({**changed.fields, "name": name})
            picked = {axis.path: option.value.plain() for axis, option in zip(suite.matrix, choice, strict=True)}
            cells.append(_Cell(label, suffix, changed, run.place, run.path, {"run": run.name, **picked}))
    if problems:
        raise SpecError(in_file_order(problems))
    return cells


def keep_set(base: Node, document: Node, registry: Registry) -> Node:
    """Puts values of `--set` into sections that a run replaced, where the new component has the field.

    They also stand above what the run itself says there: it restates what its new section would have lost, and a budget
    set on the command line must reach all rows of a table alike. In a section that keeps its component the run's own
    value stands, because varying it is what the run is for.
    """
    for path, node in leaves(base):
        parts = tuple(str(part) for part in path)
        n_section = 2 if parts[0] == ENCODERS else 1
        section, rest = parts[:n_section], parts[n_section:]
        kind = cast(Kind, "encoder" if parts[0] == ENCODERS else parts[0])
        if node.place.origin != SET or kind not in COMPONENT_SECTIONS or not rest:
            continue
        name, before = document.find((*section, "name")), base.find((*section, "name"))
        replaced = name is not None and before is not None and name.value != before.value and rest != ("name",)
        if document.find(path) is not None and not replaced:
            continue
        if name is None or name.value not in registry.names(kind):
            continue
        if config_field(registry.get(kind, str(name.value)).config, ".".join(rest)):
            document = set_at(document, parts, node)
    return document


def _excluded(suite: SuiteFile, cell: _Cell, seed: Node | None) -> bool:
    return any(rule.matches(cell.run, cell.choices, None if seed is None else seed.value) for rule in suite.exclude)


def _unused_excludes(suite: SuiteFile, cells: Sequence[_Cell]) -> list[Problem]:
    seeds = [seed.value for seed in suite.seeds] or [None]
    return [
        rule.place.problem("matches no run; runs: " + ", ".join(cell.run for cell in cells), f"exclude[{index}]")
        for index, rule in enumerate(suite.exclude)
        if not any(rule.matches(cell.run, cell.choices, seed) for cell in cells for seed in seeds)
    ]


def _placed(found: Sequence[tuple[_Cell, list[Problem]]], suite_file: str) -> list[Problem]:
    """A problem of every run is the base's own; one of some runs is shown at those runs."""
    shared = set(found[0][1]).intersection(*(problems for _, problems in found)) if found else set()
    placed: list[Problem] = []
    for cell, problems in found:
        for problem in problems:
            if problem in shared or not cell.path:
                placed.append(problem)
                continue
            path = f"{cell.path}.{problem.path}"
            if problem.file == suite_file:
                placed.append(replace(problem, path=path))
            else:
                placed.append(cell.place.problem(problem.message, path))
    return placed
