"""A study as tables, as plain data, and its best trial as a spec."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import yaml
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from collm.errors import RunError, UsageError
from collm.study import records
from collm.study.progress import STATE_WORDS, best_trials, count_states, shown_value
from collm.study.study_file import Objective
from collm.study.trial_queue import TrialQueue

SCHEMA = 1
_BARS = "▁▂▃▄▅▆▇█"
_MOST_TRACEBACKS = 3


def study_data(queue: TrialQueue) -> dict[str, Any]:
    """Returns the study as plain data for `--json`."""
    study, objectives, trials = queue.study, queue.objectives, queue.trials()
    best = [trial.number for trial in best_trials(study, trials)]
    return {
        "schema": SCHEMA,
        "study": study.study_name,
        "objectives": [{"name": each.text, "direction": each.direction} for each in objectives],
        "counts": count_states(trials),
        "searches": study.user_attrs.get(records.SEARCHES, []),
        "best": best if len(objectives) > 1 else (best[0] if best else None),
        "importances": importances(queue),
        "trials": [trial_data(trial) for trial in trials],
    }


def trial_data(trial: FrozenTrial) -> dict[str, Any]:
    """Returns one trial as plain data."""
    hidden = (records.REPORTED, records.OWNER)
    attributes = {key: value for key, value in trial.user_attrs.items() if key not in hidden}
    values = [value if math.isfinite(value) else None for value in trial.values or ()]
    if trial.state == TrialState.PRUNED:
        values = []
    return {
        "number": trial.number,
        "state": STATE_WORDS[trial.state],
        "values": values,
        "params": dict(trial.params),
        "validations": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        **attributes,
        records.ATTEMPTS: records.attempts_of(trial),
    }


def importances(queue: TrialQueue) -> dict[str, dict[str, float]]:
    """Returns objective -> parameter -> share of the variance that it explains (fANOVA); empty with too few trials."""
    found: dict[str, dict[str, float]] = {}
    complete = [trial for trial in queue.trials() if trial.state == TrialState.COMPLETE]
    for index, objective in enumerate(queue.objectives):
        values = {trial.values[index] for trial in complete}
        if len(complete) < 4 or len(values) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(queue.study, target=lambda trial, index=index: trial.values[index])
        found[objective.text] = {name: round(float(share), 4) for name, share in shares.items()}
    return found


def study_tables(queue: TrialQueue, *, all_tracebacks: bool = False) -> list[RenderableType]:
    """Returns what `collm study show` prints; without `all_tracebacks` those of the last failed trials alone."""
    study, objectives, trials = queue.study, queue.objectives, queue.trials()
    best = best_trials(study, trials)
    counts = ", ".join(f"{number} {state}" for state, number in count_states(trials).items() if number) or "no trial"
    parts: list[RenderableType] = [Text(f"{study.study_name}: {counts}", style="bold")]
    parts.append(_trial_table("trials", trials, objectives, best))
    if len(objectives) > 1 and best:
        parts.append(_trial_table("Pareto front", best, objectives, ()))
    for name, shares in importances(queue).items():
        parts.append(_importance_table(name, shares))
    if len(objectives) == 1 and (history := best_so_far(trials, objectives[0])):
        parts.append(Text(f"best {objectives[0].text} so far: {_bars(history)}  {history[0]:.4f} to {history[-1]:.4f}"))
    failed = [trial for trial in trials if trial.user_attrs.get(records.TRACEBACK)]
    shown = failed if all_tracebacks else failed[-_MOST_TRACEBACKS:]
    parts += [_traceback(trial) for trial in shown]
    if len(shown) < len(failed):
        parts.append(Text(f"{len(failed) - len(shown)} earlier tracebacks: --tracebacks shows all"))
    return parts


def best_so_far(trials: Sequence[FrozenTrial], objective: Objective) -> list[float]:
    """Returns the best value after each complete trial."""
    better = max if objective.direction == "maximize" else min
    history: list[float] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            history.append(better(history[-1], trial.values[0]) if history else trial.values[0])
    return history


def _trial_table(
    title: str, trials: Sequence[FrozenTrial], objectives: tuple[Objective, ...], best: Sequence[FrozenTrial]
) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    names = parameter_names(trials)
    table.add_column("trial", justify="right")
    table.add_column("state")
    for objective in objectives:
        table.add_column(objective.text, justify="right")
    for heading in _headings(names):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("seconds", justify="right")
    table.add_column("note", overflow="fold")
    numbers = {trial.number for trial in best}
    for trial in trials:
        data = trial_data(trial)
        values = [f"{value:.4g}" if abs(value) < 0.01 else f"{value:.4f}" for value in data["values"]]
        values += [""] * (len(objectives) - len(values))
        seconds = trial.user_attrs.get(records.SECONDS)
        table.add_row(
            str(trial.number) + ("*" if trial.number in numbers else ""),
            data["state"],
            *values,
            *(_cell(trial.params.get(name, "")) for name in names),
            "" if seconds is None else f"{seconds:.1f}",
            trial_note(trial),
            style="bold" if trial.number in numbers else "",
        )
    return table


def parameter_names(trials: Sequence[FrozenTrial]) -> list[str]:
    """Returns the searched parameters, in the order in which the trials have them."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _headings(names: Sequence[str]) -> list[str]:
    """Returns the end of each name that no other name shares, broken into lines so that columns stay narrow."""
    parts = [name.split(".") for name in names]

    def ending(own: Sequence[str]) -> str:
        # A bare "name" does not say of what.
        for length in range(2 if own[-1].partition("@")[0] == "name" else 1, len(own)):
            if sum(other[-length:] == own[-length:] for other in parts) == 1:
                return ".".join(own[-length:])
        return ".".join(own)

    return [ending(own).replace("_", "\n_").replace(".", ".\n").replace("@", "\n@") for own in parts]


def trial_note(trial: FrozenTrial) -> str:
    """Returns a remark on a trial, e.g. why it failed; often empty."""
    notes = []
    twin = trial.user_attrs.get(records.DUPLICATE_OF)
    if twin is not None:
        notes.append(f"repeats trial {twin}")
    if trial.state == TrialState.FAIL:
        notes.append(str(trial.user_attrs.get(records.CAUSE, "failed without a cause on record")))
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        last = max(trial.intermediate_values)
        notes.append(f"at validation {last}, AUC {trial.intermediate_values[last]:.4f}")
    if records.attempts_of(trial) > 1:
        notes.append(f"begun {records.attempts_of(trial)} times")
    if records.ENQUEUED in trial.user_attrs:
        notes.append("enqueued")
    if records.TAKEN_FROM in trial.user_attrs:
        notes.append(f"finished run {trial.user_attrs[records.TAKEN_FROM]}")
    if records.MIGRATED_FROM in trial.user_attrs:
        notes.append(f"carried over from {trial.user_attrs[records.MIGRATED_FROM]}")
    return "; ".join(notes)


def _importance_table(objective: str, shares: dict[str, float]) -> Table:
    table = Table(title=f"importances for {objective} (fANOVA)", box=box.SIMPLE, title_justify="left", pad_edge=False)
    table.add_column("parameter")
    table.add_column("share", justify="right")
    table.add_column("")
    for name, share in shares.items():
        table.add_row(name, f"{share:.3f}", "█" * round(30 * share))
    return table


def _traceback(trial: FrozenTrial) -> RenderableType:
    title = Text(f"trial {trial.number} failed: {trial.user_attrs.get(records.CAUSE, '')}", style="bold")
    return Group(title, Text(str(trial.user_attrs[records.TRACEBACK]).rstrip()))


def _bars(history: Sequence[float]) -> str:
    low, high = min(history), max(history)
    if high == low:
        return _BARS[0] * len(history)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in history)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_spec(queue: TrialQueue, number: int | None) -> tuple[str, str]:
    """Returns the YAML of a trial's spec, and a line about the trial.

    The spec evaluates what the base evaluates, test rows included; fitted stages of the trial are reused.

    Args:
        queue: The study.
        number: Number of the trial; None = the best.

    Raises:
        RunError: If no trial is complete, or several are Pareto-optimal.
        UsageError: If the numbered trial does not exist.
    """
    objectives, trials = queue.objectives, queue.trials()
    best = best_trials(queue.study, trials)
    if number is not None:
        if number >= len(trials):
            raise UsageError(f"there is no trial {number}: the study has {len(trials)}")
        chosen = trials[number]
    elif not best:
        raise RunError("no trial is complete yet; `collm study show FILE` lists what happened")
    elif len(objectives) > 1 and len(best) > 1:
        numbers = ", ".join(str(trial.number) for trial in best)
        raise UsageError(f"trials {numbers} are Pareto-optimal: choose one with --trial N")
    else:
        chosen = best[0]
    try:
        spec = queue.checked.whole(chosen.params)
    except KeyError as error:
        raise RunError(f"trial {chosen.number} does not belong to the study's search space: {error}") from None
    # Optuna gives a pruned trial the last validation as its value, which is not an objective.
    measured = zip(objectives, chosen.values, strict=True) if chosen.state == TrialState.COMPLETE else ()
    values = ", ".join(f"{each.text} {shown_value(value)}" for each, value in measured)
    searched = sum(trial.state.is_finished() for trial in trials)
    about = f"trial {chosen.number} of study {queue.study.study_name}, {values or STATE_WORDS[chosen.state]}"
    header = (
        f"# {about}.\n# Chosen among {searched} trials by validation rows, which makes that number optimistic;\n"
        "# `collm run` on this file adds the test rows.\n"
    )
    return header + yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True), about
