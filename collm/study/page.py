"""A study as one HTML page without outside parts: Optuna's plots in the frame of the report, and every trial."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

import collm
from collm.errors import UsageError
from collm.html_page import template_environment
from collm.study import records
from collm.study.progress import best_trials, count_states
from collm.study.show import importances, parameter_names, trial_data, trial_note
from collm.study.trial_queue import TrialQueue
from collm.visible import visible

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "collm",
    # Names and choices are data: dollars in them enclose no mathematics.
    "text.parse_math": False,
    "text.usetex": False,
    "figure.figsize": (6.4, 3.4),
    "font.size": 9,
}


@dataclass(frozen=True)
class Plots:
    """A section of the page: its key for links, its heading and SVG texts."""

    key: str
    title: str
    plots: list[str]


def study_page(queue: TrialQueue) -> str:
    """Returns the page.

    Raises:
        UsageError: If matplotlib or jinja2 is not installed.
    """
    trials = queue.trials()
    template = template_environment("collm.study", is_html=True).get_template("study.html.j2")
    best = {trial.number for trial in best_trials(queue.study, trials)}
    names = parameter_names(trials)
    counts = [f"{number} {state}" for state, number in count_states(trials).items() if number]
    page = template.render(
        title=f"Study {queue.study.study_name}",
        version=collm.__version__,
        counts=", ".join(counts) or "no trial",
        pictures=_pictures(queue, trials),
        header=["trial", "state", *(each.text for each in queue.objectives), *names, "seconds", "note"],
        rows=[{"cells": _cells(trial, names, len(queue.objectives)), "best": trial.number in best} for trial in trials],
        several=len(queue.objectives) > 1,
    )
    return visible(page)


def _cells(trial: FrozenTrial, names: Sequence[str], n_objectives: int) -> list[str]:
    data = trial_data(trial)
    values = [f"{value:.5g}" for value in data["values"]]
    values += [""] * (n_objectives - len(values))
    parameters = [str(trial.params.get(name, "")) for name in names]
    seconds = str(trial.user_attrs.get(records.SECONDS, ""))
    return [str(trial.number), data["state"], *values, *parameters, seconds, trial_note(trial)]


def _pictures(queue: TrialQueue, trials: Sequence[FrozenTrial]) -> list[Plots]:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("--html needs matplotlib: pip install 'collm[report]'") from error
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return []
    matplotlib.use("agg")
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Optuna marks these functions, which it has had since 2020, as experimental.
        warnings.simplefilter("ignore")
        return list(_draw(queue, parameter_names(complete)))


def _draw(queue: TrialQueue, names: Sequence[str]) -> Iterator[Plots]:
    from optuna.visualization import matplotlib as plots

    study, objectives, known = queue.study, queue.objectives, importances(queue)
    for index, objective in enumerate(objectives):
        # Without a target the best value so far is drawn too.
        one: dict[str, Any] = {"target_name": objective.text}
        if len(objectives) > 1:
            one["target"] = lambda trial, index=index: trial.values[index]
        suffix = f"-{index}" if index else ""
        history = _svg(plots.plot_optimization_history(study, **one))
        yield Plots(f"history{suffix}", f"Optimisation history: {objective.text}", [history])
        if objective.text in known:
            shares = _svg(plots.plot_param_importances(study, **one))
            yield Plots(f"importances{suffix}", f"Importances for {objective.text} (fANOVA)", [shares])
        slices = [_svg(plots.plot_slice(study, params=[name], **one)) for name in names]
        yield Plots(f"slices{suffix}", f"Slices: {objective.text} by parameter", slices)
    if len(objectives) in (2, 3):
        front = _svg(plots.plot_pareto_front(study, target_names=[each.text for each in objectives]))
        yield Plots("front", "Pareto front", [front])


def _svg(axes: Any) -> str:
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    # The heading of the section says what it is.
    axes.set_title("")
    axes.set_title("", loc="left")
    if axes.get_legend() is not None:
        # Inside the axes it takes no width on a phone; a single entry repeats the name of an axis.
        axes.get_legend().remove()
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="lower right")
    if axes.get_xscale() == "log":
        # The usual labels are formulas, which are not read here.
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    stream = io.StringIO()
    axes.figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    pyplot.close(axes.figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]
