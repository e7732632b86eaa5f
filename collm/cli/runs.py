"""`collm runs`: the run folders of a directory: listing, comparing, removing."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from collm.cli.context import (
    JsonOption,
    OnlyOption,
    RunsDirOption,
    SetOption,
    emit,
    emit_json,
    emit_table,
    find_run,
    say,
    state_of,
)
from collm.errors import RunError, UsageError
from collm.runs.files import DONE, LOCK, require_whole
from collm.runs.remote import place_of, remote_of
from collm.runs.remote_lock import LOST_S
from collm.runs.usage import (
    faults_of,
    folder_bytes,
    free_locks,
    is_listed,
    remove_folder,
    run_folders,
    run_state,
    unused_stages,
    written_metrics,
)

app = typer.Typer(rich_markup_mode=None)
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its name in --runs-dir.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]


@app.callback(invoke_without_command=True)
def runs(context: typer.Context, runs_dir: RunsDirOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List run folders with their state, age, size and main metric; diff, pack, rm and gc work on them.

    Example: collm runs --runs-dir runs
    """
    if context.invoked_subcommand is not None:
        return
    found = [_describe(path) for path in run_folders(_directory(runs_dir))]
    metrics = [{} if each["state"] == "damaged" else written_metrics(Path(each["folder"])) for each in found]
    if as_json:
        plain = [each | {"test_auc": _test_auc(own)} for each, own in zip(found, metrics, strict=True)]
        emit_json({"schema": 1, "runs": plain})
        return
    width = max((len(each["folder"]) for each in found), default=0)
    for each, own in zip(found, metrics, strict=True):
        size, number = f"{each['mb']:8.1f} MB", _main_number(own)
        emit(
            f"{each['folder'].ljust(width)}  {each['state']:<10}  {each['age_h']:8.1f} h ago  {size}  {number}".rstrip()
        )


@app.command("diff")
def diff(
    context: typer.Context,
    first: RunArgument,
    second: RunArgument,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show where two finished runs differ: settings, and metrics with paired intervals on the same rows.

    Example: collm runs diff quickstart-mf-bias-7e62ea00aa quickstart-text-only-8b7a287dd1
    """
    from collm.report.difference import difference_table, run_difference

    folders = [find_run(path, runs_dir) for path in (first, second)]
    found = run_difference(folders[0], folders[1], state_of(context).registry())
    if as_json:
        emit_json(found)
    else:
        emit_table(*difference_table(found))


@app.command("rm")
def rm(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their names in --runs-dir.")],
    runs_dir: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
) -> None:
    """Remove run folders. Stages stay, since other runs may use them: `collm runs gc` frees what no run uses.

    Example: collm runs rm quickstart-mf-bias-7e62ea00aa
    """
    _require_folder(runs_dir, "rm")
    folders = [find_run(path, runs_dir) for path in runs]
    _remove(folders, dry_run=dry_run)


@app.command("gc")
def gc(
    runs_dir: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Interrupted stages too; they could otherwise be continued.")
    ] = False,
) -> None:
    """Remove the stages that no run folder uses.

    Example: collm runs gc --dry-run
    """
    _require_folder(runs_dir, "gc")
    _remove([stage.path for stage in unused_stages(_directory(runs_dir), unfinished=unfinished)], dry_run=dry_run)


@app.command("check")
def check(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, or their names. Default: all.")
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Compare the files of runs and of the stages they use with what was written; exit 1 where something is damaged.

    Example: collm runs check --runs-dir runs
    """
    folders = [find_run(path, runs_dir) for path in runs] if runs else run_folders(_directory(runs_dir))
    found = {str(folder): list(faults_of(folder)) for folder in folders}
    unlisted = [str(folder) for folder in folders if (folder / DONE).is_file() and not is_listed(folder)]
    if as_json:
        shown = [
            {"folder": folder, "faults": faults, "listed": folder not in unlisted} for folder, faults in found.items()
        ]
        emit_json({"schema": 1, "runs": shown})
    for folder, faults in {} if as_json else found.items():
        emit("\n".join([f"{folder}: {'damaged' if faults else 'whole'}", *(f"  {fault}" for fault in faults)]))
    if unlisted:
        say(f"without digests, finished by an earlier version, so only presence was looked at: {', '.join(unlisted)}")
    if any(found.values()):
        say("repeat the `collm run` of a damaged run; where a stage alone is damaged, `collm runs rm` the run before")
        raise typer.Exit(RunError.exit_code)


@app.command("pack")
def pack(
    context: typer.Context,
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders or their names, suite or spec files.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="ZIP", help="File to write.")] = Path("results.zip"),
    overrides: SetOption = None,
    only: OnlyOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the stages that trained: fitted encoders, tuning steps.")
    ] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Leave out report.html, .md and .csv.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write finished runs as one zip: specs, results, scores, environment, report; `collm report ZIP` reads it.

    Scores hold raw ids and labels of the rows, so the licence of the data decides who may have them.

    Example: collm runs pack experiments/quickstart.yaml -o results.zip
    """
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; give the name of a file, e.g. -o {output / 'results.zip'}")
    if output.exists() and not force:
        raise UsageError(f"{output}: already exists; choose another name with -o, or overwrite it with --force")
    from collm.report.collect import Reading, collect
    from collm.report.pack import pack as write_pack
    from collm.report.pages import all_pages, no_pages

    state = state_of(context)
    registry = state.registry()
    with tempfile.TemporaryDirectory(prefix="collm-pack-") as scratch:
        unpacked, copies = Path(scratch) / "unpacked", Path(scratch) / "copies"
        unpacked.mkdir()
        reading = Reading(
            runs_dir, registry, state.build_context(), overrides or [], only or [], cwd=Path.cwd(), scratch=unpacked
        )
        pages = no_pages if no_report else functools.partial(all_pages, registry=registry)
        made = write_pack(collect(targets, reading), output, copies, pages=pages, weights=weights)
    runs = f"{made.n_runs} run{'s' if made.n_runs > 1 else ''}"
    emit(f"{output}: {runs}, {made.n_bytes:,} bytes, sha256 {made.sha256}")
    if made.local_paths:
        say(f"places of this machine appear in specs or command lines, e.g. {'; '.join(made.local_paths[:3])}")


@app.command("unlock")
def unlock(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A locked run or stage folder, or its name.")],
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Free all locks of the process that holds a run, where that process is gone with its machine or container.

    Whether a process of another machine still runs cannot be seen from here: make sure that it does not.

    Example: collm runs unlock quickstart-mf-bias-7e62ea00aa
    """
    folder = next((each for each in (run, runs_dir / run) if (each / LOCK).exists()), None) or find_run(run, runs_dir)
    locks = free_locks(folder, runs_dir)
    for path in locks:
        say(f"removed {path}")
    if not locks:
        say(f"{folder}: not locked")
    if remote_of(runs_dir) is not None:
        say(f"locks in {place_of(runs_dir)} are taken over when they were not renewed for {LOST_S:g} seconds")


@app.command("replay")
def replay(context: typer.Context, run: RunArgument, runs_dir: RunsDirOption = Path("runs")) -> None:
    """Tell the installed trackers of a run of the past, from its folder alone.

    Example: COLLM_TENSORBOARD=logs collm runs replay quickstart-mf-bias-7e62ea00aa
    """
    from collm.plugins import Observers
    from collm.runs.store import RunFolder

    folder = RunFolder.at(find_run(run, runs_dir))
    if folder.is_done():
        require_whole(folder.path, advice="repeat its `collm run`")
    hooks = Observers(state_of(context).registry().host)
    try:
        spec = yaml.safe_load((folder.path / "spec.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{folder.path / 'spec.yaml'}: cannot be read ({error}); repeat its `collm run`") from error
    # Trackers mirror what was logged before `run_started`, so that alone replays every step.
    hooks.notify("run_started", run_dir=folder.path, spec=spec)
    if folder.is_done():
        hooks.notify("run_finished", run_dir=folder.path, results=folder.results().plain())
    say(f"replayed {sum(1 for _ in folder.logged_steps())} logged steps of {folder.path}")


def _remove(folders: Sequence[Path], *, dry_run: bool) -> None:
    total = 0
    for folder in folders:
        size = folder_bytes(folder)
        if not dry_run:
            remove_folder(folder)
        total += size
        say(f"{'would remove' if dry_run else 'removed'} {folder} ({size / 1e6:.1f} MB)")
    emit(f"{total / 1e6:.1f} MB in {len(folders)} folders {'would be freed' if dry_run else 'freed'}")


def _require_folder(runs_dir: Path, command: str) -> None:
    if remote_of(runs_dir) is not None:
        raise UsageError(
            f"`collm runs {command}` removes folders of a directory, and {place_of(runs_dir)} is an object store: "
            f"remove `RUN/` or `stages/STAGE/` there with the store's own tools, then {runs_dir}, where this machine "
            "keeps its copies"
        )


def _directory(runs_dir: Path) -> Path:
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir}: no such folder; `collm run SPEC` makes it, --runs-dir chooses another")
    return runs_dir


def _describe(folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "state": run_state(folder),
        "age_h": round((time.time() - folder.stat().st_mtime) / 3600, 2),
        "mb": round(folder_bytes(folder) / 1e6, 3),
    }


def _main_number(metrics: Any) -> str:
    """Returns AUC of all rows of the split that tables show, else the first metric that has a value there."""
    from collm.report.grid import default_split, metric_title

    try:
        split = default_split([metrics])
        found = [
            (part != "all", name != "auc", part, name, float(record["value"]))
            for part, records in metrics[split].items()
            for name, record in records.items()
            if record["value"] is not None
        ]
        *_, part, name, value = min(found, key=lambda each: each[:2])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return ""
    of = split if part == "all" else f"{split} {part}"
    return f"{of} {metric_title(name)} {value:.4f}"


def _test_auc(metrics: Any) -> float | None:
    try:
        return float(metrics["test"]["all"]["auc"]["value"])
    except (KeyError, TypeError, ValueError):
        return None
