"""`collm data check`: the leak radar, and how far a metric rests on the rows that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import (
    JsonOption,
    RunsDirOption,
    SetOption,
    SpecArgument,
    emit_json,
    say,
    state_of,
)
from collm.cli.data_source import KeyOption, choose_run, prepare
from collm.cli.leak_tables import show_leaks
from collm.cli.score import find_run
from collm.errors import RunError, UsageError

if TYPE_CHECKING:
    from collm.component import Component
    from collm.data.prepared import PreparedData
    from collm.inspect.radar import Finding
    from collm.registry import Registry
    from collm.spec.model import ResolvedSpec

METRICS = ("auc", "uauc")
_GROUPS = ("leaks", "any")


def check(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    key: KeyOption = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Finished run whose scores are measured without the rows found: its folder, or its name in "
            "--runs-dir. Default: a floor is fitted.",
            show_default=False,
        ),
    ] = None,
    floor: Annotated[str, typer.Option(help="Floor that is fitted where no run is given.")] = "item-user-mean",
    max_items: Annotated[
        int | None,
        typer.Option(
            min=0, help="Items per history to look at, where an encoder reads more. Default: history.max_items."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Bootstrap resamples behind each interval; 0 = no intervals, the fastest.")
    ] = 200,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="NAME[:SHARE]",
            help="Exit with 1 where a check finds more than this share of a split's rows (0 if left out). NAME: a "
            "check, `leaks` or `any`. Repeatable.",
            show_default=False,
        ),
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Look for leaks in the validation and test rows, name what mends each, and measure without those rows.

    Example: collm data check experiments/quickstart.yaml
    """
    limits = _limits(fail_on or [])
    state = state_of(context)
    chosen, _ = choose_run(state.load(spec, overrides), key)
    folder = None if run is None else find_run(run, runs_dir)
    from collm.inspect.radar import find_leaks

    fitted = _floor(floor, state.registry())
    data, build_context = prepare(chosen, state.registry(), runs_dir)
    n_items = chosen.history.max_items if max_items is None else max_items
    findings = find_leaks(data, max_items=n_items)
    splits = [split for split, mask in findings[0].affected.items() if len(mask)]
    if folder is None:
        from collm.inspect.without_rows import floor_logits

        scores = floor_logits(fitted, chosen, data, splits, context=build_context)
    else:
        scores = _run_scores(folder, chosen, data, splits)
    shown = {
        "schema": 1,
        "dataset": chosen.dataset.name,
        "visibility": data.visibility,
        "max_items": n_items,
        "rows": {split: len(mask) for split, mask in findings[0].affected.items()},
        "checks": [each.plain() for each in findings],
        "scores": f"floor {floor}" if folder is None else f"run {folder.name}",
        "resamples": resamples,
        "measured": _measured(data, findings, scores, state.registry(), resamples),
    }
    if as_json:
        emit_json(shown)
    else:
        show_leaks(shown, data.notes)
    _end(findings, limits)


def _floor(name: str, registry: Registry) -> Component:
    """Finds a floor by its name.

    Raises:
        UsageError: If there is no floor of that name.
    """
    floors = {component.name: component for component in registry.floors()}
    if name not in floors:
        raise UsageError(f"--floor {name}: no floor of that name; there are: {', '.join(floors)}")
    return floors[name]


def _limits(texts: Sequence[str]) -> dict[str, float]:
    """Reads the `--fail-on` texts.

    Raises:
        UsageError: If a name is unknown or a share is no number from 0 to below 1.
    """
    from collm.inspect.leak_checks import CHECKS

    known = [*(each.name for each in CHECKS), *_GROUPS]
    limits = {}
    for text in texts:
        name, _, share = text.partition(":")
        if name not in known:
            raise UsageError(f"--fail-on {text}: no check '{name}'; there are: {', '.join(known)}")
        try:
            limits[name] = float(share or 0)
        except ValueError:
            limits[name] = -1.0
        if not 0 <= limits[name] < 1:
            raise UsageError(f"--fail-on {text}: '{share}' is no share; give a number from 0 to below 1, e.g. 0.05")
    return limits


def _run_scores(folder: Path, spec: ResolvedSpec, data: PreparedData, splits: Sequence[str]) -> dict[str, Any]:
    """Returns the scores of a finished run; says so where its histories were not those that are looked at."""
    from collm.inspect.without_rows import run_logits
    from collm.report.collect import read_run

    history = read_run(folder).spec.get("history")
    if history != spec.history.model_dump(mode="json"):
        say(
            f"warning: {folder.name} was made with history {history}, the spec says "
            f"{spec.history.model_dump(mode='json')}; give the run's own with --set"
        )
    return run_logits(folder, data, splits)


def _measured(
    data: PreparedData, findings: Sequence[Finding], scores: dict[str, Any], registry: Registry, resamples: int
) -> dict[str, Any]:
    from collm.inspect.without_rows import without_rows
    from collm.stages.evaluate import build_metrics

    return without_rows(data, findings, scores, build_metrics(METRICS, registry), resamples=resamples)


def _end(findings: Sequence[Finding], limits: dict[str, float]) -> None:
    """Fails where a limit is passed."""
    passed = []
    for each in findings:
        names = [each.check.name, "any", *(["leaks"] if each.check.kind == "leak" else [])]
        allowed = [limits[name] for name in names if name in limits]
        if allowed and each.share() > min(allowed):
            passed.append(f"{each.check.name} {each.share():.1%} (allowed {min(allowed):.1%})")
    if passed:
        raise RunError(f"--fail-on: {'; '.join(passed)}")
