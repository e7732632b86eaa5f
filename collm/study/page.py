"""A study as one HTML page without outside parts: history, importances, slices, Pareto front, trials."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from collm.errors import UsageError
from collm.study import records
from collm.study.objective import Objective
from collm.study.progress import best_trials, count_states
from collm.study.show import best_so_far, importances, parameter_names, trial_data, trial_note
from collm.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;font-size:13px}"
    "th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}"
    "tr.best{font-weight:600}pre{overflow:auto;background:#f6f6f6;padding:.6rem}svg{max-width:100%;height:auto}"
)
_PLOT_INCHES = (6.4, 3.0)


def study_page(study: Study, objectives: tuple[Objective, ...], trials: Sequence[FrozenTrial]) -> str:
    """Returns the page.

    Args:
        study: The stored study.
        objectives: Its objectives.
        trials: Its trials.

    Raises:
        UsageError: If matplotlib is not installed.
    """
    counts = ", ".join(f"{number} {state}" for state, number in count_states(trials).items() if number) or "no trial"
    parts = [f"<h1>Study {html.escape(study.study_name)}</h1><p>{counts}</p>"]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for index, objective in enumerate(objectives):
        parts.append(_section(f"Optimisation history: {objective.text}", _history(complete, objective, index)))
    for name, shares in importances(study, objectives, trials).items():
        parts.append(_section(f"Importances for {name} (fANOVA)", _importances(shares)))
    for index, objective in enumerate(objectives):
        plots = [_slice(complete, name, objective, index) for name in parameter_names(complete)]
        parts.append(_section(f"Slices: {objective.text} by parameter", *plots))
    if len(objectives) == 2:
        parts.append(_section("Pareto front", _front(complete, best_trials(study, trials), objectives)))
    parts.append("<h2>Trials</h2>" + _table(study, trials, objectives))
    body = "\n".join(parts)
    title = html.escape(study.study_name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _section(title: str, *plots: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(plots)


def _plot(draw: Callable[[Axes], None]) -> str:
    """Draws one picture as SVG text."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--html needs matplotlib: pip install 'collm[report]'") from error
    buffer = io.StringIO()
    # Names and choices are data: dollars in them enclose no mathematics.
    with rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = Figure(figsize=_PLOT_INCHES, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _history(complete: Sequence[FrozenTrial], objective: Objective, index: int) -> str:
    def draw(axes: Axes) -> None:
        numbers = [trial.number for trial in complete]
        axes.plot(numbers, [trial.values[index] for trial in complete], "o", markersize=4, label="trial")
        if index == 0:
            axes.step(numbers, best_so_far(complete, objective), where="post", label="best so far")
        axes.set_xlabel("trial")
        axes.set_ylabel(objective.text)
        axes.legend(frameon=False)

    return _plot(draw)


def _importances(shares: dict[str, float]) -> str:
    def draw(axes: Axes) -> None:
        names = list(reversed(shares))
        axes.barh(names, [shares[name] for name in names])
        axes.set_xlim(0, 1)

    return _plot(draw)


def _slice(complete: Sequence[FrozenTrial], name: str, objective: Objective, index: int) -> str:
    def draw(axes: Axes) -> None:
        with_it = [trial for trial in complete if name in trial.params]
        values: list[Any] = [trial.params[name] for trial in with_it]
        logarithmic = all(getattr(trial.distributions[name], "log", False) for trial in with_it)
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values = [visible(str(value), keep="") for value in values]
        axes.plot(values, [trial.values[index] for trial in with_it], "o", markersize=4)
        if logarithmic and with_it:
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.set_ylabel(objective.text)

    return _plot(draw)


def _front(complete: Sequence[FrozenTrial], front: Sequence[FrozenTrial], objectives: tuple[Objective, ...]) -> str:
    def draw(axes: Axes) -> None:
        axes.plot(*zip(*(trial.values for trial in complete), strict=True), "o", markersize=4, label="trial")
        ordered = sorted(trial.values for trial in front)
        axes.plot(*zip(*ordered, strict=True), "o-", label="Pareto front")
        axes.set_xlabel(objectives[0].text)
        axes.set_ylabel(objectives[1].text)
        axes.legend(frameon=False)

    return _plot(draw) if complete else "<p>no complete trial</p>"


def _table(study: Study, trials: Sequence[FrozenTrial], objectives: tuple[Objective, ...]) -> str:
    best = {trial.number for trial in best_trials(study, trials)}
    names = parameter_names(trials)
    header = ["trial", "state", *(objective.text for objective in objectives), *names, "seconds", "note"]
    rows = []
    for trial in trials:
        data = trial_data(trial)
        values = [f"{value:.5g}" for value in data["values"]]
        values += [""] * (len(objectives) - len(values))
        cells = [str(trial.number), data["state"], *values]
        cells += [str(trial.params.get(name, "")) for name in names]
        cells += [str(trial.user_attrs.get(records.SECONDS, "")), trial_note(trial)]
        marked = ' class="best"' if trial.number in best else ""
        rows.append(f"<tr{marked}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    return f"<table><tr>{head}</tr>\n" + "\n".join(rows) + "</table>"
