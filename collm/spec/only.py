"""The cells of a suite, and those that `--only` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collm.errors import SpecError
from collm.spec.node import Node, Place
from collm.spec.problems import nearest
from collm.spec.suite_records import SuiteFile

ONLY = "--only"


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a suite before it is resolved, its seeds together.

    Attributes:
        run: Its name: that of its entry in `runs` with the labels of its matrix values.
        suffix: Those labels.
        document: Its spec as a tree.
        place: Where messages point when only this run is wrong.
        path: Its dotted path there.
        choices: `run`, the entry's name, and its values by matrix path.
        files: Files that the run itself is written in.
    """

    run: str
    suffix: str
    document: Node
    place: Place
    path: str
    choices: Mapping[str, object]
    files: frozenset[str]

    def key(self, suite: SuiteFile, seed: Node | None) -> str:
        """Returns its key in the suite with one of the seeds."""
        return f"{self.run}{_seed_label(suite, seed)}"


def named_cells(
    suite: SuiteFile, cells: Sequence[tuple[Cell, Node | None]], only: Sequence[str]
) -> list[tuple[Cell, Node | None]]:
    """Returns the cells that have one of the wanted names, in the order of the file.

    A name is that of an entry of `runs` (all its cells), of a run with its matrix labels (all its seeds), a key
    (`mf-seed1`), or those of an ensemble, which stands for its members.

    Args:
        suite: The suite.
        cells: Each cell that is not excluded, with each seed.
        only: The wanted names.

    Raises:
        SpecError: For every name that no cell has.
    """
    names = [_names(suite, cell, seed) for cell, seed in cells]
    known = {name: None for each in names for name in each}
    unknown = [name for name in dict.fromkeys(only) if name not in known]
    if unknown:
        runs = ", ".join(dict.fromkeys(str(cell.choices["run"]) for cell, _ in cells))
        ensembles = ", ".join(each.name for each in suite.ensembles if each.name in known)
        listed = f"its runs are {runs}" + (f"; its ensembles {ensembles}" if ensembles else "")
        hints = {name: nearest(name, list(known)) or ";" for name in unknown}
        raise SpecError([Place(ONLY).problem(f"{suite.name} has no run '{n}'{hints[n]} {listed}") for n in unknown])
    return [cell for cell, each in zip(cells, names, strict=True) if not each.keys().isdisjoint(only)]


def _names(suite: SuiteFile, cell: Cell, seed: Node | None) -> dict[str, None]:
    entry, label = str(cell.choices["run"]), _seed_label(suite, seed)
    heads = [entry, *(each.name for each in suite.ensembles if entry in each.members)]
    return dict.fromkeys(name for head in heads for name in (head, head + cell.suffix, head + cell.suffix + label))


def _seed_label(suite: SuiteFile, seed: Node | None) -> str:
    return f"-seed{seed.value}" if seed is not None and len(suite.seeds) > 1 else ""
