"""`collm bench` as people call it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from forked import COLLM, run_forked

from collm.bench import cases
from collm.bench.machine import Peak
from collm.bench.measure import BenchResult, CaseResult, bench_tables
from collm.cli import bench as bench_command
from collm.cli.context import emit_table
from collm.cli.main import call

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "experiments" / "benchmarks" / "tiny.yaml")
LITTLE = ("--rows", "24", "--users", "2", "--repetitions", "1", "--threads", "1")
CASES = ("scoring", "text_step", "collaborative_step", "collaborative_step_kept", "ranking_100")
KEYS = {"ours_per_s", "plain_per_s", "speedup", "share_of_peak", "peak_memory_gb"}


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return run_forked([*COLLM, "bench", *arguments], cwd=folder, environment=environment)


def test_json_has_the_promised_form(tmp_path: Path) -> None:
    done = bench(tmp_path, TINY, *LITTLE, "--json", "--output", "out")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert set(content) == {"peak_gflops", "cases", "collaborative_over_text_step", "scoring_over_text_only"}
    assert tuple(content["cases"]) == CASES
    for name, case in content["cases"].items():
        assert set(case) == KEYS, name
        assert all(value > 0 for value in case.values()), name
        assert case["speedup"] == pytest.approx(case["ours_per_s"] / case["plain_per_s"])
        assert case["share_of_peak"] < 1
    text, collaborative = (content["cases"][name]["ours_per_s"] for name in ("text_step", "collaborative_step"))
    assert content["collaborative_over_text_step"] == pytest.approx(text / collaborative)
    assert content["scoring_over_text_only"] > 0
    details = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
    assert {name: details[name] for name in content} == content
    assert len(details["repetitions"]["ranking_100"]["ours"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "nothing else is written"


def test_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    case = CaseResult("ranking_100", 1.5, ours=[9.0, 10.0, 11.0], plain=[2.0], tokens_per_s=[5_000.0], gflops=[50.0])
    environment = {"torch": {"devices": [], "threads": 1, "wait_policy": "passive", "allocator": "tcmalloc"}}
    emit_table(*bench_tables(BenchResult(Peak(100.0, (2048, 576, 1536)), [case], environment, 0)))
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "ranking 100 candidates" in line]
    assert [part.strip() for part in line.split("\u2502")[2:-1]] == [
        "10 +-10%",
        "2 +-0%",
        "5.00x",
        "5,000",
        "50%",
        "1.50",
        "3/1",
    ]
    assert "Measured peak: 100.0 GFLOP/s (2048 x 576 x 1536" in shown
    assert "Measured with 1 thread; allocator: tcmalloc." in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TINY, "--cases", "scorng"], "--cases: got 'scorng'; the cases are scoring, text_step"),
        (
            [TINY, "--set", "backbone=null", "--set", "prompt=null", "--set", "tuning=null"],
            "tiny.yaml: bench measures a language model, and this spec has no backbone",
        ),
        ([str(ROOT / "experiments" / "quickstart.yaml")], "bench measures one spec"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_cases_of_the_command_are_those_that_are_measured() -> None:
    assert CASES == cases.CASES == bench_command.CASES
