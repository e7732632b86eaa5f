"""The best trial as a complete spec of its own."""

from __future__ import annotations

import yaml
from optuna.trial import TrialState

from collm.errors import RunError, UsageError
from collm.study.check import CheckedStudy
from collm.study.ledger import Ledger
from collm.study.progress import STATE_WORDS, best_trials, shown_value


def best_spec(checked: CheckedStudy, ledger: Ledger, number: int | None) -> tuple[str, str]:
    """Returns the YAML of a trial's spec, and a line about the trial.

    The spec evaluates what the base evaluates, test rows included; fitted stages of the trial are reused.

    Args:
        checked: The study.
        ledger: Its trials.
        number: Number of the trial; None = the best.

    Raises:
        RunError: If no trial is complete, or there is no single best one.
        UsageError: If the numbered trial does not exist.
    """
    objectives, trials = checked.file.objectives, ledger.trials()
    best = best_trials(trials, objectives)
    if number is not None:
        if number >= len(trials):
            raise UsageError(f"there is no trial {number}: the study has {len(trials)}")
        chosen = trials[number]
    elif not best:
        raise RunError("no trial is complete yet; `collm study show FILE` says what became of them")
    elif len(objectives) > 1 and len(best) > 1:
        numbers = ", ".join(str(trial.number) for trial in best)
        raise UsageError(f"several trials are best, each in its way ({numbers}): choose one with --trial N")
    else:
        chosen = best[0]
    try:
        spec = checked.specs.whole(chosen.params)
    except KeyError as error:
        raise RunError(f"trial {chosen.number} is no point of the study's search space: {error}") from None
    # Optuna gives a pruned trial the last validation as its value, which is no objective.
    measured = zip(objectives, chosen.values, strict=True) if chosen.state == TrialState.COMPLETE else ()
    values = ", ".join(f"{each.text} {shown_value(value)}" for each, value in measured)
    searched = sum(trial.state.is_finished() for trial in trials)
    about = f"trial {chosen.number} of study {checked.file.name}, {values or STATE_WORDS[chosen.state]}"
    header = (
        f"# {about}.\n# Chosen among {searched} trials by validation rows, which makes that number optimistic;\n"
        "# `collm run` on this file adds the test rows.\n"
    )
    return header + yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True), about
