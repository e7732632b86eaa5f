"""The tables of `collm data check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collm.cli.context import emit_table, say

if TYPE_CHECKING:
    from rich.table import Table


def show_leaks(shown: dict[str, Any], notes: Sequence[str]) -> None:
    """Prints what the radar found: checks, what mends them, and metrics with and without the rows.

    Args:
        shown: The JSON result.
        notes: Sentences that every results table states.
    """
    from rich.text import Text

    found = [each for each in shown["checks"] if each["found"]]
    rows = ", ".join(f"{split} {n:,}" for split, n in shown["rows"].items())
    head = f"{shown['dataset']}, {rows} rows; history {shown['visibility']}, at most {shown['max_items']} items"
    emit_table(Text(head), _checks_table(shown), *_titles_line(shown))
    mended: dict[str, list[str]] = {}
    for each in found:
        mended.setdefault(each["fix"], []).append(each["name"])
    emit_table(
        *(Text(f"{', '.join(names)}: {fix}") for fix, names in mended.items()),
        *(Text(f"note: {note}") for note in notes),
    )
    for split, parts in shown["measured"].items():
        emit_table(Text(f"\n{split}, scores of {shown['scores']}, with and without the rows found"), _metrics(parts))
    if not any(each["kind"] == "leak" for each in found):
        say("no leak found")


def _checks_table(shown: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for split in shown["rows"]:
        table.add_column(f"{split} rows", justify="right", no_wrap=True)
    table.add_column("rows whose")
    for each in shown["checks"]:
        counts = [_share(part) for part in each["splits"].values()]
        table.add_row(each["name"], each["kind"], *counts, each["meaning"].removeprefix("rows whose "))
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
            f"similar-title: {details['items']:,} items ({details['share_of_items']:.1%}) in {details['groups']:,} "
            f"groups, {details['items_with_identical_title']:,} letter for letter; e.g. {examples}"
        )
    ]


def _metrics(parts: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    names = list(parts["all"]["metrics"])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("without")
    table.add_column("rows", justify="right")
    for name in names:
        table.add_column(f"{name} [95% interval]", justify="right", no_wrap=True)
        table.add_column("change", justify="right", no_wrap=True)
    for part, record in parts.items():
        cells: list[str] = []
        for name in names:
            cells += _value(record["metrics"][name], parts["all"]["metrics"][name], first=part == "all")
        table.add_row("none, all rows" if part == "all" else part, f"{record['rows']:,}", *cells)
    return table


def _value(record: dict[str, Any], whole: dict[str, Any], *, first: bool) -> list[str]:
    if record["value"] is None:
        return ["not defined", ""]
    ends = "" if record["low"] is None else f" [{record['low']:.4f}, {record['high']:.4f}]"
    change = "" if first or whole["value"] is None else f"{record['value'] - whole['value']:+.4f}"
    return [f"{record['value']:.4f}{ends}", change]
