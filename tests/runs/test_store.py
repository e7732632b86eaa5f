"""Run folders and stages on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_results import RESULTS

from collm.errors import RunError
from collm.runs.records import RunResults
from collm.runs.store import RunFolder, StageStore


def test_done_is_written_only_when_the_block_ends_well(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    with pytest.raises(ValueError, match="interrupted"), store.claim("tune_1", "f00") as folder:
        (folder / "checkpoint").write_text("half")
        raise ValueError("interrupted")
    assert not store.is_done("tune_1", "f00")
    with store.claim("tune_1", "f00") as folder:
        assert (folder / "checkpoint").read_text() == "half"
        assert not store.is_done("tune_1", "f00")
    assert store.is_done("tune_1", "f00")
    assert folder == tmp_path / "stages" / "tune_1-f00"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "done"]


def test_claim_removes_temporary_files_of_a_killed_writer(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    leftover = store.folder("tune_1", "f00") / ".weights.12-ab.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    with store.claim("tune_1", "f00"):
        assert not leftover.exists()


def test_claim_twice_in_one_process_is_refused_not_a_deadlock(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    with store.claim("tune_1", "f00"), pytest.raises(RunError, match="this process holds it already"):
        store.claim("tune_1", "f00").__enter__()


def test_run_folder_holds_the_documented_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "my run", "abc")
    with folder.lock():
        folder.write_spec({"name": "my run", "seed": 0})
        folder.write_environment({"python": "3"})
        folder.append_event("run_started")
        folder.write_results(RunResults.check(RESULTS, place="results.json"))
        assert not folder.is_done()
        folder.write_done()
    assert folder.path == tmp_path / "my-run-abc"
    assert folder.is_done()
    assert folder.results().plain() == RESULTS
    assert yaml.safe_load((folder.path / "spec.yaml").read_text()) == {"name": "my run", "seed": 0}
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"spec.yaml", "environment.json", "events.jsonl", "results.json", "done"}


@pytest.mark.parametrize("name", ["../../escape", "/absolute", "..", ""])
def test_run_name_cannot_leave_the_runs_directory(tmp_path: Path, name: str) -> None:
    assert RunFolder(tmp_path, name, "abc").path.resolve().parent == tmp_path.resolve()


def test_events_survive_a_torn_last_line(tmp_path: Path) -> None:
    RunFolder(tmp_path, "n", "abc").append_event("first", value=1)
    path = tmp_path / "n-abc" / "events.jsonl"
    with path.open("a") as stream:
        stream.write('{"time": "2026", "eve')
    again = RunFolder(tmp_path, "n", "abc")
    assert [event["event"] for event in again.events()] == ["first"]
    again.append_event("second")
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["first", "second"]


def test_no_events_yet(tmp_path: Path) -> None:
    assert RunFolder(tmp_path, "n", "abc").events() == []


def test_results_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results\.json: not a results file of schema 1: .*seed"):
        RunResults.check({**RESULTS, "seed": "zero"}, place="results.json")
    broken = json.loads(json.dumps(RESULTS))
    broken["metrics"]["test"]["all"]["auc"]["value"] = float("nan")
    with pytest.raises(RunError, match=r"auc\.value"):
        RunResults.check(broken, place="results.json")
    folder = RunFolder(tmp_path, "n", "abc")
    folder.path.mkdir()
    (folder.path / "results.json").write_text(json.dumps({**RESULTS, "seed": "zero"}))
    with pytest.raises(RunError, match=r"results\.json: not a results file of schema 1: .*seed"):
        folder.results()


def test_missing_and_broken_results_say_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "n", "abc")
    with pytest.raises(RunError, match=r"missing; the run is not finished: repeat `collm run`"):
        folder.results()
    folder.path.mkdir()
    (folder.path / "results.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        folder.results()
    (folder.path / "results.json").unlink()
    (folder.path / "results.json").mkdir()
    with pytest.raises(RunError, match=r"results\.json: cannot be read \(Is a directory\)"):
        folder.results()
