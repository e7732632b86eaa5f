"""Measurements as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from collm.bench.measure import BenchResult
from collm.bench.sweep import Cell

TITLES = {
    "scoring": "scoring test rows",
    "text_step": "text step (LoRA)",
    "collaborative_step": "collaborative step",
    "collaborative_step_kept": "  a later epoch of it, prefixes kept",
    "ranking_100": "ranking 100 candidates",
}


def bench_tables(result: BenchResult) -> list[Table | Text]:
    """Returns the table of cases and the lines under it.

    Args:
        result: What was measured.
    """
    content = result.summary()
    table = Table(title="Samples per second: medians, and half the range from lowest to highest", title_justify="left")
    table.add_column("work")
    for heading in ("ours", "plain loop", "speedup", "tokens/s", "of peak", "GB", "pieces"):
        table.add_column(heading, justify="right")
    for case in result.cases:
        row = content["cases"][case.name]
        table.add_row(
            TITLES[case.name],
            _with_spread(case.ours),
            _with_spread(case.plain),
            f"{row['speedup']:.2f}x",
            f"{statistics.median(case.tokens_per_s):,.0f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['peak_memory_gb']:.2f}",
            f"{len(case.ours)}/{len(case.plain)}",
        )
    rows, inputs, outputs = result.peak.shape
    lines = [f"Measured peak: {result.peak.gflops:,.1f} GFLOP/s ({rows} x {inputs} x {outputs}, best of all shapes)."]
    if (ratio := content["collaborative_over_text_step"]) is not None:
        lines.append(f"A sample of the collaborative step costs {ratio:.2f} of one of the text step.")
    if "text_step" in content["cases"] and "collaborative_step_kept" in content["cases"]:
        later = content["cases"]["text_step"]["ours_per_s"] / content["cases"]["collaborative_step_kept"]["ours_per_s"]
        lines.append(
            f"With prefixes kept over epochs (tuning.prefix_cache_gb), a later epoch costs {later:.2f} of it."
        )
    if (ratio := content["scoring_over_text_only"]) is not None:
        lines.append(f"Scoring costs {ratio:.2f} of scoring the same rows with the text-only prompt.")
    return [table, Text("\n".join(lines))]


def sweep_table(cells: Sequence[Cell]) -> Table:
    """Returns the table of a sweep.

    Args:
        cells: What was measured.
    """
    table = Table(title="Cost per candidate", title_justify="left")
    for heading in ("history, titles", "candidates", "ours, ms", "plain loop, ms", "speedup", "tokens", "in prompt"):
        table.add_column(heading, justify="right")
    for cell in cells:
        table.add_row(
            str(cell.history),
            f"{cell.candidates:,}",
            f"{cell.ours_ms:.2f}",
            f"{cell.plain_ms:.2f}",
            f"{cell.plain_ms / cell.ours_ms:.2f}x",
            f"{cell.tokens:.1f}",
            f"{cell.prompt_tokens:.1f}",
        )
    return table


def _with_spread(values: Sequence[float]) -> str:
    median = statistics.median(values)
    return f"{median:,.4g} +-{(max(values) - min(values)) / 2 / median:.0%}"
