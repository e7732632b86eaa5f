"""The measures of a report, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collm.errors import UsageError
from collm.registry import Registry
from collm.report.collect import Collected, Reading, collect
from collm.report.figures import report_figures
from collm.report.overview import verdicts
from collm.report.records import Summary
from collm.report.render import to_html, to_latex, to_markdown
from collm.report.summary import summarise
from collm.report.tables import to_csv
from collm.rescore import Measure
from collm.runs.records import RunOutcome
from collm.spec.metric_entries import chosen_entries, entry_config
from collm.spec.model import Profile
from collm.spec.profiles import CHOICES
from collm.stages.evaluate import build_metrics


def measure_of(
    collected: Collected, registry: Registry, *, profile: Profile | None = None, metrics: Sequence[str] | None = None
) -> Measure:
    """Returns how the runs of a report are measured.

    Args:
        collected: The runs.
        registry: Where metrics come from.
        profile: Profile whose warm/cold rule is used; None = the rule of the runs.
        metrics: Labels of metrics; None = those of the runs.

    Raises:
        UsageError: If no run has rules, or the runs have different ones and no profile decides.
    """
    plain = next((run.spec for run in collected.runs if "evaluate" in run.spec), None)
    if plain is None:
        raise UsageError("only ensembles were given; give one of their runs too, or the suite file")
    for entry in metrics or ():
        name = entry_config(entry, registry).name
        if "rows" not in registry.get("metric", name).measures:
            raise UsageError(f"--metrics: '{entry}' measures ranked lists; it takes metrics of labelled rows")
    evaluated = [run.spec["evaluate"] for run in collected.runs if "evaluate" in run.spec]
    rules = {(run.spec["slices"]["warm"], run.spec["slices"]["cold"]) for run in collected.runs if "slices" in run.spec}
    if profile is None and len(rules) > 1:
        raise UsageError("the runs have different warm/cold rules; choose one for all with --protocol")
    written = [entry for each in evaluated for entry in each["metrics"]]
    chosen = chosen_entries(metrics, written, registry) if metrics else _each_once(written)
    slices = _each_once(name for each in evaluated for name in each["slices"])
    return Measure(
        warm=CHOICES["slices.warm"].of(profile) if profile else plain["slices"]["warm"],
        cold=CHOICES["slices.cold"].of(profile) if profile else plain["slices"]["cold"],
        slices=tuple(sorted(slices, key=lambda name: name != "all")),
        metrics=build_metrics(chosen, registry),
        resamples=max(each["resamples"] for each in evaluated),
        list_metrics=build_metrics(_list_metrics(collected), registry),
    )


def run_verdicts(runs: Sequence[RunOutcome], reading: Reading) -> tuple[str, ...]:
    """Returns what finished runs show in words, as the first screen of their report does.

    Args:
        runs: The runs, ensembles among them.
        reading: How run folders are read.

    Raises:
        CollmError: If they cannot be reported together, e.g. for different warm/cold rules.
    """
    if not runs:
        return ()
    collected = collect([run.folder for run in runs], reading)
    named = {run.folder: run.results.run for run in runs}
    methods = tuple(replace(each, method=named.get(each.path, each.method)) for each in collected.runs)
    collected = replace(collected, runs=methods)
    measure = measure_of(collected, reading.registry)
    return verdicts(summarise(collected, measure, for_words=True))


def _list_metrics(collected: Collected) -> list[Any]:
    """Returns the metrics of ranked lists of all runs, as written, each once."""
    sections = [(run.spec.get("evaluate") or {}).get("ranking") or {} for run in collected.runs]
    return _each_once(entry for section in sections for entry in section.get("metrics", ()))


def _each_once(entries: Iterable[Any]) -> list[Any]:
    """Returns the entries in their order, equal ones once."""
    found: list[Any] = []
    for entry in entries:
        found += [entry] if entry not in found else []
    return found


def page(summary: Summary, form: str, *, folder: Path) -> str:
    """Returns a report as the text of a file.

    Args:
        summary: What it shows.
        form: `html`, `latex`, `markdown` or `csv`.
        folder: Where the file will lie; links of HTML are relative to it.

    Raises:
        UsageError: If a library of the extra `report` is missing.
    """
    if form == "html":
        return to_html(summary, report_figures(summary), folder=folder)
    return {"latex": to_latex, "markdown": to_markdown, "csv": to_csv}[form](summary)


def all_pages(collected: Collected, folder: Path, *, registry: Registry) -> Mapping[str, str]:
    """Returns file name -> text of the report that goes with packed runs.

    Args:
        collected: The runs.
        folder: Where the files will lie.
        registry: Where metrics come from.

    Raises:
        UsageError: As `measure_of` and `page`; says how to do without.
    """
    forms = {"html": "report.html", "markdown": "report.md", "csv": "report.csv"}
    try:
        summary = summarise(collected, measure_of(collected, registry))
        return {name: page(summary, form, folder=folder) for form, name in forms.items()}
    except UsageError as error:
        message = f"the report cannot be made: {error}; --no-report packs the runs without it"
        raise UsageError(message) from error


def no_pages(collected: Collected, folder: Path) -> Mapping[str, str]:  # noqa: ARG001
    """Returns no report."""
    return {}
