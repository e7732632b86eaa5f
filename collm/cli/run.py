"""`collm run`: runs a spec or a suite, or shows what it gave before."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.cli.context import (
    CliState,
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
from collm.cli.launching import (
    CpusOption,
    GpusOption,
    LauncherOption,
    LaunchOptions,
    SlurmOption,
    WorkersOption,
    carried_variables,
    check_shared,
    global_words,
    make_launcher,
)
from collm.cli.processes import meet, started_less_than_asked
from collm.errors import CollmError, RunError, UsageError
from collm.experiment import run_experiment, stored_experiment
from collm.runs.environment import RunOptions
from collm.runs.records import RunOutcome, SuiteOutcome

if TYPE_CHECKING:
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec


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
    launcher: LauncherOption = None,
    workers: WorkersOption = None,
    cpus_per_run: CpusOption = None,
    gpus_per_run: GpusOption = None,
    slurm: SlurmOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec or a suite and print the table of its results.

    What is finished is reused; after an interruption the same command continues from the last checkpoint. `--only mf`
    runs one row of a suite, in the same folder that the whole suite would give it. `--launcher` runs each in a process
    of its own, several at once, with the same results (docs/cluster.md).

    Example: collm run experiments/quickstart.yaml --set tuning.max_rows=200
    """
    options = LaunchOptions(launcher, workers, cpus_per_run, gpus_per_run, slurm or (), device, threads)
    kind, state, processes = options.kind, state_of(context), meet(device)
    if kind and processes.size > 1:
        raise UsageError(f"--launcher {launcher}: starts processes itself; leave out torchrun or accelerate, or this")
    if started_less_than_asked():
        say("warning: one process works: `accelerate launch --cpu` starts more only with MPI (docs/cluster.md)")
    loaded = processes.run_on_all(lambda: state.load(spec, overrides, only))
    machine = RunOptions(runs_dir, cache_dir(), device, threads, processes)
    # Several processes would look at different moments and might not see the same.
    outcome = stored_experiment(loaded, state.registry(), machine) if processes.size == 1 else None
    if outcome is not None:
        say("everything was finished before; nothing was run")
    elif kind:
        words = ("run", str(spec), *(word for text in overrides or () for word in ("--set", text)))
        with log_lines(debug=state.debug):
            outcome = _launch(loaded, state, options, machine, words)
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
        _show(outcome, state, runs_dir, as_json=as_json)
    if failed:
        raise typer.Exit(RunError.exit_code)


def _launch(
    loaded: ResolvedSpec | Suite, state: CliState, options: LaunchOptions, machine: RunOptions, words: tuple[str, ...]
) -> RunOutcome | SuiteOutcome:
    """Runs what is missing where `--launcher` says; torch loads in the processes that it starts, not here."""
    from collm.launch.runs import LAUNCHED, RunsRequest, launch_runs
    from collm.spec.expand import Suite

    check_shared(options, machine.runs_dir, "collm run")
    request = RunsRequest(
        (*global_words(state), *words, "--runs-dir", str(machine.runs_dir)),
        machine.runs_dir,
        cache_dir(),
        Path.cwd(),
        carried_variables(),
    )
    folder = machine.runs_dir.absolute() / LAUNCHED / "slurm"
    made = make_launcher(options, folder, n_tasks=len(loaded.runs) if isinstance(loaded, Suite) else 1)
    return launch_runs(loaded, state.registry(), made, request)


def _show(outcome: RunOutcome | SuiteOutcome, state: CliState, runs_dir: Path, *, as_json: bool) -> None:
    if as_json:
        emit_json(outcome.plain())
        return
    from collm.report.grid import bullets
    from collm.report.run_table import results_table

    runs = outcome.runs if isinstance(outcome, SuiteOutcome) else (outcome,)
    emit_table(*results_table(runs), *bullets("in words", _in_words(runs, state, runs_dir)))


def _in_words(runs: Sequence[RunOutcome], state: CliState, runs_dir: Path) -> tuple[str, ...]:
    """Returns the sentences of the runs' report; none where they cannot be reported together."""
    from collm.report.collect import Reading
    from collm.report.pages import run_verdicts

    try:
        return run_verdicts(runs, Reading(runs_dir, state.registry(), state.build_context()))
    except CollmError as error:
        return (f"`collm report` cannot compare these runs: {error}",)
