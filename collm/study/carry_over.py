"""A study whose search space changed: started anew under its name, with the finished trials that lie in the new space.

Optuna keeps a parameter's choices fixed over a study, so a changed space needs a new one.
"""

from __future__ import annotations

import time
from typing import Any

from optuna import create_study, delete_study, load_study
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from collm.errors import DataError, SpecError, UsageError
from collm.spec.contents import hash_with
from collm.study import records
from collm.study.check import CheckedStudy
from collm.study.definition import compare, definition, find_study, is_space_change, new_study
from collm.study.finished_runs import distributions
from collm.study.space import label_of
from collm.study.storage import StudyStorage

_SHOWN = 6
_KEPT = (TrialState.COMPLETE, TrialState.PRUNED)
_UNFINISHED = "migrating_from"
# Set once every trial is copied: only then the study itself may be deleted.
_ARCHIVED = "archived"


def continue_where_it_fits(checked: CheckedStudy, storage: StudyStorage) -> str:
    """Carries a study over by itself where its search space alone changed and no finished trial is lost.

    A migration that was interrupted is done again.

    Returns:
        What was done, one sentence; empty where the study is left as it is.

    Raises:
        SpecError: If finished trials lie outside of the new space, or some are running; says how many and what to do.
    """
    file, wanted = checked.file, definition(checked)
    with storage.lock(file.name):
        study = find_study(file.name, storage)
        if study is None or study.user_attrs.get(_UNFINISHED):
            archive = _interrupted(file.name, storage) if study is None else study.user_attrs[_UNFINISHED]
            if archive is None:
                return ""
        else:
            stored = study.user_attrs.get(records.DEFINITION)
            if not is_space_change(stored, wanted):
                return ""
            if refusal := _cannot_continue(checked, study):
                differences = "; ".join(compare(stored, wanted)[:_SHOWN])
                raise SpecError([file.place.problem(f"the search space changed: {differences}. {refusal}")])
        carried, left, archive = migrate(checked, storage)
    if not archive:
        return ""
    lost = f", {left} left behind" if left else ""
    return f"the search space changed: {carried} finished trials carried over{lost}; the old study is {archive}"


def _cannot_continue(checked: CheckedStudy, study: Study) -> str:
    trials = study.get_trials(deepcopy=False)
    if running := sum(map(records.is_held, trials)):
        return f"{running} of its trials are running: stop their commands first, or give this one another `name`"
    finished = [trial for trial in trials if trial.state in _KEPT]
    fitting = sum(point_of(checked, study, trial) is not None for trial in finished)
    if fitting == len(finished):
        return ""
    return (
        f"{fitting} of {len(finished)} finished trials lie in the new space: go on with those, the old study kept as "
        "NAME@TIME: collm study run FILE --migrate; or give this one another `name`"
    )


def migrate(checked: CheckedStudy, storage: StudyStorage) -> tuple[int, int, str]:
    """Starts the study anew under its name, with the trials that lie in the new space.

    The old study stays in the storage as `NAME@TIME`. A migration that was interrupted is done again from there.

    Trials that failed or whose commands were killed are left there; their stages are kept, as always.

    Returns:
        Finished trials carried over, finished trials left behind, and the old study's new name; (0, 0, "") where
        nothing differs.

    Raises:
        UsageError: If there is nothing to carry over, a trial is running, or more than the search space changed.
    """
    file, wanted = checked.file, definition(checked)
    with storage.lock(file.name):
        study = find_study(file.name, storage)
        archive = _interrupted(file.name, storage) if study is None else study.user_attrs.get(_UNFINISHED)
        if archive is None:
            if study is None:
                raise UsageError(f"{storage.address} has no study '{file.name}': there is nothing to migrate")
            stored = study.user_attrs.get(records.DEFINITION)
            if not compare(stored, wanted):
                return 0, 0, ""
            if not is_space_change(stored, wanted):
                differences = "; ".join(compare(stored, wanted)[:_SHOWN])
                message = f"more than the search space changed, so no trial can be carried over: {differences}"
                raise SpecError([file.place.problem(message)])
            if running := sum(map(records.is_held, study.get_trials(deepcopy=False))):
                raise UsageError(f"{running} trials of '{file.name}' are running: stop their commands first")
            archive = _archive(study, storage)
        if find_study(file.name, storage) is not None:
            delete_study(study_name=file.name, storage=storage.optuna)
        old = load_study(study_name=archive, storage=storage.optuna)
        return (*_carry_over(checked, storage, old, wanted), archive)


def _archive(study: Study, storage: StudyStorage) -> str:
    """Copies the study under another name."""
    name = f"{study.study_name}@{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    copy = create_study(study_name=name, storage=storage.optuna, directions=study.directions)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    copy.add_trials(study.get_trials(deepcopy=False))
    copy.set_user_attr(_ARCHIVED, True)
    return name


def _interrupted(name: str, storage: StudyStorage) -> str | None:
    """Returns the newest archive of a study that is missing itself."""
    names = [each.study_name for each in storage.optuna.get_all_studies() if each.user_attrs.get(_ARCHIVED)]
    found = sorted(each for each in names if each.startswith(f"{name}@"))
    return found[-1] if found else None


def _carry_over(checked: CheckedStudy, storage: StudyStorage, old: Study, wanted: dict[str, Any]) -> tuple[int, int]:
    study = new_study(checked, storage, checked.file.name, wanted)
    study.set_user_attr(_UNFINISHED, old.study_name)
    finished = [trial for trial in old.get_trials(deepcopy=False) if trial.state in _KEPT]
    numbers: dict[int, int] = {}
    for trial in finished:
        point = point_of(checked, old, trial)
        if point is None:
            continue
        attributes = {**trial.user_attrs, records.MIGRATED_FROM: f"{old.study_name} trial {trial.number}"}
        twin = numbers.get(attributes.pop(records.DUPLICATE_OF, -1))
        if twin is not None:
            attributes[records.DUPLICATE_OF] = twin
        study.add_trial(
            create_trial(
                state=trial.state,
                values=trial.values,
                params=point,
                distributions=distributions(checked, point),
                user_attrs=attributes,
                intermediate_values=trial.intermediate_values,
            )
        )
        numbers[trial.number] = len(numbers)
    searches = old.user_attrs.get(records.SEARCHES, ())
    moved = [{**each, "from_trial": sum(number < each["from_trial"] for number in numbers)} for each in searches]
    study.set_user_attr(records.SEARCHES, moved)
    study.set_user_attr(_UNFINISHED, None)
    return len(numbers), len(finished) - len(numbers)


def point_of(checked: CheckedStudy, old: Study, trial: FrozenTrial) -> dict[str, Any] | None:
    """Returns the trial as a point of the new space; None where it does not belong to it. The spec's hash decides."""
    space = checked.file.space
    searched = {name.partition("@")[0]: value for name, value in trial.params.items()}
    values = {**old.user_attrs[records.DEFINITION]["fixed"], **searched}
    known = {each.name: label_of(values[each.path]) for each in space.all() if each.path in values}
    try:
        point = space.first({**known, **trial.params})
    except KeyError:
        return None
    if not space.contains(point):
        return None
    try:
        spec = checked.trial(point)
        identity = hash_with(spec, checked.contents(spec))
    except (SpecError, DataError):
        return None
    return point if identity == trial.user_attrs.get(records.SPEC_HASH) else None
