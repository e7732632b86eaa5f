"""Every file of a finished run cut, emptied, deleted and flipped: never another number without a sentence."""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collm.cli.main import call
from collm.registry import Registry, default_registry
from collm.report.collect import read_run
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.runs.usage import faults_of
from collm.spec.node import Place
from collm.spec.read import read_text
from collm.spec.resolve import resolve_document
from collm.trained.opened import open_run

FLIPS = 20
# One of each kind for the fast tests; the slow ones go over every file of every stage, and flip 20 places.
QUICK = ("cut", "empty", "gone", "flip 0")
PICKED = (
    "prepare_data-*/interactions.parquet",
    "fit_encoder-*/encoder.safetensors",
    "tune_1-*/lora.safetensors",
    "evaluate-*/scores.parquet",
    "metrics-*/metrics.json",
    "evaluate-*/stage.json",
    "evaluate-*/done",
)
SPEC = """
name: d
dataset: {name: tiny, n_users: 30, n_items: 40}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  max_rows: 24
  batch_size: 8
  text: {learning_rate: 1e-3, epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
  collaborative: {learning_rate: 1e-3, epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
evaluate: {resamples: RESAMPLES}
"""


@pytest.fixture(scope="module")
def installed() -> Registry:
    return default_registry()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, installed: Registry) -> Path:
    """A runs directory with one finished run."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, installed, 5)
    return folder


def run(folder: Path, registry: Registry, resamples: int) -> dict[str, Any]:
    spec = resolve_document(read_text(SPEC.replace("RESAMPLES", str(resamples)), Place("d.yaml")), registry)
    options = RunOptions(folder / "runs", folder / "cache", device="cpu", threads=1)
    return run_spec(spec, registry, options).plain()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(seed: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[random.Random(seed).randrange(len(content))] ^= 1 << seed % 8
        return bytes(changed)

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes] | None] = {"cut": cut, "empty": lambda _: b"", "gone": None}
DAMAGES |= {f"flip {seed}": flipped(seed) for seed in range(FLIPS)}


def numbers(results: dict[str, Any]) -> str:
    kept = {name: results[name] for name in ("metrics", "floors", "counts", "full_counts", "notes", "facts")}
    text = json.dumps(kept, sort_keys=True)
    # Seconds of the work are what a clock said, and change with each work.
    return "\n".join(line for line in json.dumps(json.loads(text), indent=0).splitlines() if "seconds" not in line)


def damaged(runs: Path, tmp_path: Path, file: str, damage: str) -> Path:
    """A copy of the runs directory in which one file is damaged."""
    copied = tmp_path / f"{file.replace('/', '_')} {damage}"
    shutil.copytree(runs, copied)
    path, change = copied / "runs" / file, DAMAGES[damage]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    return copied


def files_of(folder: Path, pattern: str) -> list[str]:
    root = folder / "runs"
    return sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if path.stat().st_size)


def chosen(damages: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in damages]


@pytest.mark.parametrize("damage", chosen(DAMAGES))
def test_a_damaged_run_is_named_and_made_again(
    runs: Path, installed: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    before = run(runs, installed, 5)
    assert before["reused"]
    name = Path(before["run_dir"]).name
    for file in files_of(runs, f"{name}/*"):
        folder = damaged(runs, tmp_path, file, damage)
        own = folder / "runs" / name
        marked = file.endswith("/done")
        said = [] if marked and damage == "gone" else list(faults_of(own))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            again = run(folder, installed, 5)
        assert numbers(again) == numbers(before), file
        if again["reused"]:
            # The time in `done` and what was logged after it decide no number.
            assert not said
            continue
        assert (marked and damage == "gone") or str(own) in caplog.text, file
        assert list(faults_of(own)) == []
        assert read_run(own).results.plain() == {
            key: value for key, value in again.items() if key not in ("run_dir", "reused")
        }


@pytest.fixture(scope="module")
def wanted(runs: Path, installed: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What another run on the same stages gives."""
    whole = tmp_path_factory.mktemp("whole") / "copy"
    shutil.copytree(runs, whole)
    return numbers(run(whole, installed, 6))


@pytest.mark.parametrize(
    ("damage", "patterns"),
    [
        *(pytest.param(name, PICKED) for name in QUICK),
        *(pytest.param(name, ("*/*",), marks=pytest.mark.slow) for name in DAMAGES),
    ],
)
def test_a_damaged_stage_is_named_and_worked_out_again(
    runs: Path,
    installed: Registry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wanted: str,
    damage: str,
    patterns: tuple[str, ...],
) -> None:
    used = set(json.loads(next((runs / "runs").glob("d-*/results.json")).read_text())["stages"].items())
    whole = patterns == ("*/*",)
    files = [files_of(runs, f"stages/{pattern}") for pattern in patterns]
    for file in files[0] if whole else [each[0] for each in files]:
        folder = damaged(runs, tmp_path, file, damage)
        stage = file.split("/")[1]
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            other = run(folder, installed, 6)
        assert numbers(other) == wanted, file
        is_used = tuple(stage.rsplit("-", 1)) in used
        if is_used and not file.endswith("/done") and damage.startswith("flip"):
            assert f"{stage}/{Path(file).name}" in caplog.text, file


@pytest.mark.parametrize("damage", ["cut", "gone", "flip 0"])
def test_commands_that_only_read_refuse_what_is_damaged(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    name = next((runs / "runs").glob("d-*")).name
    for file in (f"{name}/scores.parquet", f"{name}/results.json", f"{name}/spec.yaml"):
        folder = damaged(runs, tmp_path, file, damage) / "runs"
        # An edited file of results is shown with the sentence beside the numbers, the rest is one error.
        code = call(["report", str(folder / name), "--markdown", str(tmp_path / "report.md")])
        assert code in ((0, 1) if damage.startswith("flip") and file.endswith("results.json") else (1,))
        captured = capsys.readouterr()
        said = (captured.out if code == 0 else captured.err).replace("\n", "").replace(" ", "")
        assert str(folder / file).replace(" ", "") in said
        assert "`collmrun`" in said
        assert call(["runs", "diff", str(folder / name), str(folder / name)]) == 1
        assert str(folder / file) in capsys.readouterr().err
        assert call(["runs", "check", "--runs-dir", str(folder)]) == 1
        assert str(folder / file) in capsys.readouterr().out


def test_damaged_weights_are_not_scored_with(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lora,) = files_of(runs, "stages/tune_1-*/lora.safetensors")
    folder = damaged(runs, tmp_path, lora, "flip 0") / "runs"
    (tmp_path / "pairs.csv").write_text("user,item\n1,2\n")
    (name,) = [path.name for path in folder.glob("d-*")]
    assert call(["score", str(folder / name), str(tmp_path / "pairs.csv")]) == 1
    said = capsys.readouterr().err
    assert f"{folder / lora}: damaged: its contents are not those that were written" in said
    assert "`collm runs rm` the run, then repeat its `collm run`" in said


def test_a_run_of_an_earlier_version_stays_readable(runs: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(runs, tmp_path / "old")
    for done in (tmp_path / "old" / "runs").rglob("done"):
        done.write_text("2026-01-01T00:00:00Z\n")
    (folder,) = (tmp_path / "old" / "runs").glob("d-*")
    assert read_run(folder).results.name == "d"
    assert open_run(folder, cache_dir=tmp_path).spec.name == "d"
    assert call(["runs", "check", "--runs-dir", str(folder.parent)]) == 0
    assert f"finished by an earlier version, so only presence was looked at: {folder}" in capsys.readouterr().err
