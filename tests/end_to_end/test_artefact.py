"""The commands of docs/specs.md and docs/reports.md on suites and packed runs, walked as they appear there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import polars as pl
import pytest
from generated import call, command, write_data

DOCS = Path(__file__).resolve().parents[2] / "docs"
SMALL = ("--set", "dataset.path=data", "--set", "encoder.fit.epochs=2", "--set", "evaluate.resamples=20")


def section(page: str, heading: str) -> str:
    """A section of a page, to the next heading of its level or a higher one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    end = rf"^#{{1,{heading.count('#')}}} (?!\S+\.yaml$)|\Z"
    (found,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?={end})", text, re.DOTALL | re.MULTILINE)
    return str(found)


def lines(page: str, heading: str) -> list[list[str]]:
    """The words of every command of a section."""
    (block,) = re.findall(r"^```bash\n(.*?)^```$", section(page, heading), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for line in block.splitlines()]


def walk(folder: Path, page: str, heading: str) -> list[subprocess.CompletedProcess[str]]:
    """Runs a section's commands, on generated data and few epochs where they name a file of settings."""
    made = []
    for words in lines(page, heading):
        assert words[0] == "collm"
        more = SMALL if any(word.endswith(".yaml") for word in words) else ()
        made.append(call(folder, *words[1:], *more))
        assert made[-1].returncode == 0, made[-1].stderr
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artefact")
    write_data(root / "data")
    for body in re.findall(r"^```yaml spec\n(.*?)^```$", section("specs.md", "## Suites"), re.DOTALL | re.MULTILINE):
        (root / body.split()[1]).write_text(body, encoding="utf-8")
    return root


def test_the_commands_on_some_runs_of_a_suite(folder: Path) -> None:
    run, report = walk(folder, "specs.md", "### Some runs of a suite")
    assert "--only: mf-bias-seed0, mf-bias-seed1, mf-bias-seed2; left out of bias-or-not: 3 runs" in run.stderr
    assert (
        sorted(path.name.rpartition("-")[0] for path in (folder / "runs").glob("bias*")) == ["bias-or-not-mf-bias"] * 3
    )
    assert "n=3 (0, 1, 2)" in report.stdout


def test_the_suite_on_a_suite(folder: Path) -> None:
    done = call(folder, "run", "with-mine.yaml", *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    assert [(run["run"], run["seed"]) for run in json.loads(done.stdout)["runs"]] == [("mf-bias", 3), ("mine", 3)]


@pytest.fixture(scope="module")
def packed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """The zip of the page, alone in a folder on \"another machine\", and what its commands said."""
    made = walk(folder, "reports.md", "## The artefact of a paper")
    away = tmp_path_factory.mktemp("away")
    shutil.copyfile(folder / "results.zip", away / "results.zip")
    return away, made


def test_the_zip_is_reported_as_the_suite_without_its_data(folder: Path, packed) -> None:
    away, (_, pack, report) = packed
    assert re.match(r"results\.zip: 4 runs, [\d,]+ bytes, sha256 [0-9a-f]{64}\n", pack.stdout)
    assert (
        f"places of this machine appear in specs or command lines, e.g. dataset.path: {folder / 'data'}" in pack.stderr
    )
    assert "wrote report.html" in report.stderr
    there = call(away, "report", "results.zip", "--csv", "there.csv")
    assert there.returncode == 0, there.stderr
    here = call(folder, "report", "bias-or-not.yaml", *SMALL, "--csv", "here.csv")
    assert here.returncode == 0, here.stderr
    assert (away / "there.csv").read_bytes() == (folder / "here.csv").read_bytes()
    assert "results.zip/runs/bias-or-not-mf-" in there.stdout
    with zipfile.ZipFile(away / "results.zip") as archive:
        assert archive.read("report.csv") == (folder / "here.csv").read_bytes()
        assert not [name for name in archive.namelist() if "stages" in name]
        environment = json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("environment.json"))))
    assert environment["command"][:3] == ["collm", "run", "bias-or-not.yaml"]
    assert set(environment["contents"]) == {"dataset"}
    assert [path.name for path in away.iterdir() if path.name.startswith(".")] == []


def test_work_that_was_reused_names_the_command_that_did_it(folder: Path, packed) -> None:
    (both,) = (path for path in (folder / "runs").glob("bias-or-not-mf-bias-*") if '"seed": 2' in read(path))
    assert json.loads((both / "environment.json").read_text())["reused_stages"].keys() <= {"prepare_data"}
    (mf, *_) = (path for path in (folder / "runs").glob("bias-or-not-mf-*") if "mf-bias" not in path.name)
    reused = json.loads((mf / "environment.json").read_text())["reused_stages"]["prepare_data"]
    assert reused["command"][:5] == ["collm", "run", "bias-or-not.yaml", "--only", "mf-bias"]


def read(path: Path) -> str:
    return (path / "results.json").read_text()


def test_a_zip_that_is_there_is_kept_and_damage_is_named(packed) -> None:
    away, _ = packed
    before = (away / "results.zip").read_bytes()
    kept = call(away, "runs", "pack", "results.zip", "-o", "results.zip")
    assert kept.returncode == 2
    assert "results.zip: already exists; choose another name with -o, or overwrite it with --force" in kept.stderr
    again = call(away, "runs", "pack", "results.zip", "-o", "results.zip", "--force", "--no-report")
    assert again.returncode == 0, again.stderr
    assert call(away, "report", "results.zip").returncode == 0
    (away / "cut.zip").write_bytes(before[: len(before) // 2])
    cut = call(away, "report", "cut.zip")
    assert (cut.returncode, cut.stdout) == (1, "")
    assert cut.stderr.startswith("cut.zip: cannot be read as a zip")
    (away / "yaml.zip").write_text("name: x\n")
    assert "yaml.zip: cannot be read as a zip" in call(away, "report", "yaml.zip").stderr


def test_an_interrupt_leaves_no_part_of_a_zip(folder: Path, packed) -> None:
    words = command("runs", "pack", "bias-or-not.yaml", "-o", "late/r.zip", *SMALL)
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    left = list((folder / "late").iterdir()) if (folder / "late").exists() else []
    assert [path.name for path in left] in ([], ["r.zip"])
    if left:
        assert zipfile.ZipFile(left[0]).testzip() is None


def test_predictions_as_csv(folder: Path, packed) -> None:
    (words,) = lines("run-folder.md", "## scores.parquet")
    run = next((folder / "runs").glob("bias-or-not-mf-bias-*"))
    words = [str(run) if word.startswith("runs/") else word for word in words]
    done = call(folder, *words[1:])
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(folder / "predictions.csv", schema_overrides={"user": pl.String, "item": pl.String})
    stored = pl.read_parquet(run / "scores.parquet").filter(pl.col("split") == "test")
    assert table["score"].to_list() == stored["score"].to_list()
    assert table["user"].to_list() == stored["user"].to_list()
    floors = pl.read_parquet(run / "floors.parquet").filter(pl.col("split") == "test")
    assert table["floor:item-mean"].to_list() == floors["item-mean"].to_list()
