"""A study file -> what it says and what it optimises, checked for itself; `check` resolves its points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.contracts.metric import metric_label
from collm.contracts.search import PrunerConfig, SamplerConfig
from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.runs.records import TRAINING, RunResults
from collm.spec.component_config import ConfigReader
from collm.spec.metric_entries import entry_config, entry_label
from collm.spec.model import ResolvedSpec
from collm.spec.node import Node, Place, from_plain
from collm.spec.override import apply_overrides
from collm.spec.problems import nearest
from collm.spec.read import read_file
from collm.spec.resolve import in_file_order
from collm.spec.study_section import DEFAULT_PRUNER, DEFAULT_SAMPLER, Direction, StudySection
from collm.spec.suite_file import HeadReader
from collm.study.search_rules import problem_at, pruner_problems, sampler_problems
from collm.study.space import Space
from collm.study.space_file import read_search
from collm.study.storage import StorageAddress, read_address

KEYS = ("name", "base", "study")
DEFAULT_JOURNAL = "studies.log"
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
        slice_name: E.g. `all`; empty for a cost.
        metric: Label of the metric; empty for a cost.
        direction: Whether more or less is better.
    """

    text: str
    slice_name: str
    metric: str
    direction: Direction

    def value(self, results: RunResults) -> float:
        """Reads the number from a run's results.

        Raises:
            ValueError: If it is null; says why.
        """
        if self.text == "cost.fit_seconds":
            return sum(results.seconds(*TRAINING).values())
        if not self.metric:
            return results.timing["evaluate"].own_seconds / results.counts[SPLIT]
        record = results.metrics[SPLIT][self.slice_name][self.metric]
        if record.value is None:
            raise ValueError(f"{self.text} has no value: {record.reason or 'no usable row'}")
        return record.value


@dataclass(frozen=True)
class StudyFile:
    """A study as written.

    Attributes:
        name: Its name, also in Optuna.
        place: Where the file starts.
        base: The base spec, overrides applied.
        node: The `study` section as written.
        section: Its plain fields.
        sampler: Settings of the sampler, whichever component that is.
        pruner: Settings of the pruner.
        needs: What the sampler asks of the study.
        objectives: At least one.
        space: What is searched.
        storage: Where trials are kept.
    """

    name: str
    place: Place
    base: Node
    node: Node
    section: StudySection
    sampler: SamplerConfig
    pruner: PrunerConfig
    needs: frozenset[str]
    objectives: tuple[Objective, ...]
    space: Space
    storage: StorageAddress


def read_study(path: Path, overrides: Sequence[str], registry: Registry, *, cwd: Path, runs_dir: Path) -> StudyFile:
    """Reads a study file.

    Args:
        path: The file.
        overrides: `path=value` texts of `--set`: `study.*` changes the study, anything else its base.
        registry: What is installed.
        cwd: Folder that relative locations in `overrides` resolve against.
        runs_dir: Directory of runs; the default journal lies there.

    Raises:
        SpecError: With every problem of the file, its base and the overrides.
    """
    document = read_file(path)
    if "study" not in document.fields:
        message = "not a study file: expected `name`, `base` and `study`; run a spec or suite with `collm run`"
        raise SpecError([document.place.problem(message)])
    own = [text for text in overrides if text.startswith("study.")]
    document = apply_overrides(document, own, cwd=cwd)
    head = HeadReader(document, path, noun="study")
    head.check_keys(KEYS, "study file section", hint="in `base`")
    name, base, problems = head.name(), head.base(), head.problems
    base = apply_overrides(base, [text for text in overrides if text not in own], cwd=cwd)
    node = document.fields["study"]
    if not isinstance(node.value, Mapping):
        problems.append(node.place.problem(f"got {node.shown()}, must be a mapping with `objective`, `search`, ..."))
        raise SpecError(in_file_order(problems))
    node = _with_default_names(node)
    reader = ConfigReader(registry)
    section: StudySection | None = reader.read(StudySection, node, ("study",))
    problems.extend(reader.problems)
    storage = read_address(node.fields.get("storage"), runs_dir.absolute() / DEFAULT_JOURNAL, problems)
    n_before = len(problems)
    search = node.fields.get("search")
    parameters = read_search(search, problems) if search is not None and isinstance(search.value, Mapping) else ()
    search_is_read = len(problems) == n_before
    objectives = read_objectives(node, registry, problems)
    if section is None or section.sampler is None or section.pruner is None:
        raise SpecError(in_file_order(problems))
    file = StudyFile(
        name=name,
        place=document.place,
        base=base,
        node=node,
        section=section,
        sampler=section.sampler,
        pruner=section.pruner,
        needs=registry.get("sampler", section.sampler.name).needs,
        objectives=objectives,
        space=Space(parameters),
        storage=storage,
    )
    problems += [*sampler_problems(file), *pruner_problems(file)]
    # Skipped where the search failed to parse.
    if search_is_read and parameters and all(parameter.fixed for parameter in file.space.all()):
        problems.append(problem_at(file, "search", "every field has one value: there is nothing to search"))
    if problems:
        raise SpecError(in_file_order(problems))
    return file


def _with_default_names(node: Node) -> Node:
    """Names the sampler and the pruner where the file does not."""
    for kind, name in (("sampler", DEFAULT_SAMPLER), ("pruner", DEFAULT_PRUNER)):
        written = node.fields.get(kind)
        if written is None or written.value is None:
            node = node.with_fields({**node.fields, kind: from_plain({"name": name}, node.place)})
        elif isinstance(written.value, Mapping) and "name" not in written.value:
            named = written.with_fields({"name": from_plain(name, written.place), **written.fields})
            node = node.with_fields({**node.fields, kind: named})
    return node


def read_objectives(node: Node, registry: Registry, problems: list[Problem]) -> tuple[Objective, ...]:
    """Reads `objective` and `direction`; none where one has a problem. The section's check reports wrong types."""
    written, given = node.fields.get("objective"), node.fields.get("direction")
    if written is None:
        return ()
    texts = [each for each in _items(written) if isinstance(each.value, str)]
    if not texts:
        problems.append(written.place.problem("names no objective", "study.objective"))
    directions: list[Any] = [None] * len(texts)
    if given is not None and given.value is not None:
        directions = [each.value for each in _items(given)]
        if not all(each in ("maximize", "minimize") for each in directions):
            return ()
        if len(directions) != len(texts):
            message = f"must name one direction per objective: {len(texts)} objectives"
            problems.append(given.place.problem(message, "study.direction"))
            return ()
    objectives: dict[str, Objective] = {}
    n_before = len(problems)
    for each, direction in zip(texts, directions, strict=True):
        text = str(each.value)
        try:
            if text in objectives:
                raise ValueError(f"'{text}' is given twice")
            objectives[text] = _objective(text, direction, registry)
        except ValueError as error:
            problems.append(each.place.problem(str(error), "study.objective"))
    return tuple(objectives.values()) if len(problems) == n_before else ()


def _objective(text: str, direction: Direction | None, registry: Registry) -> Objective:
    """Returns the objective of a text.

    Raises:
        ValueError: If a run has no such number, or it is not for choosing by, or not in this direction.
    """
    if text in COSTS:
        if direction == "maximize":
            raise ValueError(f"'{text}' is a cost: its direction is minimize")
        return Objective(text, "", "", "minimize")
    split, _, rest = text.partition(".")
    # Settings of a metric may hold points: valid.all.fbeta(beta=0.5).
    slice_name = re.split(r"[@(]", rest, maxsplit=1)[0].rpartition(".")[0]
    metric = rest.removeprefix(f"{slice_name}.") if slice_name else rest
    if split in ("test", "train"):
        why = "the test split is for the final number only" if split == "test" else "training rows say nothing"
        raise ValueError(f"'{text}': {why}; search on validation rows: {SPLIT}.{rest or 'auc'}")
    if split != SPLIT or not metric:
        hint = nearest(text, [*COSTS, *(f"{SPLIT}.{name}" for name in registry.names("metric"))])
        raise ValueError(f"'{text}' is not SPLIT[.SLICE].METRIC{hint}; e.g. {SPLIT}.auc, {', '.join(COSTS)}")
    if slice_name and slice_name not in _SLICES:
        raise ValueError(f"'{text}': unknown slice '{slice_name}'; slices: {', '.join(_SLICES)}")
    try:
        config = entry_config(metric, registry)
    except SpecError as error:
        raise ValueError(f"'{text}': {error.problems[0].message}") from error
    metric = metric_label(config)
    better = registry.get("metric", config.name).load_factory()(config).higher_is_better
    natural: Direction = "maximize" if better else "minimize"
    if direction not in (None, natural):
        word = "larger" if better else "smaller"
        raise ValueError(f"'{metric}' is better when {word}: its direction is {natural}")
    return Objective(text, slice_name or "all", metric, natural)


def unproduced(file: StudyFile, spec: ResolvedSpec) -> list[Problem]:
    """Returns a problem for every objective that a run of this spec does not give."""
    found = []
    for objective, each in zip(file.objectives, _items(file.node.fields["objective"]), strict=True):
        for field, name in (("slices", objective.slice_name), ("metrics", objective.metric)):
            known = [entry_label(entry) for entry in getattr(spec.evaluate, field)]
            if name and name not in known:
                advice = "add it there"
                if field == "metrics" and name in _ranked(spec):
                    advice = (
                        "metrics of evaluate.ranking are not objectives, since trials rank nothing; choose one of these"
                    )
                message = (
                    f"'{objective.text}': the base does not measure '{name}'; its evaluate.{field} are "
                    f"{', '.join(known)}: {advice}"
                )
                found.append(each.place.problem(message, "study.objective"))
    return found


def _ranked(spec: ResolvedSpec) -> list[str]:
    """Returns the labels of the metrics of ranked lists."""
    ranking = spec.evaluate.ranking
    return [] if ranking is None else [entry_label(entry) for entry in ranking.metrics]


def _items(node: Node) -> tuple[Node, ...]:
    return node.value if isinstance(node.value, tuple) else (node,)
