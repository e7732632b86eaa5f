"""`collm run`: runs a spec or a suite, or shows what it gave before."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
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
    make_launcher,
)
from collm.cli.processes import meet, started_less_than_asked
from collm.errors import RunError, UsageError
from collm.finished import run_folder, stored_outcome
from collm.process_group import ProcessGroup
from collm.runs.environment import UNRECORDED, Provenance
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
    # Several processes would look at different moments and might not see the same.
    outcome = _finished(loaded, state, runs_dir) if processes.size == 1 else None
    if outcome is not None:
        say("everything was finished before; nothing was run")
    elif kind:
        words = ("run", str(spec), *(word for text in overrides or () for word in ("--set", text)))
        with log_lines(debug=state.debug):
            outcome = _launch(loaded, state, options, _Machine(runs_dir, device, threads, processes, UNRECORDED), words)
    else:
        provenance = state.provenance(spec) if processes.is_main else UNRECORDED
        machine = _Machine(runs_dir, device, threads, processes, provenance)
        work = functools.partial(_work, loaded, state, machine)
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


def _launch(
    loaded: ResolvedSpec | Suite, state: CliState, options: LaunchOptions, machine: _Machine, words: tuple[str, ...]
) -> RunOutcome | SuiteOutcome:
    """Runs what is missing where `--launcher` says; torch loads in the processes that it starts, not here."""
    from collm.launch.runs import LAUNCHED, RunsRequest, launch_runs
    from collm.spec.expand import Suite

    global_words = (*(["--debug"] if state.debug else []), *(["--strict-plugins"] if state.strict_plugins else []))
    request = RunsRequest(
        (*global_words, *words, "--runs-dir", str(machine.runs_dir)),
        machine.runs_dir,
        cache_dir(),
        Path.cwd(),
        carried_variables(),
    )
    folder = machine.runs_dir.absolute() / LAUNCHED / "slurm"
    made = make_launcher(options, folder, n_tasks=len(loaded.runs) if isinstance(loaded, Suite) else 1)
    return launch_runs(loaded, state.registry(), made, request)


def _show(outcome: RunOutcome | SuiteOutcome, *, as_json: bool) -> None:
    if as_json:
        emit_json(outcome.plain())
    else:
        from collm.report.run_table import results_table

        emit_table(*results_table(outcome.runs if isinstance(outcome, SuiteOutcome) else [outcome]))


def _finished(loaded: ResolvedSpec | Suite, state: CliState, runs_dir: Path) -> RunOutcome | SuiteOutcome | None:
    """Returns the stored outcome where there is nothing left to do: without torch this takes a moment, not seconds."""
    from collm.spec.expand import Suite

    if not isinstance(loaded, Suite):
        return _stored(loaded, loaded.name, state, runs_dir)
    results: dict[str, RunOutcome] = {}
    for member in loaded.runs:
        before = _stored(member.spec, member.run, state, runs_dir)
        if before is None:
            return None
        results[member.key] = before
    from collm.ensemble import run_ensembles

    made, failed = run_ensembles(loaded, results, registry=state.registry(), runs_dir=runs_dir)
    return SuiteOutcome(loaded.name, (*results.values(), *made.values()), failed)


def _stored(spec: ResolvedSpec, run: str, state: CliState, runs_dir: Path) -> RunOutcome | None:
    context = state.build_context()
    folder = run_folder(spec, state.registry(), runs_dir=runs_dir, context=context)
    return stored_outcome(spec, state.registry(), folder=folder, context=context, run=run, says_changes=False)


@dataclass(frozen=True)
class _Machine:
    """What `RunOptions` are made of; these load with torch."""

    runs_dir: Path
    device: str | None
    threads: int | None
    processes: ProcessGroup
    provenance: Provenance


def _work(loaded: ResolvedSpec | Suite, state: CliState, machine: _Machine) -> RunOutcome | SuiteOutcome:
    """Runs what is missing; torch and everything above it load only now, after the spec is known to be good."""
    from collm.runner import RunOptions, run_spec
    from collm.spec.expand import Suite

    options = RunOptions(
        runs_dir=machine.runs_dir,
        cache_dir=cache_dir(),
        device=machine.device,
        threads=machine.threads,
        processes=machine.processes,
        provenance=machine.provenance,
    )
    if isinstance(loaded, Suite):
        from collm.suite import run_suite

        return run_suite(loaded, state.registry(), options)
    return run_spec(loaded, state.registry(), options)
