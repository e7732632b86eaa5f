"""The check of a GPU, on a processor with a tiny shape: every part finds its numbers, and the JSON holds them."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from collm.registry import default_registry

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "gpu_check.py"
LITTLE = ["--device", "cpu", "--shapes", "tiny", "--rows", "24"]


@pytest.fixture(scope="module")
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def test_every_part_finds_its_numbers(gpu_check, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "REPETITIONS", 1)
    assert gpu_check.main([*LITTLE, "--output", str(tmp_path / "check.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "check.json").read_text(encoding="utf-8")) == found
    exact = found["parity"]["float32"]
    assert set(exact) == {"plain_loop", "blocks", "levels"}
    for way in ("blocks", "levels"):
        assert exact[way]["largest"] < 1e-4
        assert exact[way]["gradient"] < 1e-4
    rounded = found["parity"]["bfloat16"]
    assert 0 < rounded["plain_loop"]["largest"] < 0.2
    assert all(0 < rounded[way]["gradient"] < 0.2 for way in ("blocks", "levels"))
    for rates in (found["attention"][name] for name in ("scoring_rows_per_s", "text_step_samples_per_s")):
        assert set(rates) == {"blocks", "levels"}
        assert all(len(each) == 1 and each[0] > 0 for each in rates.values())
    shape = found["shape tiny"]
    assert set(shape["cases"]) >= {"scoring", "text_step", "collaborative_step", "ranking_100"}
    assert shape["test_set_s"] == pytest.approx(shape["test_rows"] / shape["cases"]["scoring"]["ours_per_s"])
    assert found["tests"]["exit_status"] == 0
    assert "skipped" in found["tests"]["summary"] or torch.cuda.is_available()


def test_a_part_that_fails_costs_no_other_part(gpu_check, capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu_check, "parity", fails)
    monkeypatch.setattr(gpu_check, "attention", lambda _: {"found": 1})
    monkeypatch.setattr(gpu_check, "shape", lambda *_: {"found": 2})
    monkeypatch.setattr(gpu_check, "tests", lambda _: {"left_out": "not asked"})
    assert gpu_check.main(LITTLE) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["parity"]["failed"] == "RuntimeError: out of memory"
    assert found["attention"]["found"] == 1
    assert found["shape tiny"]["found"] == 2


def test_no_part_begins_when_the_time_is_used_up(gpu_check, capsys):
    assert gpu_check.main([*LITTLE, "--minutes", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all("left_out" in found[name] for name in ("tests", "parity", "attention", "shape tiny"))


def test_shapes_need_no_weights(gpu_check, tmp_path):
    check = gpu_check.Check(
        device=torch.device("cpu"),
        data=None,
        tokenizer=None,
        shapes=gpu_check.SHAPES,
        rows=1,
        deadline=time.monotonic(),
        scratch=tmp_path,
        registry=default_registry(),
    )
    widths = [check.spec(name).backbone.hidden_size for name in gpu_check.SHAPES]
    assert widths == [576, 1536, 4096]
    assert all(check.spec(name).backbone.tokenizer_of is None for name in gpu_check.SHAPES)
