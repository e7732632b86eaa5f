"""`collm data describe`: what a dataset holds under a spec's protocol, with a picture and its longest prompts."""

from __future__ import annotations

from dataclasses import asdict
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
    say,
    state_of,
)
from collm.cli.data_source import KeyOption, choose_run, prepare
from collm.errors import CollmError

if TYPE_CHECKING:
    from rich.table import Table

    from collm.contracts.prompt import Variant
    from collm.data.prepared import PreparedData
    from collm.inspect.longest_prompts import Encodes
    from collm.registry import Registry
    from collm.spec.model import ResolvedSpec

_SHOWN_CHARACTERS = 400


def describe(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    key: KeyOption = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a picture: .png, .svg or .pdf.", show_default=False)
    ] = None,
    longest: Annotated[int, typer.Option(min=0, help="Longest prompts to show.")] = 3,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Count rows, labels, times, histories, warm and cold rows per split, and find the longest prompts.

    Example: collm data describe experiments/quickstart.yaml --picture data.png
    """
    state = state_of(context)
    chosen, chosen_key = choose_run(state.load(spec, overrides), key, prefer=lambda each: each.prompt is not None)
    from collm.inspect.description import describe as describe_data
    from collm.report.data_picture import check_picture, write_picture

    if picture is not None:
        check_picture(picture)
    data, _ = prepare(chosen, state.registry(), runs_dir)
    found = describe_data(data, max_items=chosen.history.max_items, warm=chosen.slices.warm, cold=chosen.slices.cold)
    if picture is not None:
        write_picture(found, picture, title=f"{chosen.dataset.name} ({chosen.name})")
        say(f"wrote {picture}")
    shown: dict[str, Any] = {
        "schema": 1,
        "dataset": chosen.dataset.name,
        "slices": chosen.slices.model_dump(mode="json"),
    }
    shown |= found.plain()
    shown["longest_prompts"] = _longest(chosen, data, longest, state.registry(), runs_dir)
    if as_json:
        emit_json(shown)
        return
    _show(shown)
    command = f"collm prompt {spec}" + (f" --key {chosen_key}" if chosen_key else "")
    _show_prompts(shown["longest_prompts"], command)


def _longest(
    spec: ResolvedSpec, data: PreparedData, n: int, registry: Registry, runs_dir: Path
) -> list[dict[str, Any]] | None:
    """Returns the longest prompts; None where the spec has no language model."""
    if spec.prompt is None or spec.tuning is None:
        return None
    from collm.engine.prompt_lists import PromptLists
    from collm.inspect.longest_prompts import Wording, longest_prompts

    template = registry.get("prompt", spec.prompt.name).load_factory()(spec.prompt).under(spec.history.include)
    strategy = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning)
    wording = Wording(template, strategy.variant, PromptLists.of(spec.history, data))
    encode = _encoder(spec, strategy.variant, registry, runs_dir) if n else None
    return [asdict(each) for each in longest_prompts(data, wording, n=n, encode=encode)]


def _encoder(spec: ResolvedSpec, variant: Variant, registry: Registry, runs_dir: Path) -> Encodes | None:
    """Returns what counts tokens, None where the tokenizer is not at hand: a description needs no weights."""
    from collm.cli.prompt import language_model

    try:
        source = language_model(spec, registry=registry, runs_dir=runs_dir).prompts.source(variant)
    except CollmError as error:
        say(f"tokens are not counted, the tokenizer is not at hand: {error}")
        return None
    return lambda rows: source.encode(rows).prompts


def _show(shown: dict[str, Any]) -> None:
    from rich.text import Text

    counts, full = shown["counts"], shown["full_counts"]
    lines = [
        f"{shown['dataset']}: {counts['users']:,} users, {counts['items']:,} items; history {shown['visibility']}, "
        f"at most {shown['max_items']} items; warm {shown['slices']['warm']}, cold {shown['slices']['cold']}"
    ]
    cut = [f"{split} {counts[split]:,} of {full[split]:,}" for split in shown["splits"] if counts[split] < full[split]]
    if cut:
        lines.append(f"rows given out by dataset.limit: {', '.join(cut)}")
    emit_table(*(Text(line) for line in lines), _splits_table(shown))
    items = shown["item_train_rows"]
    quantiles = ", ".join(f"{name} {value:,.0f}" for name, value in items.items() if value is not None)
    parts = " ".join(next(iter(shown["splits"].values()))["history_length"])
    tail = [
        f"history length: items shown, at {parts} of the rows",
        f"training rows per item: {quantiles or 'none'}",
        f"rows that share user and second with another: {shown['rows_sharing_a_second']:.1%}",
        f"ties: {shown['tie_rule']}",
        *(f"note: {note}" for note in shown["notes"]),
    ]
    emit_table(*(Text(line) for line in tail))


def _splits_table(shown: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for split in shown["splits"]:
        table.add_column(split, justify="right", no_wrap=True)
    facts = list(shown["splits"].values())
    for name in ("rows", "users", "items"):
        table.add_row(name, *(f"{each[name]:,}" for each in facts))
    table.add_row("label 1", *(_percent(each["positive_share"]) for each in facts))
    for name in ("first", "last"):
        table.add_row(
            f"{name} row (UTC)" if shown["dated"] else f"{name} line", *(_minute(each[name]) for each in facts)
        )
    lengths = [
        " ".join("-" if value is None else str(value) for value in each["history_length"].values()) for each in facts
    ]
    table.add_row("history length", *lengths)
    table.add_row("empty history", *(_percent(each["empty_history_share"]) for each in facts))
    table.add_row("warm", *(_percent(each["warm_share"]) for each in facts))
    table.add_row("cold", *(_percent(each["cold_share"]) for each in facts))
    return table


def _minute(time: str | None) -> str:
    """Returns a time to the minute; a number where no calendar has it."""
    return "-" if time is None else time.removesuffix("Z")[:16].replace("T", " ")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _show_prompts(prompts: list[dict[str, Any]] | None, command: str) -> None:
    from rich.text import Text

    if prompts is None:
        say("this spec asks no language model, so there are no prompts")
        return
    for place, each in enumerate(prompts, start=1):
        tokens = "" if each["tokens"] is None else f"{each['tokens']:,} tokens, "
        cut = "" if each["history_shown"] in (None, each["history"]) else f", {each['history_shown']} of them fit"
        emit_table(
            Text(
                f"\nlongest prompt {place} ({each['split']}): {tokens}{each['characters']:,} characters, "
                f"{each['history']} titles{cut}"
            ),
            Text(f"{command} --row {each['row']}"),
            Text(each["text"][:_SHOWN_CHARACTERS] + (" ..." if len(each["text"]) > _SHOWN_CHARACTERS else "")),
        )
