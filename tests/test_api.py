"""`import collm`: light, and the same work as the command line's."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
    probabilities = collm.open_run(str(run), device="cpu").score(["u1", "u2"], ["i3", "i4"])
    assert probabilities[0] != probabilities[1]
    (folder / "pairs.csv").write_text("user,item\nu1,i3\nu2,i4\n", encoding="utf-8")
    capfd.readouterr()
    assert call(["score", str(run), "pairs.csv", "-o", "scores.csv"]) == 0
    assert pl.read_csv("scores.csv")["score"].to_list() == pytest.approx(list(probabilities), abs=1e-12)


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(UsageError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def test_opened_run_takes_text_alone_and_lists_of_one_length(folder: Path) -> None:
    model = collm.open_run(collm.run("small.yaml", threads=1).runs[0].folder, device="cpu")
    users, items, times = ["u1", "u2", "u3"], ["i3", "i4", "new"], [1_000_000_000] * 3
    wanted = model.score(users, items, times).tolist()
    assert len(set(wanted)) == 3
    assert model.score(np.array(users), np.array(items), np.array(times)).tolist() == wanted
    assert model.score(pl.Series(users), tuple(np.str_(item) for item in items), pl.Series(times)).tolist() == wanted
    assert model.score([], []).tolist() == []
    advice = "must be text; write the raw id as text, e.g."
    assert refused(model.score, [1, 2], ["i3", "i4"]) == f"users[0]: got 1 (int), {advice} '1'"
    assert refused(model.score, ["u1", "u2"], ["i3", np.int64(7)]) == f"items[1]: got np.int64(7) (int64), {advice} '7'"
    assert refused(model.score, np.array([1, 2]), items[:2]) == f"users[0]: got np.int64(1) (int64), {advice} '1'"
    assert refused(model.score, ["u1", None], items[:2]) == f"users[1]: got None (NoneType), {advice} '1'"
    assert "users: got 'u1' (str), must be a list of raw ids" in refused(model.score, "u1", "i3")
    assert "items: got None (NoneType), must be a list" in refused(model.score, ["u1"], None)
    assert "different lengths (users 1, items 3)" in refused(model.score, ["u1"], items)
    assert "different lengths (users 3, items 1)" in refused(model.score, users, ["i3"])
    assert "different lengths (users 3, items 3, times 1)" in refused(model.score, users, items, times[:1])
    assert "times: got 1000000000 (int), must be a list of times" in refused(model.score, ["u1"], ["i3"], times[0])
    assert f"titles[0]: got 7 (int), {advice} '7'" in refused(model.score, users, items, titles={7: "New"})
    assert "titles['new']: got 7 (int), must be" in refused(model.score, users, items, titles={"new": 7})
    assert "titles: got ['new'] (list), must be a mapping" in refused(model.score, users, items, titles=["new"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"spec": None}, "spec: got None (NoneType), must be the path of a YAML file"),
        ({"spec": {"name": "x"}}, "spec: got {'name': 'x'} (dict), must be the path of a YAML file"),
        ({"overrides": ["seed=1"]}, "overrides: got ['seed=1'] (list), must be a mapping from dotted path to value"),
        ({"overrides": "seed=1"}, "overrides: got 'seed=1' (str), must be a mapping"),
        ({"overrides": {5: 1}}, "overrides: got 5 (int), must be a dotted path without '='"),
        ({"overrides": {"name=x": 1}}, "overrides: got 'name=x' (str), must be a dotted path without '='"),
        ({"only": "ab"}, "only: got 'ab' (str), must be a list of names as text; write brackets around a single one"),
        ({"only": ["narrow", 3]}, "only: got ['narrow', 3] (list), must be a list of names as text"),
        ({"threads": 0}, "threads: got 0 (int), must be a whole number of at least 1"),
        ({"threads": -1}, "threads: got -1 (int), must be a whole number of at least 1"),
        ({"threads": "2"}, "threads: got '2' (str), must be a whole number"),
        ({"runs_dir": None}, "runs_dir: got None (NoneType), must be the path of a directory"),
    ],
)
def test_wrong_arguments_of_run_are_named(folder: Path, arguments: dict[str, Any], said: str) -> None:
    assert said in refused(collm.run, **{"spec": "pair.yaml", **arguments})
    assert not (folder / "runs").exists()


def test_wrong_arguments_beside_a_finished_run_are_named(folder: Path) -> None:
    result = collm.run("small.yaml", threads=1)
    outcome = result.runs[0]
    assert result.get("small", seed=np.int64(0)) is outcome
    assert "seed: got '0' (str), must be a whole number" in refused(result.get, "small", seed="0")
    assert "method: got None (NoneType), must be the name of a run" in refused(result.get, None)
    assert "(list), must be the path of a run folder or of a" in refused(collm.load_results, [outcome.folder])
    assert "(RunOutcome), must be the path of a run folder, e.g. the `folder`" in refused(collm.open_run, outcome)
    assert "threads: got 0 (int)" in refused(collm.open_run, outcome.folder, threads=0)
    assert "dtype: got 'int8' (str), must be one of: bfloat16" in refused(collm.open_run, outcome.folder, dtype="int8")
    for device in (["cpu"], 3.5, "tpu"):
        with pytest.raises(RunError, match="--device: unknown device"):
            collm.open_run(outcome.folder, device=device)


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
