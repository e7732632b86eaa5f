"""`import collm`: light, and the same work as the command line's."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import collm
from collm.cli.main import call
from collm.errors import RunError, SpecError, UsageError

SPEC = """\
name: small
dataset: {name: tiny, n_users: 30, n_items: 20, rows_per_user: 12}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
evaluate: {resamples: 20}
"""
SUITE = """\
name: pair
base: small.yaml
seeds: [0, 1]
runs:
  narrow: {}
  wide: {encoder: {embedding_size: 8}}
ensembles: {both: [narrow, wide]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "pair.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def test_importing_collm_loads_nothing_heavy() -> None:
    probe = (
        "import sys, collm\n"
        "before = [n for n in ('torch', 'polars', 'pydantic', 'collm.api') if n in sys.modules]\n"
        "collm.run, collm.load_results, collm.open_run, collm.CollmError\n"
        "after = [n for n in ('torch', 'polars', 'sklearn') if n in sys.modules]\n"
        "print(before, after)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[] []", "")


def test_public_names_are_there_and_others_are_named() -> None:
    assert set(collm.__all__) <= set(dir(collm))
    assert all(getattr(collm, name) is not None for name in collm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'; public: CollmError, Result"):
        collm.runn  # noqa: B018


def test_python_and_command_line_share_their_runs(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = collm.run("small.yaml", {"encoder.fit.epochs": 3}, threads=1)
    assert not result.runs[0].reused
    capfd.readouterr()
    assert call(["run", "small.yaml", "--set", "encoder.fit.epochs=3", "--json"]) == 0
    printed, said = capfd.readouterr()
    assert "everything was finished before" in said
    assert json.loads(printed) | {"reused": False} == result.runs[0].plain() | {"run_dir": str(result.runs[0].folder)}
    again = collm.run(Path("small.yaml"), {"encoder": {"fit": {"epochs": 3}, "name": "mf-bias", "embedding_size": 4}})
    assert again.runs[0].reused
    assert again.runs[0].folder == result.runs[0].folder
    environment = json.loads((result.runs[0].folder / "environment.json").read_text(encoding="utf-8"))
    assert "command" not in environment


def test_finished_run_answers_without_torch(folder: Path) -> None:
    collm.run("small.yaml", threads=1)
    probe = "import sys, collm\nprint(collm.run('small.yaml').runs[0].reused, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n", done.stderr


def test_suite_gives_its_runs_seeds_and_ensembles(folder: Path) -> None:
    result = collm.run("pair.yaml", threads=1)
    named = [(each.results.run, each.results.seed) for each in result.runs]
    assert named == [("narrow", 0), ("narrow", 1), ("wide", 0), ("wide", 1), ("both", 0), ("both", 1)]
    assert result.failed == {}
    assert result.get("wide", seed=1) is result.runs[3]
    with pytest.raises(UsageError, match=r"'wide' has the seeds 0, 1; choose one, e.g. get\('wide', seed=0\)"):
        result.get("wide")
    with pytest.raises(UsageError, match=r"no run 'wid' \(did you mean 'wide'\?\); its runs: narrow, wide, both"):
        result.get("wid")
    one = collm.run("pair.yaml", {"seeds": [1]}, only=["wide"])
    assert one.get("wide").folder == result.get("wide", seed=1).folder
    expected = sorted(each.folder.name for each in result.runs)
    assert sorted(collm.load_results("runs")["run"].unique()) == expected


def numbers(folder: Path, floors: bool) -> set[tuple[Any, ...]]:
    """Reads `results.json` in another way than the code: as plain JSON, walked to the records."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = set()

    def walk(node: dict[str, Any], path: tuple[str, ...]) -> None:
        if "n" in node and "skipped" in node:
            found.add((path, node["value"], node["low"], node["high"], node["n"], sum(node["skipped"].values())))
            return
        for key, below in node.items():
            walk(below, (*path, key))

    walk(content["floors" if floors else "metrics"], ())
    return found


def test_load_results_holds_every_number_of_results_json(folder: Path) -> None:
    run = collm.run("small.yaml", threads=1).runs[0]
    frame = collm.load_results(run.folder)
    own, floors = frame.filter(~pl.col("floor")), frame.filter("floor")
    values = ("value", "low", "high", "n", "skipped")
    assert {((s, p, m), *v) for s, p, m, *v in own.select("split", "slice", "metric", *values).rows()} == numbers(
        run.folder, floors=False
    )
    rows = floors.select("split", "slice", "method", "metric", *values).rows()
    assert {((s, p, f, m), *v) for s, p, f, m, *v in rows} == numbers(run.folder, floors=True)
    assert len(rows) == floors.height > 0
    assert own["method"].unique().to_list() == ["small"]
    assert frame["candidates"].unique().to_list() == [""]
    assert frame["notes"][0].to_list() == run.results.notes
    assert frame["data"][0] == run.results.stages["prepare_data"]
    assert frame.equals(collm.run("small.yaml").frame())


def test_unfinished_runs_are_left_out_by_name(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    collm.run("pair.yaml", {"seeds": [0]}, threads=1)
    done = collm.run("pair.yaml", {"seeds": [0]}).get("narrow").folder
    (done / "done").unlink()
    with caplog.at_level(logging.WARNING, "collm"):
        frame = collm.load_results("runs")
    assert f"not finished, left out: {done.name}" in caplog.text
    assert done.name not in frame["run"]
    assert frame["run"].n_unique() == 2
    with pytest.raises(RunError, match="not finished"):
        collm.load_results(done)


def test_edited_results_say_so_and_damaged_ones_are_refused(folder: Path) -> None:
    run = collm.run("small.yaml", threads=1).runs[0].folder
    text = (run / "results.json").read_text(encoding="utf-8")
    (run / "results.json").write_text(text.replace('"seed": 0', '"seed":  0'), encoding="utf-8")
    assert "edited or damaged since" in collm.load_results(run)["notes"][0].to_list()[-1]
    (run / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"results\.json"):
        collm.load_results(run)


@pytest.mark.parametrize(
    ("place", "said"),
    [("nowhere", "no such folder"), ("small.yaml", "is a file"), ("cache", "neither a run folder nor a directory")],
)
def test_wrong_place_of_results_is_named(folder: Path, place: str, said: str) -> None:
    (folder / "cache").mkdir()
    with pytest.raises(UsageError, match=said):
        collm.load_results(place)


def test_mistakes_are_those_of_the_command_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="did you mean 'epochs'") as caught:
        collm.run("small.yaml", {"encoder.fit.epoch": 3})
    assert call(["run", "small.yaml", "--set", "encoder.fit.epoch=3"]) == 2
    assert str(caught.value) in capfd.readouterr().err
    with pytest.raises(UsageError, match=r"smal\.yaml: no such file; the working directory is "):
        collm.run("smal.yaml")
    with pytest.raises(UsageError, match=r"overrides: seed: nan cannot be written as YAML"):
        collm.run("small.yaml", {"seed": float("nan")})
    with pytest.raises(UsageError, match=r"overrides: encoder: .* \(set is not plain data\)"):
        collm.run("small.yaml", {"encoder": {1, 2}})


def test_processes_of_a_launcher_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="a launcher started several"):
        collm.run("small.yaml")


def test_run_of_a_suite_that_fails_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import collm.suite as suite

    real = suite.run_spec

    def fails_once(spec: Any, *arguments: Any, **named: Any) -> Any:
        if named["run"] == "wide":
            raise RunError("the loss is NaN")
        return real(spec, *arguments, **named)

    monkeypatch.setattr(suite, "run_spec", fails_once)
    result = collm.run("pair.yaml", {"seeds": [0]}, threads=1)
    assert result.failed["wide"] == "the loss is NaN"
    assert "which did not finish" in result.failed["both"]
    with pytest.raises(RunError, match="pair: wide failed: the loss is NaN"):
        result.get("wide")


def test_opened_run_scores_as_the_command_does(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = collm.run("small.yaml", threads=1).runs[0].folder
    probabilities = collm.open_run(str(run), device="cpu").score(["1", "2"], ["3", "4"])
    (folder / "pairs.csv").write_text("user,item\n1,3\n2,4\n", encoding="utf-8")
    capfd.readouterr()
    assert call(["score", str(run), "pairs.csv", "-o", "scores.csv"]) == 0
    assert pl.read_csv("scores.csv")["score"].to_list() == pytest.approx(list(probabilities), abs=1e-12)


@pytest.mark.parametrize(("policy", "said"), [("frozen", ""), ("encoder", "updated the model before each window")])
def test_model_without_the_updates_of_its_windows_says_so(
    policy: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import collm.trained.opened as opened

    evaluate = SimpleNamespace(policy=policy)
    model = SimpleNamespace(path=Path("runs/x"), spec=SimpleNamespace(evaluate=evaluate))
    monkeypatch.setattr(opened, "open_run", lambda *_, **__: model)
    with caplog.at_level(logging.WARNING, "collm"):
        assert collm.open_run("runs/x") is model
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)
