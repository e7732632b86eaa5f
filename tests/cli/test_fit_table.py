"""Tables at any width: no column is lost, no cell is cut."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from collm.cli.output import fit_table

METRICS = ["AUC", "uAUC", "NDCG", "GAUC", "logloss", "accuracy", "recall-10", "hit-rate-at-10", "ece"]
WIDTHS = [60, 80, 100, 120, 200]


def results(names: list[str], metrics: list[str], note: str = "") -> Table:
    table = Table(title="test, all rows", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold", min_width=12)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True, overflow="fold")
    table.add_column("made with", overflow="fold")
    for row, name in enumerate(names):
        cells = [f"0.{row}{place:03d} [0.{row}{place:02d}, 0.9{place:02d}]" for place, _ in enumerate(metrics)]
        table.add_row(Text(name), *map(Text, cells), Text(note))
    return table


def lines(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    for part in fit_table(table, width):
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def squeezed(texts: list[str]) -> str:
    return re.sub(r"\s+", "", "".join(texts))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", range(1, len(METRICS) + 1))
def test_every_metric_is_whole_with_its_method(width: int, n: int) -> None:
    names = ["bias-logistic", "collm-mf-bias-with-a-long-name"]
    shown = lines(results(names, METRICS[:n], "smollm2-135m, 33,891 rows, 400 + 400 steps"), width)
    text = "\n".join(shown)
    assert "…" not in text
    assert max(map(len, shown)) <= width
    for place, metric in enumerate(METRICS[:n]):
        assert re.search(rf"\b{metric}\b", text)
        for row in range(2):
            assert f"0.{row}{place:03d} [0.{row}{place:02d}, 0.9{place:02d}]" in text
    # Every row of numbers begins with its method: the floor's name comes before each of its numbers.
    numbers = [line for line in shown if re.search(r"0\.0\d{3} \[", line)]
    assert numbers
    assert all(line.strip().startswith("bias-logistic") for line in numbers)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.text("abcdefghij-0123456789", min_size=1, max_size=70), min_size=1, max_size=4),
    n=st.integers(1, len(METRICS)),
    note=st.text("abc ,é漢", max_size=90),
    width=st.integers(45, 220),
)
def test_no_character_is_lost(names: list[str], n: int, note: str, width: int) -> None:
    table = results(names, METRICS[:n], note)
    shown = lines(table, width)
    text = "\n".join(shown)
    assert "…" not in text
    for row in range(len(names)):
        for place in range(n):
            assert f"0.{row}{place:03d} [0.{row}{place:02d}, 0.9{place:02d}]" in text
    wide = squeezed(lines(table, 10_000))
    assert sorted(set(wide)) == sorted(set(squeezed(shown)) - (set("(continued)") - set(wide)))


def test_the_least_width_of_a_column_counts() -> None:
    """`method` is 12 wide at least, whatever it holds: at 47 columns the last heading does not fit beside it."""
    text = "\n".join(lines(results(["0"], METRICS[:1]), 47))
    assert "made with" in text


def test_a_table_that_fits_is_left_alone() -> None:
    table = results(["mf"], ["AUC"])
    assert fit_table(table, 120) == [table]


def test_what_does_not_fit_goes_below_under_the_same_title() -> None:
    parts = fit_table(results(["mf"], METRICS[:6]), 80)
    assert len(parts) > 1
    assert [str(part.title) for part in parts] == ["test, all rows", *["test, all rows (continued)"] * (len(parts) - 1)]
    assert all(str(part.columns[0].header) == "method" for part in parts)


def test_a_number_wider_than_the_line_wraps_and_is_not_cut() -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method")
    table.add_column("value", no_wrap=True, justify="right")
    table.add_row("a-name-of-some-length", "0.123456789 [0.111111111, 0.222222222]")
    shown = squeezed(lines(table, 30))
    assert "…" not in shown
    assert re.sub(r"[^0-9]", "", shown) == re.sub(r"[^0-9]", "", "0.123456789 [0.111111111, 0.222222222]")
