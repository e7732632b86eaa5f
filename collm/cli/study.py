"""`collm study`: runs a study, shows it, and writes the spec of its best trial."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from collm.cli.context import (
    JsonOption,
    RunsDirOption,
    SetOption,
    cache_dir,
    emit,
    emit_json,
    emit_table,
    say,
    state_of,
)
from collm.cli.launching import (
    CpusOption,
    GpusOption,
    LaunchOptions,
    SlurmOption,
    carried_variables,
    check_shared,
    global_words,
    make_launcher,
)
from collm.errors import RunError, UsageError

if TYPE_CHECKING:
    from collm.cli.context import CliState
    from collm.study.check import CheckedStudy
    from collm.study.launched import WorkersRequest
    from collm.study.trial_queue import TrialQueue
    from collm.study.trial_runner import StudyOptions


class StudyGroup(TyperGroup):
    """`collm study FILE` is `collm study run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `run` before anything that is not a command of the group or --help."""
        if args and args[0] not in self.commands and args[0] not in ("--help",):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=StudyGroup, rich_markup_mode=None, no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a study.", show_default=False)]


@app.callback()
def study() -> None:
    """Search over encoders, backbones, tuning strategies and their settings with Optuna.

    `collm study FILE` is short for `collm study run FILE`.

    Example: collm study experiments/studies/mf-bias.yaml
    """


@app.command("run")
def run(
    context: typer.Context,
    file: FileArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trials that run at once; more may run on other machines. Default: 1; with --launcher local the CUDA "
            "devices, else the cores.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device, e.g. cpu or cuda:0. Default: CUDA devices in turn, else the processor."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads per trial. Default: the cores, shared by the workers.")
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="local|ray[:ADDRESS]|slurm",
            help="Start the workers as processes of their own: on this machine, on a Ray cluster, or as jobs of SLURM.",
            show_default=False,
        ),
    ] = None,
    cpus_per_run: CpusOption = None,
    gpus_per_run: GpusOption = None,
    slurm: SlurmOption = None,
    migrate: Annotated[
        bool,
        typer.Option("--migrate", help="After a changed search space: carry over the trials that lie in it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the trials that are missing, then show the study.

    The same command continues a study, also while it runs elsewhere: all commands share the storage. `--launcher`
    starts several of them at once, on a cluster, too (docs/cluster.md).

    Example: collm study run experiments/studies/mf-bias.yaml --workers 2 --set dataset.path=split.zip
    """
    given = (launcher, workers, cpus_per_run, gpus_per_run, slurm or (), device, threads)
    launch = LaunchOptions(*given, workers_for=("", "local", "ray", "slurm"))
    if launch.kind in ("ray", "slurm") and workers is None:
        raise UsageError(f"--launcher {launcher}: give --workers, the number of trials that run at once")
    # Launched workers are two or more unless one is asked for.
    at_once = workers or (2 if launch.kind else 1)
    options, checked = _checked(context, file, overrides, runs_dir, at_once, device, threads)
    if migrate:
        _migrate(checked)
    from collm.study.run import run_study

    state = state_of(context)
    options = replace(options, provenance=state.provenance(file))
    launched = None
    if launch.kind:
        words = ("study", "run", str(file), *(word for text in overrides or () for word in ("--set", text)))
        launched = _launched(launch, state, runs_dir, words)
    queue = run_study(checked, options, state.registry(), launched)
    _show(queue, as_json=as_json, tracebacks=False)
    if not any(trial.state.name == "COMPLETE" for trial in queue.trials()):
        say("no trial was completed; `collm study show FILE` says why")
        raise typer.Exit(RunError.exit_code)


@app.command("show")
def show(
    context: typer.Context,
    file: FileArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    tracebacks: Annotated[bool, typer.Option("--tracebacks", help="Show every failed trial's traceback.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the trials, what matters in them (importances), the history, and why trials failed.

    Example: collm study show experiments/studies/mf-bias.yaml --html study.html
    """
    _, checked = _checked(context, file, overrides, runs_dir)
    queue = _stored(checked)
    if html is not None:
        from collm.runs.store import write_atomically
        from collm.study.page import study_page

        write_atomically(html, study_page(queue))
        say(f"wrote {html}")
    _show(queue, as_json=as_json, tracebacks=tracebacks)


@app.command("best")
def best(
    context: typer.Context,
    file: FileArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the spec there.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="This trial instead of the best one.")] = None,
) -> None:
    """Write the complete spec of the best trial: `collm run` on it repeats the trial and adds the test numbers.

    Example: collm study best experiments/studies/mf-bias.yaml -o best.yaml
    """
    _, checked = _checked(context, file, overrides, runs_dir)
    from collm.study.show import best_spec

    text, about = best_spec(_stored(checked), trial)
    if output is None:
        emit(text.rstrip("\n"))
    else:
        from collm.runs.store import write_atomically

        write_atomically(output, text)
        say(f"wrote {output}: {about}")


def _launched(launch: LaunchOptions, state: CliState, runs_dir: Path, words: tuple[str, ...]) -> WorkersRequest:
    """Returns what `--launcher` starts: workers with one trial at a time each."""
    from collm.launch.runs import LAUNCHED
    from collm.study.launched import WorkersRequest

    check_shared(launch, runs_dir, "collm study run")
    return WorkersRequest(
        words=(*global_words(state), *words, "--runs-dir", str(runs_dir), "--workers", "1"),
        make=lambda most: make_launcher(launch, runs_dir.absolute() / LAUNCHED / "slurm", n_tasks=most),
        number=launch.workers,
        runs_dir=runs_dir,
        folder=Path.cwd(),
        variables=carried_variables(),
    )


def _checked(
    context: typer.Context,
    file: Path,
    overrides: list[str] | None,
    runs_dir: Path,
    workers: int = 1,
    device: str | None = None,
    threads: int | None = None,
) -> tuple[StudyOptions, CheckedStudy]:
    if not file.is_file():
        what = "is a folder, not a YAML file" if file.is_dir() else "no such file"
        raise UsageError(f"{file}: {what}; the working directory is {Path.cwd()}")
    from collm.runs.remote import place_of, remote_of
    from collm.study.run import load_study
    from collm.study.study_file import DEFAULT_JOURNAL
    from collm.study.trial_runner import StudyOptions

    if threads is None:
        threads = max(1, (os.cpu_count() or 1) // workers)
    options = StudyOptions(runs_dir.absolute(), cache_dir(), threads=threads, device=device, workers=workers)
    registry = state_of(context).registry()
    checked = load_study(file, overrides or (), registry, cwd=Path.cwd(), options=options)
    if remote_of(runs_dir) is not None and checked.file.storage.path == options.runs_dir / DEFAULT_JOURNAL:
        raise UsageError(
            f"{file}: study.storage: is left out, and {place_of(runs_dir)} holds runs and stages, but not what a study "
            "knows of its trials; set it, e.g. --set study.storage=journal:studies.log, or postgresql:// for several "
            "machines"
        )
    return options, checked


def _stored(checked: CheckedStudy) -> TrialQueue:
    from collm.study.definition import existing_study
    from collm.study.storage import StudyStorage
    from collm.study.trial_queue import TrialQueue

    storage = StudyStorage(checked.file.storage)
    return TrialQueue(checked, storage, existing_study(checked.file.name, storage))


def _migrate(checked: CheckedStudy) -> None:
    from collm.study.carry_over import migrate
    from collm.study.storage import StudyStorage

    carried, left, archive = migrate(checked, StudyStorage(checked.file.storage))
    if archive:
        say(f"{checked.file.name}: {carried} trials carried over, {left} left behind; the old study is {archive}")
    else:
        say(f"{checked.file.name}: the search space is as stored; there is nothing to migrate")


def _show(queue: TrialQueue, *, as_json: bool, tracebacks: bool) -> None:
    from collm.study.show import study_data, study_tables

    if as_json:
        emit_json(study_data(queue))
    else:
        emit_table(*study_tables(queue, all_tracebacks=tracebacks))
