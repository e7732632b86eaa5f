"""A suite file -> its runs: a base spec, overrides per run, a matrix of values, seeds.

`runs`, `matrix` and `seeds` cross; `exclude` takes cells out; `ensembles` name runs whose scores are averaged, once per
matrix cell and seed. Each run is resolved like a spec of its own; where only some are asked for, the others are not.
A run that changes a component's `name` replaces that section whole: the old component's fields do not stay behind. What
`--set` gave stays where the new component has that field too, so that `--set tuning.max_rows=9` reaches every run.
"""

from __future__ import annotations

import functools
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
from collm.spec.only import ONLY, Cell, named_cells
from collm.spec.override import SET, apply_overrides, merge, set_at
from collm.spec.read import read_file
from collm.spec.resolve import SUITE_KEYS, in_file_order, resolve_document
from collm.spec.suite_file import read_suite
from collm.spec.suite_records import SuiteFile

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
    """Several runs from one file, in the order of the file, and the mixtures of them.

    Attributes:
        name: Its name.
        runs: Its runs, or those that were asked for.
        ensembles: Mixtures of these runs.
        left_out: Keys of the runs that were not asked for.
        without_members: Names of ensembles that are not made because members were not asked for.
    """

    name: str
    runs: tuple[SuiteRun, ...]
    ensembles: tuple[SuiteEnsemble, ...] = ()
    left_out: tuple[str, ...] = ()
    without_members: tuple[str, ...] = ()

    def says_left_out(self) -> str:
        """Returns what is shown of the suite and what is not, empty where nothing was left out."""
        if not self.left_out:
            return ""
        runs = ", ".join(run.key for run in self.runs)
        number = f"{len(self.left_out)} run{'s' if len(self.left_out) > 1 else ''}"
        lacking = f"; ensembles without all members: {', '.join(self.without_members)}" if self.without_members else ""
        return f"{ONLY}: {runs}; left out of {self.name}: {number}{lacking}"


def load_any(
    path: Path, overrides: Sequence[str], registry: Registry, *, cwd: Path, only: Sequence[str] = ()
) -> ResolvedSpec | Suite:
    """Reads a spec or a suite; a file with `base`, `runs`, `matrix`, `seeds` or `exclude` is a suite.

    Args:
        path: The YAML file.
        overrides: `path=value` texts of `--set`; in a suite `seeds=...` changes the suite, all others change the base,
            before runs do.
        registry: What is installed.
        cwd: Folder that relative locations in `overrides` resolve against.
        only: Names of the suite's runs or ensembles that are wanted; empty = all.

    Raises:
        SpecError: With every problem of the file, its base and the overrides; or if there is no run of a wanted name.
    """
    document = read_file(path)
    if "study" in document.fields and "base" in document.fields:
        message = f"is a study file, which is run with `collm study {path}`"
        raise SpecError([document.fields["study"].where.problem(message, "study")])
    of_suite = [text for text in overrides if _section(text) in SUITE_KEYS]
    if not document.fields.keys() & set(SUITE_KEYS):
        _refuse_suite_options(path, of_suite, only)
        return resolve_document(apply_overrides(document, overrides, cwd=cwd), registry)
    if other := [text for text in of_suite if _section(text) != "seeds"]:
        message = "of a suite's own sections `seeds` alone can be set here; write the others in its file"
        raise SpecError([Place(SET).problem(message, _section(text)) for text in other])
    suite = read_suite(apply_overrides(document, of_suite, cwd=cwd), path)
    of_base = [text for text in overrides if text not in of_suite]
    if suite.seeds and "seed" in map(_section, of_base):
        message = "changes nothing, because this suite has `seeds`: set them, e.g. --set 'seeds=[0]'"
        raise SpecError([Place(SET).problem(message, "seed")])
    return expand(suite, apply_overrides(suite.base, of_base, cwd=cwd), registry, only)


def _section(override: str) -> str:
    """Returns the first part of the path of a `path=value` text."""
    return override.partition("=")[0].strip().partition(".")[0]


def _refuse_suite_options(path: Path, of_suite: Sequence[str], only: Sequence[str]) -> None:
    """Refuses for one spec what is for suites."""
    use = f"{path} is one spec, not a suite"
    problems = [Place("--only").problem(f"{use}: it has one run") for _ in only[:1]]
    for text in of_suite:
        hint = (
            f"set `seed`, or write a suite with `base: {path.name}`" if _section(text) == "seeds" else "write a suite"
        )
        problems.append(Place(SET).problem(f"{use}: {hint}", _section(text)))
    if problems:
        raise SpecError(problems)


def expand(suite: SuiteFile, base: Node, registry: Registry, only: Sequence[str] = ()) -> Suite:
    """Crosses runs, matrix and seeds and resolves each cell.

    Args:
        suite: The suite file.
        base: Its base spec, overrides applied.
        registry: What is installed.
        only: Names of runs or ensembles that are wanted; empty = all.

    Raises:
        SpecError: With the problems of all wanted runs; one that only some runs have is placed at those runs.
    """
    _check_number(suite)
    cells = _cells(suite, base, registry)
    kept = [(cell, seed) for cell in cells for seed in suite.seeds or (None,) if not _excluded(suite, cell, seed)]
    wanted = named_cells(suite, kept, only) if only else kept
    places: list[tuple[Cell, SuiteRun]] = []
    found: dict[Cell, list[Problem]] = {}
    for cell, seed in wanted:
        problems = found.setdefault(cell, [])
        document = cell.document if seed is None else set_at(cell.document, ("seed",), seed)
        try:
            spec = resolve_document(document, registry)
        except SpecError as error:
            problems.extend(each for each in error.problems if each not in problems)
            continue
        places.append((cell, SuiteRun(cell.key(suite, seed), cell.run, spec.seed, spec)))
    ensembles = _ensembles(suite, places)
    problems = [*_placed(list(found.items())), *_unused_excludes(suite, cells)]
    if not problems and not only:
        problems = _empty_ensembles(suite, ensembles)
    if problems:
        raise SpecError(in_file_order(problems))
    if not places:
        raise SpecError([suite.place.problem("every run is excluded", "exclude")])
    chosen = {cell.key(suite, seed) for cell, seed in wanted}
    return Suite(
        suite.name,
        tuple(run for _, run in places),
        tuple(each for made in ensembles.values() for each in made),
        left_out=tuple(key for cell, seed in kept if (key := cell.key(suite, seed)) not in chosen),
        without_members=tuple(name for name, made in ensembles.items() if not made),
    )


def _check_number(suite: SuiteFile) -> None:
    """Refuses a suite of more runs than can be expanded, before its cells are made one by one."""
    factors = {"runs": len(suite.runs), **{axis.path: len(axis.choices) for axis in suite.matrix}}
    factors["seeds"] = max(1, len(suite.seeds))
    number = math.prod(factors.values())
    if number > MAX_RUNS:
        product = " x ".join(f"{n:,} {name}" for name, n in factors.items() if n > 1)
        message = f"makes {number:,} runs ({product}); at most {MAX_RUNS:,} can be expanded: search with `collm study`"
        raise SpecError([suite.place.problem(message, "matrix" if suite.matrix else "seeds")])


def _ensembles(suite: SuiteFile, places: Sequence[tuple[Cell, SuiteRun]]) -> dict[str, list[SuiteEnsemble]]:
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


def _cells(suite: SuiteFile, base: Node, registry: Registry) -> list[Cell]:
    problems: list[Problem] = []
    cells: list[Cell] = []
    for run in suite.runs:
        document = keep_set(base, functools.reduce(merge, run.layers, base), registry)
        files = frozenset({run.place.file, *(layer.place.file for layer in run.layers)})
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
            cells.append(Cell(label, suffix, changed, run.place, run.path, {"run": run.name, **picked}, files))
    if problems:
        raise SpecError(in_file_order(problems))
    return cells


def keep_set(base: Node, document: Node, registry: Registry) -> Node:
    """Puts values of `--set` into sections that a run replaced, where the new component has the field.

    They also win over what the run itself says there: it restates what its new section would have lost, and a budget
    set on the command line must reach all rows of a table alike. In a section that keeps its component the run's own
    value stays, because varying it is what the run is for.
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


def _excluded(suite: SuiteFile, cell: Cell, seed: Node | None) -> bool:
    return any(rule.matches(cell.run, cell.choices, None if seed is None else seed.value) for rule in suite.exclude)


def _unused_excludes(suite: SuiteFile, cells: Sequence[Cell]) -> list[Problem]:
    seeds = [seed.value for seed in suite.seeds] or [None]
    return [
        rule.place.problem("matches no run; runs: " + ", ".join(cell.run for cell in cells), f"exclude[{index}]")
        for index, rule in enumerate(suite.exclude)
        if not any(rule.matches(cell.run, cell.choices, seed) for cell in cells for seed in seeds)
    ]


def _placed(found: Sequence[tuple[Cell, list[Problem]]]) -> list[Problem]:
    """A problem of every run is the base's own; one of some runs is shown at those runs."""
    shared = set(found[0][1]).intersection(*(problems for _, problems in found)) if found else set()
    placed: list[Problem] = []
    for cell, problems in found:
        for problem in problems:
            if problem in shared or not cell.path:
                placed.append(problem)
                continue
            path = f"{cell.path}.{problem.path}"
            if problem.file in cell.files:
                placed.append(replace(problem, path=path))
            else:
                placed.append(cell.place.problem(problem.message, path))
    return placed
