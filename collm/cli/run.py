"""`collm run`: runs a spec or a suite, or shows what it gave before."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from collm.cli.context import (
    JsonOption,
    OnlyOption,
    RunsDirOption,
    SetOption,
    SpecArgument,
    cache_dir,
    emit_json,
    emit_table,
    log_lines,
    say,
    state_of,
)
from collm.cli.processes import meet, started_less_than_asked
from collm.errors import RunError
from collm.experiment import run_experiment, stored_experiment
from collm.runs.options import RunOptions
from collm.runs.records import RunOutcome, SuiteOutcome


def run(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    only: OnlyOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    device: Annotated[
        str | None, typer.Option(help="Device, e.g. cpu or cuda:0. Default: the first CUDA device, else the processor.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads. Default: torch's own choice.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec or a suite and print the table of its results.

    What is finished is reused; after an interruption the same command continues from the last checkpoint. `--only mf`
    runs one row of a suite, in the same folder that the whole suite would give it.

    Example: collm run experiments/quickstart.yaml --set tuning.max_rows=200
    """
    state, processes = state_of(context), meet(device)
    if started_less_than_asked():
        say("warning: one process works: `accelerate launch --cpu` starts more only with MPI (docs/cluster.md)")
    loaded = processes.run_on_all(lambda: state.load(spec, overrides, only))
    machine = RunOptions(runs_dir, cache_dir(), device, threads, processes)
    # Several processes would look at different moments and might not see the same.
    outcome = stored_experiment(loaded, state.registry(), machine) if processes.size == 1 else None
    if outcome is not None:
        say("everything was finished before; nothing was run")
    else:
        if processes.is_main:
            machine = replace(machine, provenance=state.provenance(spec))
        work = functools.partial(run_experiment, loaded, state.registry(), machine)
        with log_lines(debug=state.debug) if processes.is_main else contextlib.nullcontext():
            outcome = processes.run_on_all(work)
    processes.close()
    failed = outcome.failed if isinstance(outcome, SuiteOutcome) else {}
    for key, message in failed.items():
        say(f"{key} failed: {message}")
    if processes.is_main:
        _show(outcome, as_json=as_json)
    if failed:
        raise typer.Exit(RunError.exit_code)


def _show(outcome: RunOutcome | SuiteOutcome, *, as_json: bool) -> None:
    if as_json:
        emit_json(outcome.plain())
    else:
        from collm.report.run_table import results_table

        emit_table(*results_table(outcome.runs if isinstance(outcome, SuiteOutcome) else [outcome]))
