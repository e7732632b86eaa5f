"""A study file -> what it says, checked for itself; whether its points resolve is asked in `check`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.component_config import ConfigReader
from collm.spec.node import Node, Place
from collm.spec.override import apply_overrides
from collm.spec.problems import unknown_key
from collm.spec.read import read_file
from collm.spec.resolve import TOP_LEVEL, in_file_order
from collm.spec.study_section import StudySection
from collm.spec.suite_file import read_suite
from collm.study.objective import Objective, read_objectives
from collm.study.space import Space
from collm.study.space_file import read_search
from collm.study.storage import StorageAddress, read_address

KEYS = ("name", "base", "study")
DEFAULT_JOURNAL = "studies.log"
MAX_GRID = 100_000


@dataclass(frozen=True)
class StudyFile:
    """A study as written.

    Attributes:
        name: Its name, also in Optuna.
        place: Where the file starts.
        base: The base spec, overrides applied.
        node: The `study` section as written.
        section: Its plain fields.
        objectives: At least one.
        space: What is searched.
        storage: Where trials are kept.
    """

    name: str
    place: Place
    base: Node
    node: Node
    section: StudySection
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
        message = "is no study file: a study has `name`, `base` and `study`; run a spec or suite with `collm run`"
        raise SpecError([document.place.problem(message)])
    own = [text for text in overrides if text.startswith("study.")]
    document = apply_overrides(document, own, cwd=cwd)
    problems: list[Problem] = []
    for key, node in document.fields.items():
        if key not in KEYS:
            hint = " (it belongs into `base`)" if key in TOP_LEVEL else ""
            problems.append(node.where.problem(unknown_key(key, KEYS, what="study file section") + hint, key))
    name, base = _base(document, path, problems)
    base = apply_overrides(base, [text for text in overrides if text not in own], cwd=cwd)
    study = document.fields["study"]
    file = _read_section(study, registry, runs_dir, problems)
    if problems or file is None:
        raise SpecError(in_file_order(problems))
    return replace(file, name=name, place=document.place, base=base)


def _base(document: Node, path: Path, problems: list[Problem]) -> tuple[str, Node]:
    """Reads name and base by the rules of a suite, which has the same two."""
    as_suite = document.with_fields({key: node for key, node in document.fields.items() if key in ("name", "base")})
    try:
        suite = read_suite(as_suite, path)
    except SpecError as error:
        for problem in error.problems:
            message = problem.message.replace("name of the suite", "name of the study")
            problems.append(replace(problem, message=message.replace("a suite's base", "a study's base")))
        return "study", Node({}, document.place)
    return suite.name, suite.base


def _read_section(study: Node, registry: Registry, runs_dir: Path, problems: list[Problem]) -> StudyFile | None:
    if not isinstance(study.value, Mapping):
        problems.append(study.place.problem(f"got {study.shown()}, must be a mapping with `objective`, `search`, ..."))
        return None
    reader = ConfigReader(registry)
    section: StudySection | None = reader.read(StudySection, study, ("study",))
    problems.extend(reader.problems)
    storage = read_address(study.fields.get("storage"), runs_dir.absolute() / DEFAULT_JOURNAL, problems)
    search = study.fields.get("search")
    before = len(problems)
    parameters = read_search(search, problems) if search is not None and isinstance(search.value, Mapping) else ()
    search_is_read = len(problems) == before
    objectives = read_objectives(study, registry, problems)
    if section is None:
        return None
    file = StudyFile("", study.place, study, study, section, objectives, Space(parameters), storage)
    problems.extend(_across(file, search_is_read=search_is_read))
    return file


def _across(file: StudyFile, *, search_is_read: bool) -> list[Problem]:
    """Rules that span fields of the section; a search with mistakes in it is not called empty as well."""
    section, found = file.section, []

    def refuse(key: str, message: str) -> None:
        found.append(file.node.nearest(tuple(key.split("."))).place.problem(message, f"study.{key}"))

    if section.sampler.name == "grid":
        if file.space.conditional:
            refuse("sampler.name", "grid cannot search conditional groups: use tpe or random, or one study per group")
        for parameter in file.space.all():
            if parameter.n_values() is None:
                message = f"grid needs every value: give '{parameter.path}' a step without log, or choices"
                found.append(parameter.place.problem(message, f"study.search.{parameter.path}"))
        points = math.prod(parameter.n_values() or 1 for parameter in file.space.all())
        if points > MAX_GRID:
            refuse("sampler.name", f"the grid has {points:,} points, at most {MAX_GRID:,}: use tpe or random")
    elif section.trials is None:
        refuse("trials", "required field is missing: trials in total; only a grid ends by itself")
    if section.pruner.name != "none" and file.objectives:
        if len(file.objectives) > 1:
            refuse("pruner.name", "several objectives cannot be pruned: a validation AUC does not rank them; use none")
        elif file.objectives[0].direction == "minimize":
            refuse("pruner.name", f"pruning goes by validation AUC, which does not rank {file.objectives[0].text}")
    if section.sampler.name == "nsga2" and len(file.objectives) == 1:
        refuse("sampler.name", "nsga2 is for several objectives; use tpe, gp or random for one")
    if search_is_read and file.space.parameters and all(parameter.fixed for parameter in file.space.all()):
        refuse("search", "every field has one value: there is nothing to search")
    return found
