"""Whether a study's search and objectives are what its sampler and pruner work with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from collm.errors import Problem
from collm.spec.study_section import DEFAULT_PRUNER

if TYPE_CHECKING:
    from collm.study.study_file import StudyFile

MAX_GRID = 100_000


def sampler_problems(file: StudyFile) -> list[Problem]:
    """Returns what of a study its sampler cannot work with."""
    name, needs, found = file.sampler.name, file.needs, []
    if "every-point" in needs:
        found += _grid_problems(file)
    elif file.section.trials is None:
        message = "required field is missing: trials in total; only a grid ends by itself"
        found.append(problem_at(file, "trials", message))
    if "several-objectives" in needs and len(file.objectives) == 1:
        message = f"{name} is for several objectives; use tpe, gp or random for one"
        found.append(problem_at(file, "sampler.name", message))
    if "one-objective" in needs and len(file.objectives) > 1:
        message = f"{name} is for one objective; use tpe, nsga2 or random for several"
        found.append(problem_at(file, "sampler.name", message))
    n_ranges = len(file.space.ranges())
    if "ranges" in needs and file.space.parameters and n_ranges < 2:
        message = f"{name} searches ranges (low, high) outside of groups, at least two; here are {n_ranges}: use tpe"
        found.append(problem_at(file, "sampler.name", message))
    return found


def drawn_at_random(file: StudyFile) -> str:
    """Returns which fields the sampler does not model, one sentence; empty where it models all."""
    names = {each.name for each in file.space.ranges()}
    others = [each.name for each in file.space.all() if each.name not in names and not each.fixed]
    if "ranges" not in file.needs or not others:
        return ""
    return f"{file.sampler.name} models {', '.join(sorted(names))}; drawn at random: {', '.join(others)}"


def _grid_problems(file: StudyFile) -> list[Problem]:
    found = []
    if file.space.conditional:
        message = "grid cannot search conditional groups: use tpe or random, or one study per group"
        found.append(problem_at(file, "sampler.name", message))
    for parameter in file.space.all():
        if parameter.n_values() is None:
            message = f"grid needs every value: give '{parameter.path}' a step without log, or choices"
            found.append(parameter.place.problem(message, f"study.search.{parameter.path}"))
    points = math.prod(parameter.n_values() or 1 for parameter in file.space.all())
    if points > MAX_GRID:
        message = f"the grid has {points:,} points, at most {MAX_GRID:,}: use tpe or random"
        found.append(problem_at(file, "sampler.name", message))
    return found


def pruner_problems(file: StudyFile) -> list[Problem]:
    """Returns what of a study its pruner cannot work with."""
    if file.pruner.name == DEFAULT_PRUNER or not file.objectives:
        return []
    if len(file.objectives) > 1:
        message = "several objectives cannot be pruned: a validation AUC does not rank them; use none"
        return [problem_at(file, "pruner.name", message)]
    if file.objectives[0].direction == "minimize":
        message = f"pruning goes by validation AUC, which does not rank {file.objectives[0].text}"
        return [problem_at(file, "pruner.name", message)]
    return []


def problem_at(file: StudyFile, key: str, message: str) -> Problem:
    """Returns a problem at a field of the `study` section, or at the nearest part of it that is written."""
    return file.node.nearest(tuple(key.split("."))).place.problem(message, f"study.{key}")
