"""`collm report`: tables, figures and pages from finished runs."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.cli.context import CliState, OnlyOption, RunsDirOption, SetOption, emit_table, say, state_of
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.report.collect import Collected
    from collm.report.records import Summary
    from collm.rescore import Measure


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
            metavar="SUITE|RUN...", help="Suite or spec files, run folders or their names.", show_default=False
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
        str | None, typer.Option(help="Metrics, separated by commas. Default: those of the runs.", show_default=False)
    ] = None,
) -> None:
    """Show finished runs side by side: floors, intervals, tests, the paper's numbers, time.

    Reads run folders only. Give the `--set` values that a suite's runs were started with.

    Example: collm report experiments/quickstart.yaml --html report.html
    """
    state = state_of(context)
    from collm.report.collect import Reading, collect
    from collm.report.render import terminal_tables
    from collm.report.summary import summarise

    reading = Reading(
        runs_dir, state.registry(), state.build_context(), overrides=overrides or [], only=only or [], cwd=Path.cwd()
    )
    collected = collect(targets, reading)
    measure = _measure(collected, state, protocol, metrics)
    summary = summarise(collected, measure, split=split)
    for path, text in _files(summary, html=html, latex=latex, markdown=markdown, csv=csv):
        from collm.runs.store import write_atomically

        write_atomically(path, text)
        say(f"wrote {path}")
    emit_table(*terminal_tables(summary))


def _measure(collected: Collected, state: CliState, protocol: Protocol | None, metrics: str | None) -> Measure:
    """Rules of the first run, or of the profile that was asked for."""
    from collm.rescore import Measure
    from collm.spec.profiles import CHOICES
    from collm.stages.evaluate import build_metrics

    plain = next((run.spec for run in collected.runs if "evaluate" in run.spec), None)
    if plain is None:
        raise UsageError("only ensembles were given; give one of their runs too, or the suite file")
    slices, evaluate = plain["slices"], plain["evaluate"]
    rules = {(run.spec["slices"]["warm"], run.spec["slices"]["cold"]) for run in collected.runs if "slices" in run.spec}
    if protocol is None and len(rules) > 1:
        raise UsageError("the runs have different warm/cold rules; choose one for all with --protocol")
    names = [name.strip() for name in metrics.split(",")] if metrics else evaluate["metrics"]
    return Measure(
        warm=CHOICES["slices.warm"].of(protocol.value) if protocol else slices["warm"],
        cold=CHOICES["slices.cold"].of(protocol.value) if protocol else slices["cold"],
        slices=tuple(sorted(evaluate["slices"], key=lambda name: name != "all")),
        metrics=build_metrics(names, state.registry()),
        resamples=evaluate["resamples"],
    )


def _files(
    summary: Summary, *, html: Path | None, latex: Path | None, markdown: Path | None, csv: Path | None
) -> list[tuple[Path, str]]:
    from collm.report.figures import report_figures
    from collm.report.render import to_html, to_latex, to_markdown
    from collm.report.tables import to_csv

    files: list[tuple[Path, str]] = []
    if html:
        files.append((html, to_html(summary, report_figures(summary), folder=html.absolute().parent)))
    if latex:
        files.append((latex, to_latex(summary)))
    if markdown:
        files.append((markdown, to_markdown(summary)))
    if csv:
        files.append((csv, to_csv(summary)))
    return files
