"""`collm run`: runs a spec or a suite, or shows what it gave before."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from collm.cli.context import (
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
from collm.errors import RunError


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
    _log_to_stderr(debug=state.debug)
    # torch and everything above it load only now, after the spec is known to be good.
    from collm.report.table import results_table
    from collm.runner import RunOptions, run_spec
    from collm.spec.expand import Suite

    options = RunOptions(runs_dir=runs_dir, cache_dir=cache_dir(), device=device, threads=threads)
    if isinstance(loaded, Suite):
        from collm.suite import run_suite

        outcome: dict[str, Any] = run_suite(loaded, state.registry(), options)
        results = list(outcome["runs"])
    else:
        outcome = run_spec(loaded, state.registry(), options)
        results = [outcome]
    if results and all(result.get("reused") for result in results):
        say("everything was finished before; nothing was run")
    failed = dict(outcome.get("failed", {}))
    for key, message in failed.items():
        say(f"{key} failed: {message}")
    if as_json:
        emit_json(outcome)
    else:
        emit_table(*results_table(results))
    if failed:
        raise typer.Exit(RunError.exit_code)


def _log_to_stderr(*, debug: bool) -> None:
    """Shows the harness's own progress lines; other libraries speak up only for warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(handler)
    for name in ("collm", *_plugin_loggers()):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


def _plugin_loggers() -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules if name.startswith("collm_")})
