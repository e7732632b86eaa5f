"""What must stay the same for trials to be comparable: kept in the storage, compared at every start.

After a change of the search space alone, `carry_over` takes over the trials that lie in the new space.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from optuna import create_study, load_study
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study

from collm.component import Location
from collm.errors import SpecError, UsageError
from collm.spec.contents import spec_locations
from collm.study import records
from collm.study.check import CheckedStudy, flat, probed_specs
from collm.study.storage import StudyStorage

_SHOWN = 6


def definition(checked: CheckedStudy) -> dict[str, Any]:
    """Returns what makes trials of a study comparable, as plain data.

    Returns:
        `objectives`, `space`, `fixed`: every field of the first point's spec that is not searched, and `files`: the
        digests of what lies at each place that a point names.

    Raises:
        DataError: If files are missing.
    """
    file = checked.file
    searched = [parameter.path for parameter in file.space.all()]
    plain = checked.trial(file.space.first()).plain(locations=False)
    fixed = {
        path: value
        for path, value in flat(plain).items()
        if path != "name" and not any(path == each or path.startswith(f"{each}.") for each in searched)
    }
    objectives = [[objective.text, objective.direction] for objective in file.objectives]
    described = {"schema": 1, "objectives": objectives, "space": file.space.describe(), "fixed": fixed}
    return described | {"files": _files(checked)}


def changed_files(stored: Mapping[str, Any] | None, contents: Mapping[str, str]) -> list[str]:
    """Returns the fields whose files are not among those that a study was begun with; early versions stored none."""
    known = (stored or {}).get("files")
    return [] if known is None else [field for field, digest in contents.items() if digest not in known.get(field, ())]


def _files(checked: CheckedStudy) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    seen: set[tuple[Location, ...]] = set()
    for spec in probed_specs(checked):
        places = tuple(spec_locations(spec, checked.registry))
        if places in seen:
            continue
        seen.add(places)
        for field, digest in checked.contents(spec).items():
            found.setdefault(field, set()).add(digest)
    return {field: sorted(digests) for field, digests in sorted(found.items())}


def open_study(checked: CheckedStudy, storage: StudyStorage) -> Study:
    """Opens the study, or makes it.

    Raises:
        SpecError: If the storage has a study of this name with another definition; says what differs and what to do.
    """
    file, wanted = checked.file, definition(checked)
    with storage.lock(file.name):
        study = find_study(file.name, storage)
        if study is None:
            study = new_study(checked, storage, file.name, wanted)
        stored = study.user_attrs.get(records.DEFINITION)
    differences = compare(stored, wanted)
    if differences:
        raise SpecError([file.place.problem(_refusal(file.name, storage, differences, stored, wanted))])
    return study


def find_study(name: str, storage: StudyStorage) -> Study | None:
    """Returns a stored study, None where there is none of that name."""
    with storage.guard():
        try:
            return load_study(study_name=name, storage=storage.optuna)
        except KeyError:
            return None


def existing_study(name: str, storage: StudyStorage) -> Study:
    """Returns a stored study.

    Raises:
        UsageError: If the storage has none of that name.
    """
    study = find_study(name, storage)
    if study is None:
        raise UsageError(f"{storage.address} has no study '{name}' yet: start it with `collm study run FILE`")
    return study


def compare(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> list[str]:
    """Returns one sentence per difference; a study without a definition was not made by `collm study`."""
    if stored is None:
        return ["it was not made by `collm study`, so what its values measure is unknown"]
    found = []
    if stored["objectives"] != wanted["objectives"]:
        found.append(f"objectives: {_objectives(stored)} there, {_objectives(wanted)} here")
    for name in sorted({*stored["space"], *wanted["space"]}):
        before, now = stored["space"].get(name), wanted["space"].get(name)
        if before != now:
            found.append(f"search.{name}: {_shown(before)} there, {_shown(now)} here")
    # A field that only one of them searches is named above.
    known = stored["fixed"].keys() & wanted["fixed"].keys()
    if stored["space"] == wanted["space"]:
        known = stored["fixed"].keys() | wanted["fixed"].keys()
    for path in sorted(known):
        before, now = stored["fixed"].get(path), wanted["fixed"].get(path)
        if before != now:
            found.append(f"{path}: {before} there, {now} here")
    if stored["space"] == wanted["space"] and "files" in stored:
        fields = stored["files"].keys() | wanted["files"].keys()
        changed = sorted(field for field in fields if stored["files"].get(field) != wanted["files"].get(field))
        found += [f"{field}: the contents of the data or weights there changed" for field in changed]
    return found


def is_space_change(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether two definitions differ in the search space alone, so that trials can be carried over."""
    if stored is None or stored["objectives"] != wanted["objectives"]:
        return False
    if stored["space"] == wanted["space"]:
        return False
    common = stored["fixed"].keys() & wanted["fixed"].keys()
    return all(stored["fixed"][path] == wanted["fixed"][path] for path in common)


def new_study(checked: CheckedStudy, storage: StudyStorage, name: str, wanted: Mapping[str, Any]) -> Study:
    """Makes a study with its definition; call it under the study's lock."""
    directions = [objective.direction for objective in checked.file.objectives]
    study = create_study(study_name=name, storage=storage.optuna, directions=directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([objective.text for objective in checked.file.objectives])
    study.set_user_attr(records.DEFINITION, dict(wanted))
    return study


def _refusal(
    name: str,
    storage: StudyStorage,
    differences: list[str],
    stored: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
) -> str:
    shown = "; ".join(differences[:_SHOWN])
    if len(differences) > _SHOWN:
        shown += f"; and {len(differences) - _SHOWN} more"
    advice = "give this one another `name`"
    if stored is None:
        advice += "; its best points may be tried first: study.enqueue"
    if is_space_change(stored, wanted):
        advice += ", or carry over the finished trials that lie in the new space: collm study run FILE --migrate"
    return (
        f"{storage.address} already has a study '{name}' with a different definition; its trials cannot be combined "
        f"with this one: {shown}. To go on, {advice}"
    )


def _objectives(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{direction} {text}" for text, direction in content["objectives"])


def _shown(described: Any) -> str:
    if described is None:
        return "not searched"
    if "choices" in described:
        return f"choices {described['choices']}"
    extra = " log" if described["log"] else f" step {described['step']}" if described["step"] else ""
    return f"{described['low']} to {described['high']}{extra}"
