"""`collm update`: a finished run goes on with interactions that came later."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from collm.cli.context import JsonOption, RunsDirOption, cache_dir, emit_json, emit_table, find_run, log_lines, state_of
from collm.cli.score import DeviceOption, RunArgument, opened_run


class PolicyName(enum.StrEnum):
    """What an update trains."""

    frozen = "frozen"
    encoder = "encoder"
    encoder_mapping = "encoder+mapping"
    all = "all"


def update(
    context: typer.Context,
    run: RunArgument,
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="NEW_ROWS",
            help="Columns user, item, timestamp, label or rating, and title of new items; CSV, JSON or parquet.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the new run. Default: a name beside RUN."),
    ] = None,
    policy: Annotated[
        PolicyName,
        typer.Option(
            help="frozen: new ids are folded in, nothing else trains; encoder: it trains on from its last weights; "
            "encoder+mapping, all: then the mapping too, and LoRA."
        ),
    ] = PolicyName.encoder,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of the encoder over all rows seen.")] = 5,
    tuning_epochs: Annotated[float, typer.Option(min=0.01, help="Passes of the mapping and LoRA over them.")] = 1.0,
    runs_dir: RunsDirOption = Path("runs"),
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads. Default: torch's own choice.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Update a finished run with new interactions: a run of its own, that names its parent.

    New users and items are folded in. The new rows are scored before anything learns from them: the table says how good
    the parent was on them. What nothing trains (LoRA and mapping under frozen and encoder) stays as it is, bit by bit.
    The same command continues after an interruption (docs/online.md).

    Example: collm update quickstart-mf-bias-7e62ea00aa new.csv -o runs/monday
    """
    from collm.report.run_table import results_table
    from collm.runs.environment import RunOptions
    from collm.stages.updated import UpdateSettings
    from collm.trained.update import update_run

    state = state_of(context)
    path = find_run(run, runs_dir)
    with log_lines(debug=state.debug):
        model = opened_run(context, path, device)
        options = RunOptions(
            runs_dir=model.path.parent,
            cache_dir=cache_dir(),
            device=device,
            threads=threads,
            provenance=state.provenance(path),
        )
        settings = UpdateSettings(policy.value, epochs, tuning_epochs)
        outcome = update_run(model, rows, output, settings, options)
    if as_json:
        emit_json(outcome.plain())
    else:
        emit_table(*results_table([outcome]))
