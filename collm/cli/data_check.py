"""`collm data check`: leak checks, and how far a metric rests on the rows that it names."""

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
    emit_table,
    find_run,
    say,
    state_of,
)
from collm.cli.data_source import KeyOption, choose_run, prepare
from collm.errors import RunError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from collm.component import Component
    from collm.data.prepared import PreparedData
    from collm.inspect.leak_checks import Finding
    from collm.registry import Registry
    from collm.spec.model import ResolvedSpec

METRICS = ("auc", "uauc")
_GROUPS = ("leaks", "any")
# So that the tables of all metrics have the same columns; together they fit 80.
_NAME_WIDTH, _VALUE_WIDTH, _CHANGE_WIDTH = (
    len("similar-title-in-history"),
    len("0.0000 [0.0000, 0.0000]"),
    len("+0.0000"),
)


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
            min=0,
            help="Items per history to look at, where an encoder reads more. Default: history.max_items, or "
            "history.max_rated where it is more.",
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
    """Look for leaks in the validation and test rows, name what removes each, and measure without those rows.

    Example: collm data check experiments/quickstart.yaml
    """
    limits = _limits(fail_on or [])
    state = state_of(context)
    chosen, _ = choose_run(state.load(spec, overrides), key)
    folder = None if run is None else find_run(run, runs_dir)
    from collm.inspect.leak_checks import find_leaks

    fitted = _floor(floor, state.registry())
    data, build_context = prepare(chosen, state.registry(), runs_dir)
    # Encoders read `max_items`, whatever prompts list.
    n_items = max(chosen.history.max_items, chosen.history.n_liked) if max_items is None else max_items
    n_disliked = chosen.history.n_disliked
    findings = find_leaks(data, max_items=n_items, max_disliked=n_disliked)
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
        **({"max_disliked": n_disliked} if n_disliked else {}),
        "rows": {split: len(mask) for split, mask in findings[0].affected.items()},
        "checks": [each.plain() for each in findings],
        "scores": f"floor {floor}" if folder is None else f"run {folder.name}",
        "resamples": resamples,
        "measured": _measured(data, findings, scores, state.registry(), resamples),
    }
    if as_json:
        emit_json(shown)
    else:
        _show_leaks(shown, data.notes)
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
        UsageError: If a name is unknown or a share is not a number from 0 to below 1.
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
            raise UsageError(f"--fail-on {text}: '{share}' is not a share; give a number from 0 to below 1, e.g. 0.05")
    return limits


def _run_scores(folder: Path, spec: ResolvedSpec, data: PreparedData, splits: Sequence[str]) -> dict[str, Any]:
    """Returns the scores of a finished run; warns where its histories were not those that are looked at."""
    from collm.inspect.without_rows import run_logits
    from collm.report.collect import read_run
    from collm.spec.sections import HistoryConfig

    # Runs of older versions lack fields that were added with what was done before.
    history = HistoryConfig.model_validate(read_run(folder).spec.get("history", {}))
    if history != spec.history:
        say(
            f"warning: {folder.name} was made with history {history.model_dump(mode='json')}, the spec says "
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
        if each.check.name in limits and (unknown := each.details.get("unknown")):
            passed.append(f"{each.check.name} cannot be known: {unknown}")
        elif allowed and each.share() > min(allowed):
            passed.append(f"{each.check.name} {each.share():.1%} (allowed {min(allowed):.1%})")
    if passed:
        raise RunError(f"--fail-on: {'; '.join(passed)}")


def _show_leaks(shown: dict[str, Any], notes: Sequence[str]) -> None:
    """Prints what was found: checks, what removes them, and metrics with and without the rows."""
    from rich.text import Text

    found = [each for each in shown["checks"] if each["found"]]
    rows = ", ".join(f"{split} {n:,}" for split, n in shown["rows"].items())
    head = f"{shown['dataset']}, {rows} rows; history {shown['visibility']}, at most {shown['max_items']} items"
    if "max_disliked" in shown:
        head += f", and {shown['max_disliked']} disliked ones"
    emit_table(Text(head), _checks_table(shown))
    if found:
        emit_table(_meanings(found), *_titles_line(shown))
    unknown = [f"{each['name']}: {said}" for each in shown["checks"] if (said := each["details"].get("unknown"))]
    emit_table(*(Text(f"unknown: {each}") for each in unknown), *(Text(f"note: {note}") for note in notes))
    for split, parts in shown["measured"].items():
        emit_table(
            Text(f"\n{split}, scores of {shown['scores']}, with and without the rows found"),
            *(_metric(name, parts) for name in parts["all"]["metrics"]),
        )
    if not any(each["kind"] == "leak" for each in found):
        say(f"no leak found{' among those that can be known' if unknown else ''}")


def _checks_table(shown: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for split in shown["rows"]:
        table.add_column(f"{split} rows", justify="right", no_wrap=True)
    for each in shown["checks"]:
        unknown = "unknown" in each["details"]
        cells = ("unknown" if unknown else _share(part) for part in each["splits"].values())
        table.add_row(each["name"], each["kind"], *cells)
    return table


def _meanings(found: Sequence[dict[str, Any]]) -> Table:
    """Returns the names of what was found, with meaning and fix."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for each in found:
        table.add_row(Text(each["name"]), Text(each["meaning"].removeprefix("rows whose ")))
        table.add_row("", Text(f"fix: {each['fix']}"))
    return table


def _share(part: dict[str, Any]) -> str:
    if not part["rows"]:
        return "0"
    percent = f"{part['share']:.1%}" if part["share"] >= 0.0005 else "<0.1%"
    return f"{part['rows']:,} ({percent})"


def _titles_line(shown: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    (details,) = (each["details"] for each in shown["checks"] if each["name"] == "similar-title")
    if not details["items"]:
        return []
    examples = "; ".join(" = ".join(group) for group in details["examples"])
    return [
        Text(
            f"\nsimilar-title: {details['items']:,} items ({details['share_of_items']:.1%}) in {details['groups']:,} "
            f"groups, {details['items_with_identical_title']:,} letter for letter; e.g. {examples}"
        )
    ]


def _metric(name: str, parts: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("without", no_wrap=True, min_width=_NAME_WIDTH)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column(f"{name} [95% interval]", justify="right", no_wrap=True, min_width=_VALUE_WIDTH)
    table.add_column("change", justify="right", no_wrap=True, min_width=_CHANGE_WIDTH)
    for part, record in parts.items():
        cells = _value(record["metrics"][name], parts["all"]["metrics"][name], first=part == "all")
        table.add_row("none, all rows" if part == "all" else part, f"{record['rows']:,}", *cells)
    return table


def _value(record: dict[str, Any], whole: dict[str, Any], *, first: bool) -> list[str]:
    if record["value"] is None:
        return ["not defined", ""]
    ends = "" if record["low"] is None else f" [{record['low']:.4f}, {record['high']:.4f}]"
    change = "" if first or whole["value"] is None else f"{record['value'] - whole['value']:+.4f}"
    return [f"{record['value']:.4f}{ends}", change]
