"""Measures the cases: memory first, while the measured model is alone, then time, ours and plain in turn."""

from __future__ import annotations

import gc
import logging
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table
from rich.text import Text

from collm.bench.cases import CASES, Amount, Case, CaseName, make_cases
from collm.bench.machine import Clock, ClockName, Peak, matmul_peak, peak_memory_gb
from collm.bench.plain import PlainLoop
from collm.bench.subject import Subject, open_subject
from collm.bench.sweep import Cell, Growth
from collm.component import BuildContext
from collm.engine.device import DTYPES, choose_device, prepare_machine
from collm.errors import UsageError
from collm.registry import Registry
from collm.runs.environment import describe_environment, processor_use
from collm.spec.model import ResolvedSpec

logger = logging.getLogger(__name__)
TITLES = {
    "scoring": "scoring test rows",
    "text_step": "text step (LoRA)",
    "collaborative_step": "collaborative step",
    "collaborative_step_kept": "  a later epoch of it, prefixes kept",
    "ranking_100": "ranking 100 candidates",
}


@dataclass(frozen=True)
class BenchOptions:
    """What is measured and where.

    Attributes:
        cache_dir: User cache for downloads and converted weights.
        cases: Which cases.
        amount: How much of each.
        clock: Which time counts.
        device: Device name; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.
    """

    cache_dir: Path
    cases: Sequence[CaseName] = CASES
    amount: Amount = field(default_factory=Amount)
    clock: ClockName = "wall"
    device: str | None = None
    threads: int | None = None


@dataclass
class CaseResult:
    """What was measured of one case; one entry per piece.

    Attributes:
        name: Which case.
        peak_memory_gb: Peak memory of ours, in 1e9 bytes.
        ours: Samples per second.
        plain: Samples per second of the plain loop.
        tokens_per_s: Distinct tokens per second, ours.
        gflops: Needed operations per second, ours, in 1e9.
        over_text_only: Seconds over those of the text variant for the same rows.
    """

    name: CaseName
    peak_memory_gb: float
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    gflops: list[float] = field(default_factory=list)
    over_text_only: list[float] = field(default_factory=list)

    def summary(self, peak: Peak) -> dict[str, float]:
        """Returns the medians, as `collm bench --json` prints them."""
        ours, plain = statistics.median(self.ours), statistics.median(self.plain)
        return {
            "ours_per_s": ours,
            "plain_per_s": plain,
            "speedup": ours / plain,
            "share_of_peak": statistics.median(self.gflops) / peak.gflops,
            "peak_memory_gb": self.peak_memory_gb,
        }


@dataclass(frozen=True)
class BenchResult:
    """What was measured.

    Attributes:
        peak: The machine's peak in this run.
        cases: Every case that the spec has.
        environment: Versions and machine.
        test_rows: Rows of the whole test split.
    """

    peak: Peak
    cases: Sequence[CaseResult]
    environment: dict[str, Any]
    test_rows: int

    def summary(self) -> dict[str, Any]:
        """Returns the content of `collm bench --json`."""
        cases = {case.name: case.summary(self.peak) for case in self.cases}
        over_step = over_text = None
        if "text_step" in cases and "collaborative_step" in cases:
            over_step = cases["text_step"]["ours_per_s"] / cases["collaborative_step"]["ours_per_s"]
        for case in self.cases:
            if case.over_text_only:
                over_text = statistics.median(case.over_text_only)
        return {
            "peak_gflops": self.peak.gflops,
            "cases": cases,
            "collaborative_over_text_step": over_step,
            "scoring_over_text_only": over_text,
        }

    def details(self) -> dict[str, Any]:
        """Returns the summary with every repetition, the peak's shape and the machine."""
        return self.summary() | {
            "peak_shape": list(self.peak.shape),
            "repetitions": {case.name: vars(case) for case in self.cases},
            "environment": self.environment,
        }


@contextmanager
def opened(spec: ResolvedSpec, registry: Registry, options: BenchOptions) -> Iterator[tuple[Subject, Clock]]:
    """Sets the machine up as a run does, opens the spec, and clears away what it wrote.

    Args:
        spec: A spec with a language model.
        registry: Where components come from.
        options: Device, threads, clock, cache.

    Raises:
        CollmError: If the spec cannot be opened on this machine.
    """
    prepare_machine(options.threads)
    device = choose_device(options.device)
    if options.clock == "processor" and device.type != "cpu":
        raise UsageError(f"--clock processor does not measure work on {device.type}; use --clock wall")
    context = BuildContext(cache_dir=options.cache_dir, find=registry.get)
    with TemporaryDirectory(prefix="collm-bench-") as folder:
        logger.info("opening %s: data, weights, prompts", spec.name)
        yield (
            open_subject(spec, registry, context=context, device=device, folder=Path(folder)),
            Clock(options.clock, device),
        )


def measure(spec: ResolvedSpec, registry: Registry, options: BenchOptions) -> BenchResult:
    """Measures a spec on this machine, beside the plain loop.

    Args:
        spec: A spec with a language model.
        registry: Where components come from.
        options: What is measured and where.

    Returns:
        Medians and everything they come from.

    Raises:
        UsageError: If the spec has none of the cases asked for.
        CollmError: If data or weights are missing.
    """
    with opened(spec, registry, options) as (subject, clock):
        cases = make_cases(subject, options.cases, options.amount, clock)
        if not cases:
            raise UsageError(f"{spec.name}: its tuning strategy has no step for {', '.join(options.cases)}")
        results = []
        for case in cases:
            logger.info("%s: memory", case.name)
            results.append(CaseResult(case.name, peak_memory_gb(case.warm_up, subject.device)))
        assert spec.backbone is not None
        dtype = DTYPES[spec.backbone.dtype]
        before = matmul_peak(dtype, subject.device, clock)
        loop = PlainLoop(subject)
        for case, result in zip(cases, results, strict=True):
            # Once more: the model's weights have moved in memory or changed since, and what was kept is gone.
            case.warm_up()
            loop.take_weights()
            case.plain_warm_up(loop)
            _measure_pieces(case, result, loop, clock)
        # A machine that others use may show its peak only now and then.
        after = matmul_peak(dtype, subject.device, clock)
        peak = max(before, after, key=lambda each: each.gflops)
        return BenchResult(peak, results, describe_environment(), len(subject.data.rows("test")))


def _measure_pieces(case: Case, result: CaseResult, loop: PlainLoop, clock: Clock) -> None:
    for number, piece in enumerate(case.pieces, start=1):
        # What one piece left behind is not cleared away while the next is timed.
        gc.collect()
        seconds = piece.ours(clock)
        result.ours.append(piece.n_ours / seconds)
        result.tokens_per_s.append(piece.tokens / seconds)
        result.gflops.append(piece.flops / seconds / 1e9)
        if piece.plain is not None:
            plain = piece.plain
            result.plain.append(piece.n_plain / clock.seconds(lambda: plain(loop)))  # noqa: B023 - called at once
        if piece.text_only is not None:
            result.over_text_only.append(seconds / clock.seconds(piece.text_only))
        shown = f"{result.ours[-1]:.1f}/s" + (f", plain {result.plain[-1]:.1f}/s" if piece.plain else "")
        logger.info("%s %d/%d: %s", case.name, number, len(case.pieces), shown)


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
    if (facts := result.environment.get("torch")) and not facts["devices"]:
        lines.append(f"Measured with {processor_use(facts)}.")
    if (ratio := content["collaborative_over_text_step"]) is not None:
        lines.append(f"A sample of the collaborative step costs {ratio:.2f} of one of the text step.")
    if "text_step" in content["cases"] and "collaborative_step_kept" in content["cases"]:
        later = content["cases"]["text_step"]["ours_per_s"] / content["cases"]["collaborative_step_kept"]["ours_per_s"]
        lines.append(f"With prefixes kept over epochs (tuning.prefix_cache_gb), a later epoch costs {later:.2f} of it.")
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


def growth_table(rows: Sequence[Growth]) -> Table:
    """Returns the table of calls for more and more rows.

    Args:
        rows: What was measured.
    """
    table = Table(title="Cost per row", title_justify="left")
    for heading in ("rows in one call", "ms per row", "tokens per row", "us per token", "peak memory, GB"):
        table.add_column(heading, justify="right")
    for each in rows:
        table.add_row(
            f"{each.rows:,}",
            f"{each.row_ms:.2f}",
            f"{each.tokens:.1f}",
            f"{each.token_us:.1f}",
            f"{each.peak_memory_gb:.2f}",
        )
    return table


def _with_spread(values: Sequence[float]) -> str:
    median = statistics.median(values)
    return f"{median:,.4g} +-{(max(values) - min(values)) / 2 / median:.0%}"
