"""A finished run is shown again only for the same code and the same files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from collm import finished
from collm.component import BuildContext
from collm.errors import DataError
from collm.finished import stored_outcome
from collm.registry import registry_of
from collm.runs.store import RunFolder

RESULTS = {
    "schema": 1, "name": "r", "run": "r", "spec_hash": "abc", "seed": 0, "profile": "recommended", "metrics": {},
    "inputs": {"code": "1", "dataset": "2"},
}  # fmt: skip


class Spec:
    name, spec_hash = "r", "abc"


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = RunFolder(tmp_path, "r", "abc")
    folder.write_results(RESULTS)

    def asking(now: dict[str, str] | DataError, *, done: bool = True):
        def hashes(*_):
            if isinstance(now, DataError):
                raise now
            return now

        monkeypatch.setattr(finished, "input_hashes", hashes)
        if done:
            folder.write_done()
        return stored_outcome(Spec(), registry_of([]), runs_dir=tmp_path, context=BuildContext(tmp_path), run="key")

    return asking


def test_the_same_inputs_give_the_stored_results_under_the_asked_key(ask) -> None:
    outcome = ask({"code": "1", "dataset": "2"})
    assert (outcome["run"], outcome["reused"], outcome["seed"]) == ("key", True, 0)


def test_an_unfinished_run_has_no_outcome(ask) -> None:
    assert ask({"code": "1", "dataset": "2"}, done=False) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [({"code": "9", "dataset": "2"}, "code"), ({"code": "9", "dataset": "9"}, "code and dataset")],
)
def test_changed_inputs_are_named_and_worked_on_again(ask, caplog, now, said) -> None:
    with caplog.at_level(logging.INFO):
        assert ask(now) is None
    assert f"key: finished before, but {said} changed since" in caplog.text


def test_missing_files_do_not_hide_stored_results(ask, caplog) -> None:
    outcome = ask(DataError("no such folder"))
    assert outcome["reused"]
    assert "their files cannot be compared: no such folder" in caplog.text
