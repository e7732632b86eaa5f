"""`collm run`: runs a spec or a suite, or shows what it gave before."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import (
    CliState,
    JsonOption,
    RunsDirOption,
    SetOption,
    SpecArgument,
    cache_dir,
    emit_json,
    emit_table,
    say,
    state_of,
)
from collm.component import BuildContext
from collm.errors import RunError
from collm.finished import stored_outcome

if TYPE_CHECKING:
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec


def run(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    device: Annotated[
        str | None, typer.Option(help="Device, e.g. cpu or cuda:0. Default: the first CUDA device, else the processor.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads. Default: torch's own choice.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec or a suite and print the table of its results.

    What is finished is reused; after an interruption the same command continues from the last checkpoint.

    Example: collm run experiments/quickstart.yaml --set tuning.max_rows=200
    """
    state = state_of(context)
    loaded = state.load(spec, overrides)
    outcome = _finished(loaded, state, runs_dir)
    if outcome is not None:
        say("everything was finished before; nothing was run")
    else:
        _log_to_stderr(debug=state.debug)
        outcome = _work(loaded, state, runs_dir=runs_dir, device=device, threads=threads)
    failed = dict(outcome.get("failed", {}))
    for key, message in failed.items():
        say(f"{key} failed: {message}")
    if as_json:
        emit_json(outcome)
    else:
        from collm.report.table import results_table

        emit_table(*results_table(outcome.get("runs", [outcome])))
    if failed:
        raise typer.Exit(RunError.exit_code)


def _finished(loaded: ResolvedSpec | Suite, state: CliState, runs_dir: Path) -> dict[str, Any] | None:
    """Returns the stored outcome where there is nothing left to do: without torch this takes a moment, not seconds."""
    from collm.spec.expand import Suite

    members = [(each.run, each.spec) for each in loaded.runs] if isinstance(loaded, Suite) else [(loaded.name, loaded)]
    results: list[dict[str, Any]] = []
    for run, spec in members:
        before = stored_outcome(
            spec, state.registry(), runs_dir=runs_dir, context=BuildContext(cache_dir=cache_dir()), run=run
        )
        if before is None:
            return None
        results.append(before)
    if isinstance(loaded, Suite):
        return {"schema": 1, "suite": loaded.name, "runs": results, "failed": {}}
    return results[0]


def _work(
    loaded: ResolvedSpec | Suite, state: CliState, *, runs_dir: Path, device: str | None, threads: int | None
) -> dict[str, Any]:
    """Runs what is missing; torch and everything above it load only now, after the spec is known to be good."""
    from collm.runner import RunOptions, run_spec
    from collm.spec.expand import Suite

    options = RunOptions(runs_dir=runs_dir, cache_dir=cache_dir(), device=device, threads=threads)
    if isinstance(loaded, Suite):
        from collm.suite import run_suite

        return run_suite(loaded, state.registry(), options)
    return run_spec(loaded, state.registry(), options)


def _log_to_stderr(*, debug: bool) -> None:
    """Shows the harness's own progress lines; other libraries speak up only for warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(handler)
    for name in ("collm", *_plugin_loggers()):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


def _plugin_loggers() -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules if name.startswith("collm_")})
