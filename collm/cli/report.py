"""`collm report`: tables, figures and pages from finished runs."""

from __future__ import annotations

import enum
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from collm.cli.context import OnlyOption, RunsDirOption, SetOption, emit_table, say, state_of


class Protocol(enum.StrEnum):
    """Profiles whose slice rules a report can apply to finished scores."""

    paper = "paper"
    reference = "reference"
    recommended = "recommended"


FileOption = Path | None


def report(
    context: typer.Context,
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="SUITE|RUN|ZIP...",
            help="Suite or spec files, run folders or their names, what `collm runs pack` wrote.",
            show_default=False,
        ),
    ],
    overrides: SetOption = None,
    only: OnlyOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    html: Annotated[FileOption, typer.Option(metavar="FILE", help="Write one self-contained page.")] = None,
    latex: Annotated[FileOption, typer.Option(metavar="FILE", help="Write LaTeX tables (booktabs).")] = None,
    markdown: Annotated[FileOption, typer.Option(metavar="FILE", help="Write Markdown.")] = None,
    csv: Annotated[FileOption, typer.Option(metavar="FILE", help="Write all numbers, unrounded, one per line.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to show. Default: test, else what the runs have.")] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="Measure the stored scores again under this profile's warm/cold rule; no model is loaded."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics, separated by commas, e.g. auc,ndcg@10. Default: those of the runs.", show_default=False
        ),
    ] = None,
) -> None:
    """Show finished runs side by side: floors, intervals, tests, the paper's numbers, time.

    Reads run folders and packed runs only. Give the `--set` values that a suite's runs were started with.

    Example: collm report experiments/quickstart.yaml --html report.html
    """
    state = state_of(context)
    from collm.report.collect import Reading, collect
    from collm.report.pages import measure_of, page
    from collm.report.render import terminal_tables
    from collm.report.summary import summarise
    from collm.runs.store import write_atomically
    from collm.spec.metric_entries import split_metrics

    reading = Reading(
        runs_dir, state.registry(), state.build_context(), overrides=overrides or [], only=only or [], cwd=Path.cwd()
    )
    with tempfile.TemporaryDirectory(prefix="collm-report-") as scratch:
        collected = collect(targets, replace(reading, scratch=Path(scratch)))
        names = split_metrics(metrics) if metrics else None
        measure = measure_of(collected, state.registry(), profile=protocol.value if protocol else None, metrics=names)
        summary = summarise(collected, measure, split=split)
        files = {"html": html, "latex": latex, "markdown": markdown, "csv": csv}
        for form, path in files.items():
            if path is not None:
                write_atomically(path, page(summary, form, folder=path.absolute().parent))
                say(f"wrote {path}")
        emit_table(*terminal_tables(summary))
