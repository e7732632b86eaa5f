"""`collm bench`: measures a spec's speed and memory on this machine, beside the plain loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from collm.cli.context import (
    CliState,
    JsonOption,
    SetOption,
    SpecArgument,
    cache_dir,
    emit_json,
    emit_table,
    log_lines,
    say,
    state_of,
)
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.bench.measure import BenchOptions
    from collm.spec.model import ResolvedSpec

CASES = ("scoring", "text_step", "collaborative_step", "collaborative_step_kept", "ranking_100")


def bench(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    cases: Annotated[str, typer.Option(metavar="NAMES", help="Cases to measure, separated by commas.")] = ",".join(
        CASES
    ),
    rows: Annotated[int, typer.Option(min=1, help="Consecutive test rows to score.")] = 1_000,
    users: Annotated[int, typer.Option(min=1, help="Users with full history to rank 100 candidates for.")] = 20,
    repetitions: Annotated[
        int, typer.Option(min=1, help="Pieces of scoring and training whose median counts; users of a sweep.")
    ] = 3,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Measure the cost per sample as histories, candidates and rows grow instead."),
    ] = False,
    histories: Annotated[
        str, typer.Option(metavar="NUMBERS", help="With --sweep: titles per prompt, separated by commas.")
    ] = "0,10,50,200",
    candidates: Annotated[
        str, typer.Option(metavar="NUMBERS", help="With --sweep: items ranked at once for one user.")
    ] = "1,10,100,1000,10000",
    row_counts: Annotated[
        str, typer.Option("--row-counts", metavar="NUMBERS", help="With --sweep: rows scored in one call.")
    ] = "1000,10000,100000",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for JSON of every repetition; with --sweep also SVG and PNG.",
            show_default=False,
        ),
    ] = None,
    clock: Annotated[
        Literal["wall", "processor"],
        typer.Option(help="Time that counts; processor time over threads suits a machine that others use too."),
    ] = "wall",
    device: Annotated[
        str | None, typer.Option(help="Device, e.g. cpu or cuda:0. Default: the first CUDA device, else the processor.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads. Default: torch's own choice.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a spec's speed and memory here, beside the plain loop of the same work.

    Weights are fresh and nothing is fitted: the values decide no time. Nothing is written but --output.

    Example: collm bench experiments/benchmarks/tiny.yaml
    """
    state = state_of(context)
    names = _case_names(cases)
    sizes = (
        _numbers("--histories", histories, least=0),
        _numbers("--candidates", candidates, least=1),
        _numbers("--row-counts", row_counts, least=1),
    )
    loaded = _one_spec(state, spec, overrides)

    from collm.bench.cases import Amount
    from collm.bench.measure import BenchOptions

    options = BenchOptions(
        cache_dir=cache_dir(),
        cases=names,
        amount=Amount(rows=rows, users=users, repetitions=repetitions),
        clock=clock,
        device=device,
        threads=threads,
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    with log_lines(debug=state.debug):
        if sweep:
            _sweep(loaded, state, options, output, sizes, as_json=as_json)
        else:
            _bench(loaded, state, options, output, as_json=as_json)


def _bench(spec: ResolvedSpec, state: CliState, options: BenchOptions, output: Path | None, *, as_json: bool) -> None:
    from collm.bench.measure import bench_tables, measure

    result = measure(spec, state.registry(), options)
    if output is not None:
        _write(output / "bench.json", {"spec": spec.name, "clock": options.clock, **result.details()})
    if as_json:
        emit_json(result.summary())
    else:
        emit_table(*bench_tables(result))


def _sweep(
    spec: ResolvedSpec,
    state: CliState,
    options: BenchOptions,
    output: Path | None,
    sizes: tuple[tuple[int, ...], ...],
    *,
    as_json: bool,
) -> None:
    from collm.bench.measure import growth_table, opened, sweep_table
    from collm.bench.sweep import draw_sweep, growth, sweep, sweep_content

    histories, candidates, row_counts = sizes
    with opened(spec, state.registry(), options) as (subject, clock):
        # Memory first, while the plain loop's model is not loaded.
        rows = growth(subject, clock, sizes=row_counts)
        cells = sweep(
            subject, clock, histories=histories, candidates=candidates, repetitions=options.amount.repetitions
        )
    content = {"spec": spec.name, **sweep_content(cells, rows)}
    if output is not None:
        _write(output / "sweep.json", content)
        draw_sweep(cells, [output / "sweep.svg", output / "sweep.png"], title=spec.name)
    if as_json:
        emit_json(content)
    else:
        emit_table(sweep_table(cells), growth_table(rows))


def _one_spec(state: CliState, path: Path, overrides: list[str] | None) -> ResolvedSpec:
    from collm.spec.expand import Suite

    loaded = state.load(path, overrides)
    if isinstance(loaded, Suite):
        raise UsageError(
            f"{path}: holds a suite of {len(loaded.runs)} runs; bench measures one spec, e.g. "
            "experiments/benchmarks/smollm2.yaml"
        )
    if loaded.backbone is None:
        raise UsageError(f"{path}: bench measures a language model, and this spec has no backbone")
    return loaded


def _case_names(text: str) -> tuple[Any, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in CASES]
    if unknown or not names:
        raise UsageError(f"--cases: got '{text}'; the cases are {', '.join(CASES)}")
    return names


def _numbers(option: str, text: str, *, least: int) -> tuple[int, ...]:
    parts = [part.strip().replace("_", "") for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) >= least for part in parts):
        raise UsageError(f"{option}: got '{text}'; give whole numbers of at least {least}, separated by commas")
    return tuple(int(part) for part in parts)


def _write(path: Path, content: dict[str, Any]) -> None:
    from collm.runs.store import write_atomically

    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    say(f"written: {path}")
