"""The structure of a suite file: its own keys checked and located, its base read, nothing resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from collm.errors import Problem, SpecError
from collm.spec.model import NAME_PATTERN
from collm.spec.node import Node, Place
from collm.spec.override import set_at, split_path
from collm.spec.problems import unknown_key
from collm.spec.read import read_file
from collm.spec.resolve import SUITE_KEYS, TOP_LEVEL
from collm.spec.suite_records import Axis, Ensemble, Exclusion, Option, RunEntry, SuiteFile


def read_suite(document: Node, path: Path) -> SuiteFile:
    """Checks a suite's own structure and reads its base.

    A base given by file name is relative to the suite file. Where that is a suite, `runs` are added to its runs, one of
    the same name laid over it, and each other section replaces its own.

    Raises:
        SpecError: With every problem of the suite file and what could not be read of its base.
    """
    reader = _SuiteReader(document, path)
    suite = reader.read()
    if reader.problems:
        raise SpecError(reader.problems)
    return suite


class HeadReader:
    """Reads `name` and `base`, which suites and studies have in common, and collects problems.

    Attributes:
        problems: What was found so far.
    """

    def __init__(self, document: Node, path: Path, *, noun: str) -> None:
        """Takes the tree of a file, the file, which its base's file name is relative to, and `suite` or `study`."""
        self.document, self.path, self._noun = document, path, noun
        self.problems: list[Problem] = []

    def check_keys(self, allowed: Sequence[str], what: str, *, hint: str) -> None:
        """Reports keys that are not allowed; sections of a spec with a hint where they belong."""
        for key, node in self.document.fields.items():
            if key not in allowed:
                where = f" (it belongs {hint})" if key in TOP_LEVEL else ""
                self._complain(node.where, unknown_key(key, allowed, what=what) + where, key)

    def name(self) -> str:
        """Returns the name, that of the kind of file where it has a problem."""
        node = self.document.fields.get("name")
        if node is None:
            self._complain(self.document.place, f"required field is missing: name of the {self._noun}", "name")
        elif not isinstance(node.value, str) or not re.match(NAME_PATTERN, node.value):
            self._complain(node.place, f"got {node.shown()}, must be letters, digits, '.', '_', '+', '-'", "name")
        else:
            return node.value
        return self._noun

    def base(self) -> Node:
        """Returns the base spec as a tree, an empty one where it has a problem."""
        base = self.base_document()
        if self.names_base() and base.fields.keys() & set(SUITE_KEYS):
            return self._no_spec(f"a {self._noun}'s base must be one spec")
        return base

    def names_base(self) -> bool:
        """Whether the base is given by file name."""
        node = self.document.fields.get("base")
        return node is not None and isinstance(node.value, str)

    def base_document(self) -> Node:
        """Returns the tree of the base, which may be of a suite; an empty one where it has a problem."""
        empty = Node({}, self.document.place)
        node = self.document.fields.get("base")
        if node is None:
            self._complain(self.document.place, "required: a spec's file name, or a spec written out", "base")
            return empty
        if isinstance(node.value, str):
            return self._base_file(node, node.value) or empty
        if not isinstance(node.value, Mapping):
            self._complain(node.place, f"got {node.shown()}, must be a file name or a spec written out", "base")
            return empty
        return node

    def _base_file(self, node: Node, name: str) -> Node | None:
        target = self.path.parent / name
        try:
            base = read_file(target)
        except SpecError as error:
            if target.is_file():
                self.problems.extend(error.problems)
            else:
                self._complain(node.place, f"'{name}': {error.problems[0].message}", "base")
            return None
        if not isinstance(base.value, Mapping):
            return self._no_spec(f"it holds {base.shown()}")
        if "study" in base.fields and "base" in base.fields:
            return self._no_spec("it is a study file")
        return base

    def _no_spec(self, why: str) -> Node:
        node = self.document.fields["base"]
        self._complain(node.place, f"'{node.value}' is not a spec; {why}", "base")
        return Node({}, self.document.place)

    def _complain(self, place: Place, message: str, path: str) -> None:
        self.problems.append(place.problem(message, path))


class _SuiteReader(HeadReader):
    def __init__(self, document: Node, path: Path, above: tuple[Path, ...] = ()) -> None:
        """Takes the tree of a suite file, the file, and the suites that it is the base of, the highest first."""
        super().__init__(document, path, noun="suite")
        self._chain = (*above, path)

    def read(self) -> SuiteFile:
        self.check_keys(("name", *SUITE_KEYS), "suite section", hint="in `base`, or in one of `runs`")
        name, document = self.name(), self.base_document()
        below = self._below(document) if self.names_base() and document.fields.keys() & set(SUITE_KEYS) else None
        runs = self._runs(document, below)
        own = self.document.fields.keys()
        return SuiteFile(
            name=name,
            place=self.document.place,
            base=document if below is None else below.base,
            runs=runs,
            matrix=self._matrix() if below is None or "matrix" in own else below.matrix,
            seeds=self._seeds() if below is None or "seeds" in own else below.seeds,
            exclude=self._exclude() if below is None or "exclude" in own else below.exclude,
            ensembles=self._ensembles(runs) if below is None or "ensembles" in own else below.ensembles,
        )

    def _below(self, document: Node) -> SuiteFile | None:
        """Returns the suite that is the base, None where it leads back to a suite that it is the base of."""
        node = self.document.fields["base"]
        path = self.path.parent / str(node.value)
        if path.resolve() in [each.resolve() for each in self._chain]:
            names = " -> ".join(str(each) for each in (*self._chain, path))
            self._complain(node.place, f"leads back to itself: {names}", "base")
            return None
        reader = _SuiteReader(document, path, self._chain)
        suite = reader.read()
        self.problems.extend(reader.problems)
        return suite

    def _runs(self, base: Node, below: SuiteFile | None) -> tuple[RunEntry, ...]:
        node = self.document.fields.get("runs")
        inherited = {} if below is None else {run.name: run for run in below.runs}
        if node is None or node.value is None:
            named = base.fields.get("name")
            name = named.value if named is not None and isinstance(named.value, str) else "base"
            return tuple(inherited.values()) or (RunEntry(name, (), self.document.place, ""),)
        if not node.fields:
            self._complain(node.place, f"got {node.shown()}, must map names of runs to their overrides", "runs")
        for name, each in node.fields.items():
            run = self._run(name, each)
            if name in inherited:
                if each.value is None:
                    message = f"the base suite has this run; to leave it out, write `exclude: [{{run: {name}}}]`"
                    self._complain(each.place, f"got {each.shown()}: {message}", run.path)
                run = replace(run, layers=(*inherited[name].layers, *run.layers))
            inherited[name] = run
        return tuple(inherited.values())

    def _run(self, name: str, node: Node) -> RunEntry:
        path = f"runs.{name}"
        if not re.match(NAME_PATTERN, name):
            self._complain(node.where, "a run's name must be letters, digits, '.', '_', '+', '-'", path)
        if node.value is not None and not isinstance(node.value, Mapping):
            self._complain(node.place, f"got {node.shown()}, must be a mapping of overrides; {{}} = the base", path)
        overrides = replace(node, value={})
        for key, each in node.fields.items():
            parts = split_path(key)
            if parts is None or parts[0] not in TOP_LEVEL or key == "name":
                allowed = [section for section in TOP_LEVEL if section != "name"]
                self._complain(each.where, unknown_key(key, allowed, what="section"), f"{path}.{key}")
                continue
            try:
                overrides = set_at(overrides, parts, each)
            except SpecError as error:
                self.problems.extend(
                    replace(each.where.problem(p.message), path=f"{path}.{key}") for p in error.problems
                )
        return RunEntry(name, (overrides,), node.where, path)

    def _matrix(self) -> tuple[Axis, ...]:
        node = self.document.fields.get("matrix")
        if node is None or node.value is None:
            return ()
        if not isinstance(node.value, Mapping):
            self._complain(node.place, f"got {node.shown()}, must map dotted paths to lists of values", "matrix")
        return tuple(axis for path, each in node.fields.items() if (axis := self._axis(path, each)) is not None)

    def _axis(self, path: str, node: Node) -> Axis | None:
        parts = split_path(path)
        if parts is None or parts[0] not in TOP_LEVEL or parts[0] in ("name", "seed"):
            use = "; use `seeds`" if path == "seed" else ""
            self._complain(
                node.where, f"must be the dotted path of a spec's field, e.g. backbone.name{use}", f"matrix.{path}"
            )
            return None
        if not isinstance(node.value, tuple) or not node.value:
            self._complain(node.place, f"got {node.shown()}, must be a list of values", f"matrix.{path}")
            return None
        options = tuple(Option(_label(parts, each, index), each) for index, each in enumerate(node.value))
        self._distinct([(option.label, option.value) for option in options], f"matrix.{path}")
        return Axis(path, parts, options)

    def _seeds(self) -> tuple[Node, ...]:
        node = self.document.fields.get("seeds")
        if node is None or node.value is None:
            return ()
        if not isinstance(node.value, tuple) or not node.value:
            self._complain(node.place, f"got {node.shown()}, must be a list of whole numbers", "seeds")
            return ()
        for index, each in enumerate(node.value):
            if type(each.value) is not int or each.value < 0:
                self._complain(
                    each.place, f"got {each.shown()}, must be a whole number of at least 0", f"seeds[{index}]"
                )
        self._distinct([(str(each.value), each) for each in node.value], "seeds")
        return node.value

    def _distinct(self, entries: list[tuple[str, Node]], path: str) -> None:
        seen: set[str] = set()
        for index, (label, node) in enumerate(entries):
            if label in seen:
                self._complain(node.place, f"{node.shown()} is given twice", f"{path}[{index}]")
            seen.add(label)

    def _ensembles(self, runs: tuple[RunEntry, ...]) -> tuple[Ensemble, ...]:
        node = self.document.fields.get("ensembles")
        if node is None or node.value is None:
            return ()
        if not isinstance(node.value, Mapping):
            self._complain(node.place, f"got {node.shown()}, must map names to lists of runs", "ensembles")
            return ()
        known = [run.name for run in runs]
        return tuple(self._ensemble(name, each, known) for name, each in node.fields.items())

    def _ensemble(self, name: str, node: Node, known: list[str]) -> Ensemble:
        path = f"ensembles.{name}"
        if not re.match(NAME_PATTERN, name):
            self._complain(node.where, "an ensemble's name must be letters, digits, '.', '_', '+', '-'", path)
        elif name in known:
            self._complain(node.where, "a run has this name already; choose another", path)
        members = node.value if isinstance(node.value, tuple) else ()
        if len(members) < 2:
            self._complain(node.place, f"got {node.shown()}, must be a list of at least two runs", path)
        for index, member in enumerate(members):
            if member.value not in known:
                self._complain(member.place, unknown_key(str(member.value), known, what="run"), f"{path}[{index}]")
        self._distinct([(str(member.value), member) for member in members], path)
        return Ensemble(name, tuple(str(member.value) for member in members), node.where)

    def _exclude(self) -> tuple[Exclusion, ...]:
        node = self.document.fields.get("exclude")
        if node is None or node.value in (None, ()):
            return ()
        if not isinstance(node.value, tuple):
            self._complain(node.place, f"got {node.shown()}, must be a list of run names or mappings", "exclude")
            return ()
        for index, each in enumerate(node.value):
            if not isinstance(each.value, str) and not each.fields:
                message = f"got {each.shown()}, must be a run's name or a mapping such as {{run: mf, seed: 1}}"
                self._complain(each.place, message, f"exclude[{index}]")
        return tuple(Exclusion(each.plain(), each.place) for each in node.value)


def _label(parts: tuple[str, ...], node: Node, index: int) -> str:
    """A value's part of the run's name: the name of a component, else field and value, else field and position."""
    if isinstance(node.value, str) and re.match(NAME_PATTERN, node.value):
        return node.value if parts[-1] == "name" else f"{parts[-1]}-{node.value}"
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return f"{parts[-1]}{node.value}"
    return f"{parts[-1]}{index}"
