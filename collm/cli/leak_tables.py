"""The tables of `collm data check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collm.cli.context import emit_table, say

if TYPE_CHECKING:
    from rich.table import Table

# So that the tables of all metrics stand in the same columns; together they fit 80.
_NAME_WIDTH, _VALUE_WIDTH, _CHANGE_WIDTH = (
    len("similar-title-in-history"),
    len("0.0000 [0.0000, 0.0000]"),
    len("+0.0000"),
)


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
    emit_table(Text(head), _checks_table(shown))
    if found:
        emit_table(_meanings(found), *_titles_line(shown))
    emit_table(*(Text(f"note: {note}") for note in notes))
    for split, parts in shown["measured"].items():
        emit_table(
            Text(f"\n{split}, scores of {shown['scores']}, with and without the rows found"),
            *(_metric(name, parts) for name in parts["all"]["metrics"]),
        )
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
    for each in shown["checks"]:
        table.add_row(each["name"], each["kind"], *(_share(part) for part in each["splits"].values()))
    return table


def _meanings(found: Sequence[dict[str, Any]]) -> Table:
    """Returns what was found and what mends it, beside the names."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for each in found:
        table.add_row(Text(each["name"]), Text(each["meaning"].removeprefix("rows whose ")))
        table.add_row("", Text(f"mended by {each['fix']}"))
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
