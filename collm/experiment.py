"""A spec or suite from its file to its results: what `collm run` and `collm.run` share.

Loads without torch, which comes only where something must be computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collm.component import BuildContext
from collm.errors import SpecError, UsageError
from collm.finished import run_folder, stored_outcome
from collm.look import look_around
from collm.registry import Registry
from collm.runs.environment import RunOptions
from collm.runs.records import RunOutcome, SuiteOutcome
from collm.spec.expand import Suite, load_any
from collm.spec.model import ResolvedSpec


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        path: YAML file of a run or a suite.
        cwd: Folder that relative locations in `overrides` resolve against.
        overrides: `path=value` texts.
        only: Names of the suite's runs or ensembles that are wanted; empty = all.
    """

    path: Path
    cwd: Path
    overrides: Sequence[str] = ()
    only: Sequence[str] = ()


@dataclass(frozen=True)
class Loaded:
    """A checked spec or suite.

    Attributes:
        content: The resolved spec, or the suite's runs.
        warnings: Sentences that a user should read before it runs.
    """

    content: ResolvedSpec | Suite
    warnings: tuple[str, ...]


def load_experiment(request: Request, registry: Registry, context: BuildContext) -> Loaded:
    """Reads a spec or suite, and looks at the files that it names.

    What `only` leaves out of a suite is neither resolved nor looked at.

    Args:
        request: What is asked for.
        registry: What is installed.
        context: What components are built with.

    Raises:
        UsageError: If there is no such file.
        SpecError: With every problem of the file, its base and the overrides, or of the files that they name.
    """
    if not request.path.is_file():
        what = "is a folder, not a YAML file" if request.path.is_dir() else "no such file"
        raise UsageError(f"{request.path}: {what}; the working directory is {request.cwd}")
    content = load_any(request.path, request.overrides, registry, cwd=request.cwd, only=request.only)
    specs = _specs(content)
    if problems := look_around(specs, registry, context):
        raise SpecError(problems)
    said = [*(each for spec in specs for each in _warnings(spec)), *_shortlist_warnings(specs)]
    return Loaded(content, tuple(dict.fromkeys(said)))


def _specs(content: ResolvedSpec | Suite) -> list[ResolvedSpec]:
    return [run.spec for run in content.runs] if isinstance(content, Suite) else [content]


def _warnings(spec: ResolvedSpec) -> Iterator[str]:
    for _, _, config in spec.components():
        yield from config.warnings()
    for entry in spec.evaluate.metrics:
        yield from () if isinstance(entry, str) else entry.warnings()
    if spec.evaluate.policy == "frozen" and spec.evaluate.update_epochs != 1:
        yield "Under the policy frozen nothing is updated, so evaluate.update_epochs has no effect."


def _shortlist_warnings(specs: Sequence[ResolvedSpec]) -> Iterator[str]:
    """Names a short list that no run uses; runs of a suite may have it in common with one that does."""
    asked = [spec.evaluate.ranking for spec in specs]
    if any(each is not None and each.shortlist is not None for each in asked) and not any(s.backbone for s in specs):
        yield "Without a language model nothing is ranked again, so evaluate.ranking.shortlist has no effect."


def stored_experiment(
    content: ResolvedSpec | Suite, registry: Registry, options: RunOptions
) -> RunOutcome | SuiteOutcome | None:
    """Returns the stored outcome where nothing is left to do: without torch this takes a moment, not seconds.

    Args:
        content: The resolved spec or suite.
        registry: Where components come from.
        options: Directories.

    Returns:
        None where a run is not finished, or not for the code and files of now.
    """
    if not isinstance(content, Suite):
        return _stored(content, content.name, registry, options)
    results: dict[str, RunOutcome] = {}
    for member in content.runs:
        before = _stored(member.spec, member.run, registry, options)
        if before is None:
            return None
        results[member.key] = before
    from collm.ensemble import run_ensembles

    made, failed = run_ensembles(content, results, registry=registry, runs_dir=options.runs_dir)
    return SuiteOutcome(content.name, (*results.values(), *made.values()), failed)


def _stored(spec: ResolvedSpec, run: str, registry: Registry, options: RunOptions) -> RunOutcome | None:
    context = BuildContext(cache_dir=options.cache_dir, find=registry.get)
    folder = run_folder(spec, registry, runs_dir=options.runs_dir, context=context)
    return stored_outcome(spec, registry, folder=folder, context=context, run=run, says_changes=False)


def run_experiment(content: ResolvedSpec | Suite, registry: Registry, options: RunOptions) -> RunOutcome | SuiteOutcome:
    """Runs what is not finished, and returns the results of everything.

    Args:
        content: The resolved spec or suite.
        registry: Where components come from.
        options: Directories, device, threads, processes.

    Returns:
        The outcome of the spec's run; or of the suite, with the runs that failed.

    Raises:
        CollmError: Of the kind that stopped the run of a spec.
    """
    # torch and everything above it load only now, after the spec is known to be good.
    if isinstance(content, Suite):
        from collm.suite import run_suite

        return run_suite(content, registry, options)
    from collm.runner import run_spec

    return run_spec(content, registry, options)
