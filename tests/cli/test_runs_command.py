"""`collm runs`: what is damaged, what is locked, and links are left alone."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from collm.cli.main import call
from collm.errors import RunError
from collm.locks import Holder
from collm.runs.records import RunResults
from collm.runs.store import RunFolder, StageStore

RESULTS = {
    "schema": 1, "name": "r", "run": "r", "spec_hash": "abc", "seed": 0, "profile": "recommended",
    "metrics": {"test": {"all": {"auc": {"value": 0.75, "n": 5}}}},
}  # fmt: skip
GONE = Holder(pid=1, host="a-host-that-is-gone", start=0.0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with StageStore(tmp_path).claim("evaluate", "f00") as stage:
        (stage / "scores.parquet").write_bytes(b"scores")
    folder = RunFolder(tmp_path, "r", "abc")
    folder.append_event("stage_finished", stage="evaluate", fingerprint="f00")
    folder.write_spec({"name": "r"})
    folder.write_results(RunResults.check(RESULTS, place="results.json"))
    folder.write_done()
    return tmp_path


def test_whole_runs_are_whole(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["runs", "check", "--runs-dir", str(runs)]) == 0
    assert capsys.readouterr().out == f"{runs / 'r-abc'}: whole\n"


def test_damage_of_runs_and_their_stages_is_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = runs / "stages" / "evaluate-f00" / "scores.parquet"
    scores.write_bytes(b"SCORES")
    results = runs / "r-abc" / "results.json"
    results.write_bytes(results.read_bytes().replace(b"0.75", b"0.85"))
    assert call(["runs", "check", "r-abc", "--runs-dir", str(runs), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    changed = "damaged: its contents are not those that were written"
    assert found["faults"] == [f"{results}: {changed}", f"{scores}: {changed}"]
    assert call(["runs", "--runs-dir", str(runs)]) == 0
    listed = capsys.readouterr().out
    assert "damaged" in listed
    assert "0.85" not in listed


def test_a_missing_stage_is_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "stages" / "evaluate-f00" / "done").unlink()
    assert call(["runs", "check", "--runs-dir", str(runs)]) == 1
    assert "evaluate-f00: missing or unfinished" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [(b'"event"', b'"evEnt"'), (b"stage_finished", b"stage_finisheb"), (b'"fingerprint"', b'"fingerprinu"')],
)
def test_a_changed_event_does_not_free_its_stage(
    runs: Path, capsys: pytest.CaptureFixture[str], change: tuple[bytes, bytes]
) -> None:
    events = runs / "r-abc" / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(*change))
    assert call(["runs", "gc", "--runs-dir", str(runs)]) == 1
    assert f"{events}: damaged" in capsys.readouterr().err
    assert (runs / "stages" / "evaluate-f00" / "done").exists()


def test_an_event_without_its_stage_is_damaged(runs: Path) -> None:
    events = runs / "r-abc" / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b'"fingerprint"', b'"fingerprinu"'))
    with pytest.raises(RunError, match=r"events\.jsonl:1: damaged: stage_finished without fingerprint"):
        RunFolder.at(runs / "r-abc").events()


def test_a_finished_run_without_events_keeps_its_stages(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "r-abc" / "events.jsonl").unlink()
    assert call(["runs", "gc", "--runs-dir", str(runs)]) == 1
    assert "the stages that it uses are not known" in capsys.readouterr().err.replace("\n", " ")
    assert (runs / "stages" / "evaluate-f00" / "done").exists()


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\x0b", "\x1c"])
def test_events_hold_any_text(runs: Path, end: str) -> None:
    RunFolder.at(runs / "r-abc").append_event("run_failed", error=f"a{end}b")
    assert RunFolder.at(runs / "r-abc").events()[-1]["error"] == f"a{end}b"
    assert call(["runs", "gc", "--runs-dir", str(runs)]) == 0


def test_of_a_link_the_link_alone_is_removed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (runs / "r-abc").rename(tmp_path / "other" / "r-abc")
    (runs / "r-abc").symlink_to(tmp_path / "other" / "r-abc")
    assert call(["runs", "rm", "r-abc", "--runs-dir", str(runs)]) == 0
    assert not (runs / "r-abc").is_symlink()
    assert (tmp_path / "other" / "r-abc" / "done").is_file()


def lock(folder: Path, holder: Holder) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock").write_text(json.dumps(asdict(holder)))
    return folder / "lock"


def test_all_locks_of_a_process_that_is_gone_are_named_and_freed(runs: Path, capsys) -> None:
    locks = [lock(runs / "r-abc", GONE), lock(runs / "stages" / "fit_encoder-f01", GONE)]
    other = lock(runs / "stages" / "fit_encoder-f02", Holder(pid=2, host="another-host", start=0.0))
    with pytest.raises(RunError) as caught, RunFolder(runs, "r", "abc").lock():
        pass
    assert all(str(each) in str(caught.value) for each in locks)
    assert str(other) not in str(caught.value)
    assert f"`collm runs unlock r-abc --runs-dir {runs}`" in str(caught.value)
    assert call(["runs", "unlock", "r-abc", "--runs-dir", str(runs)]) == 0
    assert "removed" in capsys.readouterr().err
    assert [each.exists() for each in (*locks, other)] == [False, False, True]
    with RunFolder(runs, "r", "abc").lock():
        pass


def test_a_stage_may_be_unlocked_too(runs: Path) -> None:
    stage = lock(runs / "stages" / "fit_encoder-f01", GONE)
    with pytest.raises(RunError, match="collm runs unlock stages/fit_encoder-f01 --runs-dir"):
        StageStore(runs).claim("fit_encoder", "f01").__enter__()
    assert call(["runs", "unlock", "stages/fit_encoder-f01", "--runs-dir", str(runs)]) == 0
    assert not stage.exists()


def test_a_process_that_runs_here_keeps_its_locks(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = psutil.Process(os.getppid())
    held = lock(runs / "r-abc", Holder(parent.pid, socket.gethostname(), parent.create_time()))
    assert call(["runs", "unlock", "r-abc", "--runs-dir", str(runs)]) == 1
    assert f"which still runs; end it first (kill {parent.pid})" in capsys.readouterr().err
    assert held.exists()


def test_broken_and_absent_locks(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["runs", "unlock", "r-abc", "--runs-dir", str(runs)]) == 0
    assert "not locked" in capsys.readouterr().err
    (runs / "r-abc" / "lock").write_bytes(b"")
    assert call(["runs", "unlock", "r-abc", "--runs-dir", str(runs)]) == 0
    assert not (runs / "r-abc" / "lock").exists()
