"""Shows a summary: on a terminal (rich), as Markdown, LaTeX and HTML (jinja2 templates)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import RenderableType
from rich.text import Text as RichText

import collm
from collm.html_page import template_environment
from collm.report.collect import ReportRun
from collm.report.figures import Picture
from collm.report.grid import bullets, rich_table
from collm.report.overview import overview_figures, verdicts
from collm.report.records import Line, Summary
from collm.report.tables import report_tables
from collm.runs.records import RunResults
from collm.visible import visible

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
}
# Longer tables are for files; a terminal says how many rows are left out.
TERMINAL_LIMIT = 40
MARKDOWN = re.compile(r"([\\`*_|<>#])")


def terminal_tables(summary: Summary) -> list[RenderableType]:
    """Returns rich tables, notes and run folders; long lists of comparisons are cut and say so."""
    shown: list[RenderableType] = []
    for grid in report_tables(summary):
        shown.append(rich_table(grid, TERMINAL_LIMIT))
        if (hidden := len(grid.rows) - TERMINAL_LIMIT) > 0:
            shown.append(RichText(f"  ... and {hidden} more rows (--html, --markdown, --csv show all)"))
        if grid.caption:
            shown.append(RichText(f"  {grid.caption}", style="dim"))
    folders = [f"{run.method} (seed {run.seed}): {run.place}" for run in summary.runs]
    return [
        *shown,
        RichText(),
        *map(RichText, verdicts(summary)),
        RichText(),
        *bullets("notes", summary.notes),
        *bullets("run folders", folders),
    ]


def to_markdown(summary: Summary) -> str:
    """Returns the report as Markdown."""
    return visible(
        template_environment("collm.report", is_html=False)
        .get_template("report.md.j2")
        .render(_context(summary, escape=escape_markdown))
    )


def to_latex(summary: Summary) -> str:
    """Returns the tables as LaTeX; needs the package `booktabs`."""
    return visible(
        template_environment("collm.report", is_html=False)
        .get_template("report.tex.j2")
        .render(_context(summary, escape=escape_latex))
    )


def to_html(summary: Summary, pictures: Sequence[Picture], *, folder: Path) -> str:
    """Returns one self-contained page: no scripts, nothing loaded from elsewhere.

    Args:
        summary: What it shows.
        pictures: Figures; their SVG text is put into the page as it is.
        folder: Where the page will lie; links to run folders are relative to it.
    """
    context = _context(summary, escape=str) | {
        "pictures": pictures,
        "overview": overview_figures(summary),
        "runs": [_run_details(run, line, folder) for line in summary.lines for run in line.method.runs],
        "link": lambda path: _relative(Path(path), folder),
    }
    return visible(template_environment("collm.report", is_html=True).get_template("report.html.j2").render(context))


def escape_latex(text: str) -> str:
    """Returns text in which LaTeX finds no commands."""
    return "".join(LATEX.get(letter, letter) for letter in text.replace("\n", " "))


def escape_markdown(text: str) -> str:
    """Returns text in which Markdown finds no markup."""
    return MARKDOWN.sub(r"\\\1", text).replace("\n", " ")


def _context(summary: Summary, *, escape: Any) -> dict[str, Any]:
    methods = dict.fromkeys(line.method.name for line in summary.lines if not line.method.floor)
    return {
        "summary": summary,
        "grids": report_tables(summary),
        "escape": escape,
        "methods": list(methods),
        "verdicts": verdicts(summary),
        "version": collm.__version__,
    }


def _run_details(run: ReportRun, line: Line, folder: Path) -> dict[str, Any]:
    return {
        "id": run.path.name,
        "method": run.method,
        "seed": run.seed,
        "folder": _relative(run.linked, folder),
        "spec": yaml.safe_dump(run.spec, sort_keys=False, allow_unicode=True),
        "environment": yaml.safe_dump(run.environment, sort_keys=False, allow_unicode=True),
        "facts": yaml.safe_dump(_without_curves(run.results), sort_keys=False, allow_unicode=True),
        "deviations": line.departures,
        "timing": run.results.timing,
    }


def _without_curves(results: RunResults) -> dict[str, Any]:
    """Returns the facts of all stages; curves are drawn, not listed."""
    return {
        stage: facts.model_dump(mode="json", exclude_unset=True, exclude={"curve"})
        for stage, facts in results.facts.items()
    }


def _relative(path: Path, folder: Path) -> str:
    """Returns a link that works from a file and keeps working when both are moved together."""
    from urllib.parse import quote

    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
