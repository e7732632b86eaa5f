"""One stage: worked out once per fingerprint, continued after a failure, its facts kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm.engine import fit_phases
from collm.engine.checkpoint import save_tensors
from collm.runs.environment import UNRECORDED, GitState, Provenance
from collm.runs.files import finish_folder
from collm.stages import tune
from collm.stages.stage import StageResult, StageRunner


def runner(folder: Path, seen: list[StageResult], provenance: Provenance = UNRECORDED) -> StageRunner:
    return StageRunner(folder, finished=seen.append, provenance=provenance)


def test_a_finished_stage_is_reused_by_fingerprint_alone(tmp_path: Path) -> None:
    calls: list[Path] = []
    seen: list[StageResult] = []

    def work(folder: Path) -> dict[str, int]:
        calls.append(folder)
        (folder / "out.txt").write_text("done")
        return {"rows": 3}

    first = runner(tmp_path, seen).run("fit", {"seed": 0}, work)
    again = runner(tmp_path, seen).run("fit", {"seed": 0}, work)
    other = runner(tmp_path, seen).run("fit", {"seed": 1}, work)
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert len(calls) == 2
    assert again.folder == first.folder != other.folder
    assert again.facts == {"rows": 3}
    assert again.work_seconds == first.work_seconds
    assert [result.name for result in seen] == ["fit", "fit", "fit"]


def test_a_stage_knows_the_command_that_worked_on_it(tmp_path: Path) -> None:
    first = Provenance(("collm", "run", "a.yaml"), (GitState(("spec",), "abc", True, 0),))
    later = Provenance(("collm", "run", "b.yaml"))
    made = runner(tmp_path, [], first).run("fit", {}, lambda _: {})
    again = runner(tmp_path, [], later).run("fit", {}, lambda _: {})
    assert made.made == again.made == json.loads(json.dumps(first.plain()))
    record = again.folder / "stage.json"
    older = {key: value for key, value in json.loads(record.read_text()).items() if key != "made"}
    record.write_text(json.dumps(older))
    finish_folder(record.parent)
    assert runner(tmp_path, [], later).run("fit", {}, lambda _: {}).made is None


@pytest.mark.parametrize("checkpoint", [tune.CHECKPOINT, fit_phases.CHECKPOINT.format("fit")])
def test_the_seconds_of_a_continued_stage_hold_those_of_the_interrupted_attempt(
    tmp_path: Path, checkpoint: str
) -> None:
    def interrupted(folder: Path) -> dict[str, int]:
        save_tensors(folder / checkpoint, {}, {"state": {"seconds": 100.0}})
        raise KeyboardInterrupt

    def ends(folder: Path) -> dict[str, int]:
        (folder / checkpoint).unlink()
        return {}

    stages = runner(tmp_path, [])
    with pytest.raises(KeyboardInterrupt):
        stages.run("fit", {}, interrupted)
    assert 100 <= stages.run("fit", {}, ends).work_seconds < 110
    assert stages.run("fit", {"seed": 1}, lambda _: {}).work_seconds < 10


def test_a_failed_stage_keeps_its_files_and_is_worked_on_again(tmp_path: Path) -> None:
    def fails(folder: Path) -> dict[str, int]:
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    stages = runner(tmp_path, [])
    with pytest.raises(KeyboardInterrupt):
        stages.run("fit", {"seed": 0}, fails)
    found: list[str] = []

    def continues(folder: Path) -> dict[str, int]:
        found.append((folder / "checkpoint").read_text())
        return {}

    assert not stages.run("fit", {"seed": 0}, continues).reused
    assert found == ["half"]
