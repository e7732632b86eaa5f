"""Results as records: kinds of stages, order of tuning steps, and plain data as it was."""

from __future__ import annotations

from typing import Any

from collm.runs.records import RunOutcome, RunResults, kind_of

HEAD = {"schema": 1, "name": "r", "run": "r", "spec_hash": "0", "seed": 0, "profile": "paper", "metrics": {}}


def results(**more: Any) -> RunResults:
    return RunResults.check({**HEAD, **more}, place="results.json")


def test_the_tenth_step_comes_after_the_second_with_and_without_recorded_kinds() -> None:
    names = ["tune_1", "tune_10", "tune_2"]
    old = results(facts={name: {"rows": 5} for name in names} | {"encoder": {}, "backbone": {"name": "x"}})
    new = results(facts={name: {"kind": "tune", "number": int(name[5:])} for name in names})
    for each in (old, new):
        assert [name for name, _ in each.tuning_steps()] == ["tune_1", "tune_2", "tune_10"]


def test_seconds_are_those_of_the_work_and_by_kind() -> None:
    timing = {
        "fit_encoder": {"seconds": 0.1, "reused": True, "work_seconds": 4.0},
        "tune_1": {"kind": "tune", "seconds": 3.0, "reused": False},
        "evaluate": {"seconds": 1.0, "reused": False, "work_seconds": 1.0},
    }
    found = results(timing=timing)
    assert found.seconds("fit_encoder", "tune") == {"fit_encoder": 4.0, "tune_1": 3.0}
    assert sum(found.seconds().values()) == 8.0


def test_plain_data_is_what_was_read_with_keys_of_later_versions() -> None:
    content = {**HEAD, "later": [1], "facts": {"tune_1": {"rows": 5, "other": {"x": 1.5}}}, "notes": ["n"]}
    assert results(**content).plain() == content
    outcome = {**content, "run_dir": "runs/r-0", "reused": True}
    assert RunOutcome.of(outcome).plain() == outcome


def test_kinds_follow_names_where_none_is_recorded() -> None:
    assert [kind_of(name) for name in ("tune_10", "fit_encoder", "metrics")] == ["tune", "fit_encoder", "metrics"]
