"""Live progress of a study on stderr: one display on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from collm.study import records
from collm.study.trial_queue import TrialQueue

_SECONDS_BETWEEN_LOOKS = 1.0
_LAST = 5
STATE_WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class StudyProgress:
    """Shows how far a study has come."""

    def __init__(self, queue: TrialQueue, *, workers: int) -> None:
        """Takes the study and how many of its trials run at once here."""
        self._queue, self._name, self._workers = queue, queue.study.study_name, workers
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._known: set[int] = set()
        self._looked = 0.0

    def __enter__(self) -> StudyProgress:
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def start(self) -> None:
        """Says what was finished before this command."""
        self._known = {trial.number for trial in self._queue.trials() if trial.state.is_finished()}
        if self._known:
            sys.stderr.write(f"{self._name}: {len(self._known)} of {self._queue.total} trials were finished before\n")

    def tick(self) -> None:
        """Shows the study if it was not shown within the last second."""
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self.show()

    def show(self) -> None:
        """Shows the study as it is now."""
        self._looked = time.monotonic()
        trials = self._queue.trials()
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._known:
                self._known.add(trial.number)
                if self._live is None:
                    sys.stderr.write(f"{self._name}: {self._line(trial, trials)}\n")
        if self._live is not None:
            self._live.update(self._table(trials))

    def _line(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
        how = shown_values(trial) if trial.state == TrialState.COMPLETE else STATE_WORDS[trial.state]
        seconds = trial.user_attrs.get(records.SECONDS)
        cause = f": {trial.user_attrs.get(records.CAUSE, '')}" if trial.state == TrialState.FAIL else ""
        time_taken = f", {seconds:.1f} s" if seconds is not None else ""
        return f"trial {trial.number} {how}{cause}{time_taken}; {self._summary(trials)}"

    def _summary(self, trials: Sequence[FrozenTrial]) -> str:
        counts = count_states(trials)
        finished = sum(trial.state.is_finished() for trial in trials)
        parts = [f"{finished}/{self._queue.total}", *(f"{n} {state}" for state, n in counts.items() if n)]
        best = best_trials(self._queue.study, trials)
        if len(self._queue.objectives) == 1 and best:
            parts.append(f"best {shown_values(best[0])} (trial {best[0].number})")
        elif best:
            parts.append(f"{len(best)} on the Pareto front")
        left = seconds_left(trials, self._queue.total, self._workers)
        if left is not None:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _table(self, trials: Sequence[FrozenTrial]) -> Table:
        table = Table(title=f"{self._name}: {self._summary(trials)}", box=None, title_justify="left")
        for column in ("trial", "state", *(each.text for each in self._queue.objectives), "parameters"):
            table.add_column(column)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        finished = [trial for trial in trials if trial.state.is_finished()]
        for trial in [*finished[-_LAST:], *running]:
            values = [shown_value(value) for value in trial.values or ()] or [""] * len(self._queue.objectives)
            values += [""] * (len(self._queue.objectives) - len(values))
            state = STATE_WORDS[trial.state]
            if trial.state == TrialState.RUNNING and trial.intermediate_values:
                state += f" (validation AUC {trial.intermediate_values[max(trial.intermediate_values)]:.4f})"
            parameters = ", ".join(f"{name}={value}" for name, value in trial.params.items())
            table.add_row(str(trial.number), state, *values, parameters)
        return table


def say_lines(study: str, lines: Sequence[str]) -> None:
    """Says something about a study on stderr, one line each."""
    for line in lines:
        sys.stderr.write(f"{study}: {line}\n")


def shown_values(trial: FrozenTrial) -> str:
    """Returns a trial's values for a line of text."""
    return " ".join(map(shown_value, trial.values or ()))


def shown_value(value: float) -> str:
    """Returns one objective's value in the digits that matter."""
    return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Returns how many trials are in each state, in words."""
    return {word: sum(trial.state == state for trial in trials) for state, word in STATE_WORDS.items()}


def best_trials(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the best trial, or with several objectives the Pareto front, best by the first objective first.

    Of trials with the same values the first one counts: later ones repeat it.
    """
    signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in study.directions]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(signs) == 1:
        return [max(complete, key=lambda trial: (signs[0] * trial.values[0], -trial.number))] if complete else []
    front = {tuple(trial.values): trial for trial in reversed(study.best_trials)}
    return sorted(
        front.values(), key=lambda trial: [-sign * value for sign, value in zip(signs, trial.values, strict=True)]
    )


def seconds_left(trials: Sequence[FrozenTrial], total: int, workers: int) -> float | None:
    """Returns a guess of the seconds left, None before the first trial that took time."""
    finished = [trial for trial in trials if trial.state.is_finished()]
    taken = [float(trial.user_attrs.get(records.SECONDS, 0)) for trial in finished]
    taken = [seconds for seconds in taken if seconds]
    if not taken:
        return None
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    left = total - len(finished)
    return float(left * sum(taken) / len(taken) / max(workers, running, 1))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
