"""`collm runs`: the list, what is removed, what is damaged, what is locked, and links are left alone."""

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
from collm.locks import Holder, Lock
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


def test_runs_lists_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = tmp_path / "a-01"
    finished.mkdir()
    (finished / "done").touch()
    (finished / "results.json").write_text(json.dumps({"metrics": {"test": {"all": {"auc": {"value": 0.7}}}}}))
    (tmp_path / "b-02").mkdir()
    (tmp_path / "b-02" / "events.jsonl").touch()
    other = tmp_path / "c-03"
    other.mkdir()
    (other / "done").touch()
    slices = {"cold": {"ndcg@3": {"value": None}}, "warm": {"ndcg@3": {"value": 0.6}}}
    (other / "results.json").write_text(json.dumps({"metrics": {"valid": slices}}))
    (tmp_path / "stages").mkdir()
    (tmp_path / "notes").mkdir()
    assert call(["runs", "--runs-dir", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [(Path(run["folder"]).name, run["state"], run["test_auc"]) for run in listed] == [
        ("a-01", "done", 0.7),
        ("b-02", "unfinished", None),
        ("c-03", "done", None),
    ]
    assert call(["runs", "--runs-dir", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "test AUC 0.7000" in listed
    assert "valid warm NDCG@3 0.6000" in listed


def test_rm_and_gc_leave_what_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("used-1", "free-2", "half-3"):
        stage = tmp_path / "stages" / name
        stage.mkdir(parents=True)
        (stage / "weights").write_bytes(b"x" * 1_000_000)
        if not name.startswith("half"):
            (stage / "done").touch()
    for run in ("a-01", "b-02"):
        (tmp_path / run).mkdir()
        event = {"event": "stage_finished", "stage": "used", "fingerprint": "1"}
        (tmp_path / run / "events.jsonl").write_text(json.dumps(event) + "\n")

    def left() -> set[str]:
        return {path.name for path in [*tmp_path.iterdir(), *(tmp_path / "stages").iterdir()]} - {"stages"}

    assert call(["runs", "rm", "a-01", "--runs-dir", str(tmp_path)]) == 0
    assert call(["runs", "gc", "--dry-run", "--runs-dir", str(tmp_path)]) == 0
    assert "1.0 MB in 1 folders would be freed" in capsys.readouterr().out
    assert left() == {"b-02", "used-1", "free-2", "half-3"}
    assert call(["runs", "gc", "--runs-dir", str(tmp_path)]) == 0
    assert left() == {"b-02", "used-1", "half-3"}
    assert call(["runs", "gc", "--unfinished", "--runs-dir", str(tmp_path)]) == 0
    assert left() == {"b-02", "used-1"}
    assert call(["runs", "rm", "stages", "--runs-dir", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_held_run_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a-01").mkdir()
    (tmp_path / "a-01" / "events.jsonl").touch()
    with Lock(tmp_path / "a-01" / "lock"):
        assert call(["runs", "rm", "a-01", "--runs-dir", str(tmp_path)]) == 1
        assert f"in use by pid {os.getpid()}" in capsys.readouterr().err
    assert (tmp_path / "a-01").is_dir()
