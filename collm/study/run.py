"""Starts a study: reads its file, opens its storage, takes in what is known, and runs the trials that are missing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from collm.component import BuildContext
from collm.errors import SpecError
from collm.look import look_around
from collm.registry import Registry
from collm.spec.metric_entries import entry_name
from collm.spec.model import ResolvedSpec
from collm.study.carry_over import continue_where_it_fits
from collm.study.check import CheckedStudy, check_study, probed_specs
from collm.study.definition import open_study
from collm.study.finished_runs import run_folders, take_in
from collm.study.launched import WorkersRequest, run_workers
from collm.study.progress import StudyProgress, say_lines
from collm.study.search_rules import drawn_at_random
from collm.study.storage import StudyStorage
from collm.study.study_file import read_study
from collm.study.trial_queue import TrialQueue
from collm.study.trial_runner import StudyOptions, StudyRunner


def load_study(
    path: Path, overrides: Sequence[str], registry: Registry, *, cwd: Path, options: StudyOptions
) -> CheckedStudy:
    """Reads and checks a study.

    Args:
        path: The study file.
        overrides: `path=value` texts of `--set`.
        registry: What is installed.
        cwd: Folder that relative locations in `overrides` resolve against.
        options: Directories and workers.

    Raises:
        SpecError: With every problem of the file and its search space.
    """
    file = read_study(path, overrides, registry, cwd=cwd, runs_dir=options.runs_dir)
    if file.storage.kind == "sqlite" and options.workers > 1:
        message = "sqlite is for one worker: use journal:PATH on one machine, postgresql:// on several"
        raise SpecError([file.node.nearest(("storage",)).place.problem(message, "study.storage")])
    return check_study(file, registry, BuildContext(cache_dir=options.cache_dir, find=registry.get))


def run_study(
    checked: CheckedStudy, options: StudyOptions, registry: Registry, launched: WorkersRequest | None = None
) -> TrialQueue:
    """Runs the trials that are missing.

    Args:
        checked: The checked study.
        options: Directories and workers.
        registry: What is installed.
        launched: Workers that run the trials in processes of their own, here or on a cluster; None = this process does.

    Returns:
        The study's queue, all of whose trials are finished, or whose time is up.

    Raises:
        SpecError: If files that a trial names are missing, the storage holds another study of this name, or the sampler
            or pruner cannot be built.
        UsageError: If a launcher cannot be used.
        RunError: If the storage cannot be reached, files change meanwhile, or launched workers failed.
    """
    # Showing a study needs no data; running one does.
    specs = list(probed_specs(checked))
    if problems := look_around(specs, registry, checked.context):
        raise SpecError(problems)
    run_folders(checked)
    storage = StudyStorage(checked.file.storage)
    continued = continue_where_it_fits(checked, storage)
    queue = TrialQueue(checked, storage, open_study(checked, storage))
    queue.record_search()
    say_lines(checked.file.name, [line for line in (continued, drawn_at_random(checked.file)) if line])
    say_lines(checked.file.name, take_in(checked, storage, queue.study).lines())
    hours = checked.file.section.hours
    deadline = None if hours is None else time.monotonic() + hours * 3600
    progress = StudyProgress(queue, workers=options.workers)
    progress.start()
    with progress:
        if launched is not None:
            run_workers(queue, launched, progress)
        else:
            StudyRunner(queue, options, modules=_modules(specs, registry), tick=progress.tick).run(deadline)
        progress.show()
    say_lines(checked.file.name, [line for line in (queue.untried_note(),) if line])
    return queue


def _modules(specs: Sequence[ResolvedSpec], registry: Registry) -> tuple[str, ...]:
    """Returns what the fork server loads once for all trials: runner, plugins, the components that are used."""
    used = {(kind, config.name) for spec in specs for _, kind, config in spec.components()}
    used |= {("metric", entry_name(entry)) for spec in specs for entry in spec.evaluate.metrics}
    used |= {("encoder", floor.name) for floor in registry.floors()}
    factories = {registry.get(kind, name).factory.partition(":")[0] for kind, name in used}
    plugins = {registry.origin(each.kind, each.name).module for each in registry.components()}
    return ("collm.runner", *sorted(plugins), *sorted(factories))
