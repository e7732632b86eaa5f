"""`collm score`, `scores` and `export`: what a finished run says of pairs, its stored scores, and its weights."""

from __future__ import annotations

import enum
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.cli.context import JsonOption, RunsDirOption, cache_dir, emit, emit_json, emit_table, find_run, say, state_of
from collm.cli.score_shards import ShardOptions, score_in_shards
from collm.errors import UsageError
from collm.visible import visible

if TYPE_CHECKING:
    import polars as pl

    from collm.trained.model import TrainedModel


class WeightDtype(enum.StrEnum):
    """Number formats of a language model's weights."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A finished run's folder, or its name in --runs-dir.", show_default=False)
]
SHOWN_ROWS = 10
DtypeOption = Annotated[
    WeightDtype | None, typer.Option(help="Number format of the language model. Default: the run's.")
]
DeviceOption = Annotated[str | None, typer.Option(help="Device. Default: the first CUDA device, else the processor.")]


def opened_run(
    context: typer.Context, folder: Path, device: str | None, dtype: WeightDtype | None = None
) -> TrainedModel:
    """Opens a finished run as the options of a command say."""
    from collm.trained.opened import open_run, updates_left_out

    model = open_run(
        folder,
        cache_dir=cache_dir(),
        registry=state_of(context).registry(),
        device=device,
        dtype=dtype.value if dtype else None,
    )
    if said := updates_left_out(model):
        say(said)
    return model


def score(
    context: typer.Context,
    run: RunArgument,
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="Columns user, item, optional time and title; CSV, JSON or parquet.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="CSV to write; with --launcher a folder. Default: stdout."),
    ] = None,
    dtype: DtypeOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    device: DeviceOption = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="local|ray[:ADDRESS]",
            help="Score a parquet file in shards, by processes of this machine or actors of a Ray cluster.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --launcher: how many. Default: CUDA devices, cores, or room.")
    ] = None,
    cpus_per_worker: Annotated[int | None, typer.Option(min=1, help="Cores of each. Default on Ray: 1.")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="With --launcher ray: GPUs of each. Default: none.")
    ] = None,
    shard_rows: Annotated[
        int | None,
        typer.Option(min=1, help="With --launcher: rows of a shard. Default: 500,000; 5,000 of a language model."),
    ] = None,
) -> None:
    """Score pairs of raw ids with a finished run.

    `time` counts from 1970 UTC in seconds (or milliseconds and smaller), or is a date; without it a pair is asked
    after everything that is known. Unknown ids are scored as cold and marked (user_known, item_known), never dropped;
    `title` gives the text of an unknown item. `--launcher` writes a folder of parquet files; after an interruption the
    same command goes on.

    Example: collm score runs/quickstart-mf-bias-7e62ea00aa pairs.csv -o scores.csv
    """
    shards = ShardOptions(
        launcher, workers, cpus_per_worker, gpus_per_worker, shard_rows, device, dtype.value if dtype else None
    )
    if shards.check(output) and output is not None:
        score_in_shards(find_run(run, runs_dir), pairs, output, shards, state_of(context).registry())
        return
    from collm.engine.progress import progress
    from collm.trained.pairs_file import age_notes, read_pairs, scored_frame, title_notes

    found = read_pairs(pairs)
    model = opened_run(context, find_run(run, runs_dir), device, dtype)
    for note in (*title_notes(found, model), *age_notes(model, timed=found.times is not None)):
        say(note)
    with progress(f"scoring {pairs.name}"):
        logits = model.pair_logits(found.users, found.items, found.seconds(model.data), titles=found.titles)
    frame = scored_frame(found, logits, model.data)
    if output is None:
        emit(frame.write_csv().rstrip("\n"))
    else:
        from collm.runs.store import write_atomically

        write_atomically(output, frame.write_csv())
        users, items = (int((~frame[name]).sum()) for name in ("user_known", "item_known"))
        say(f"wrote {output}: {frame.height} rows, {users} of unknown users, {items} of unknown items")


def scores(
    run: RunArgument,
    csv: Annotated[bool, typer.Option("--csv", help="Print all rows as CSV.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write all rows as CSV to a file.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Rows of one split. Default: all.", show_default=False)] = None,
    floors: Annotated[bool, typer.Option("--floors", help="Add a column with the score of each floor.")] = False,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Show the rows that a finished run scored: its predictions, with labels and slices.

    Columns are those of scores.parquet (docs/run-folder.md): numbers with all their digits, ids as they were given.

    Example: collm scores quickstart-mf-bias-7e62ea00aa --split test --csv > predictions.csv
    """
    folder = find_run(run, runs_dir)
    from collm.report.collect import read_run

    found = read_run(folder)
    frame = found.scores
    if floors:
        frame = _with_floors(frame, found.floor_scores, folder)
    if split is not None:
        known = frame["split"].unique(maintain_order=True).to_list()
        if split not in known:
            raise UsageError(f"--split {split}: {folder} has no such rows; it has {', '.join(known)}")
        import polars as pl

        frame = frame.filter(pl.col("split") == split)
    if output is not None:
        from collm.runs.store import write_atomically

        write_atomically(output, frame.write_csv())
        say(f"wrote {output}: {frame.height} rows")
    if csv:
        text = frame.write_csv().rstrip("\n")
        if visible(text) != text:
            say("ids hold control characters, which are written out here; -o FILE keeps them as they are")
        emit(text)
    elif output is None:
        _show_rows(frame)


def _with_floors(frame: pl.DataFrame, floors: pl.DataFrame | None, folder: Path) -> pl.DataFrame:
    import polars as pl

    if floors is None:
        raise UsageError(f"--floors: {folder} has no floors.parquet; leave --floors out")
    named = floors.select("split", "row", pl.exclude("split", "row").name.prefix("floor:"))
    return frame.join(named, on=["split", "row"], how="left", maintain_order="left", validate="1:1")


def _show_rows(frame: pl.DataFrame) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, dtype in frame.schema.items():
        table.add_column(Text(name), justify="right" if dtype.is_numeric() else "left")
    for row in frame.head(SHOWN_ROWS).iter_rows():
        table.add_row(*(Text("" if x is None else f"{x:.4f}" if isinstance(x, float) else str(x)) for x in row))
    emit_table(table, Text(f"{min(frame.height, SHOWN_ROWS)} of {frame.height:,} rows; --csv prints all"))


def export(
    context: typer.Context,
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write.", show_default=False)],
    dtype: Annotated[
        WeightDtype | None, typer.Option(help="Number format of the merged weights. Default: the run's.")
    ] = None,
    max_gap: Annotated[
        float | None,
        typer.Option(min=0, help="Largest difference of probabilities on probe rows. Default: by number format."),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Upload the folder to this model repository of the Hugging Face hub, which is made private where "
            "there is none. Raw ids of users are part of it.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push-to-hub: make a public repository.")] = False,
    runs_dir: RunsDirOption = Path("runs"),
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a finished run as plain files: merged language model, mapping, encoder, vectors, ids, a script that scores.

    The merged model must score like the run on probe rows; otherwise nothing is written. score.py scores without collm.

    Example: collm export runs/quickstart-collm-mf-bias-c303b1089d exported
    """
    found = find_run(run, runs_dir)
    if public and push_to_hub is None:
        raise UsageError("--public: belongs to --push-to-hub OWNER/NAME, which is not given")
    from collm.model.hub import check_repository, push_folder
    from collm.trained.export import export_run

    if push_to_hub is not None:
        check_repository(push_to_hub)
    model = opened_run(context, found, device)
    exported = export_run(model, folder, dtype=dtype.value if dtype else None, max_gap=max_gap)
    say(
        f"wrote {folder}: {exported.merged_modules} modules merged; probabilities differ by at most "
        f"{exported.largest_gap:.2g} on {exported.probe_rows} probe rows (allowed {exported.allowed_gap:.2g})"
    )
    if exported.script.fault:
        say(f"score.py is left out: {exported.script.fault}")
    address = None
    if push_to_hub is not None:
        address = push_folder(folder, push_to_hub, public=public)
        say(f"uploaded to {address}")
    if as_json:
        emit_json({"schema": 1, **asdict(exported), "folder": str(folder), "pushed": address})
