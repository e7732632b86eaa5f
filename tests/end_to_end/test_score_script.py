"""`score.py` of an export takes, refuses or counts what its rows hold; an export says nothing of this machine."""

from __future__ import annotations

import csv
import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from exported import alone
from generated import call, write_data
from model_folders import write_llama

import collm.trained.export as exporting
from collm.trained.export import export_run
from collm.trained.opened import open_run
from collm.trained.standalone import SCRIPT

SUITE = """\
name: rows
base:
  name: rows
  dataset: {name: movielens-small, path: data, item_attributes: [genres]}
  history: {max_items: 4}
  encoder: &mf {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 16
    max_valid_rows: 40
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate: {resamples: 20}
runs:
  mf: {}
  # Names of encoders that are words of templates, too.
  odd:
    encoder: null
    encoders:
      history: *mf
      item_user-history: *mf
      context: {name: attribute-tokens, item: genres}
    prompt:
      name: custom
      template: "Seen: {history+item.history}.[[ Taste {user.item_user-history}.]] New: {target}[[ {item.history} {item.context}]]? #A:"
  # Files of this machine: a model folder, vectors, an adapter.
  files:
    backbone: {name: hf, path: llama, dtype: float32}
    encoder: {name: vectors, users: users.parquet, items: items.parquet}
    tuning.text.start: started/adapter
"""  # noqa: E501
RULE = "allowed are user, item and a list history; ids are text or whole numbers"


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """The folder of the suite, and each run's; its export lies beside them under its name."""
    root = tmp_path_factory.mktemp("rows")
    write_data(root / "data")
    (root / "llama").mkdir()
    write_llama(root / "llama")
    generator = np.random.default_rng(0)
    for side, n in (("users", 20), ("items", 40)):
        vectors = generator.normal(size=(n, 4)).astype(np.float32)
        table = {"id": [str(each) for each in range(1, n + 1)], "vector": vectors.tolist()}
        pl.DataFrame(table).write_parquet(root / f"{side}.parquet")
    suite = yaml.safe_load(SUITE)
    started = suite["base"] | {"name": "started", "backbone": suite["runs"]["files"]["backbone"]}
    (root / "started.yaml").write_text(yaml.safe_dump(started), encoding="utf-8")
    done = call(root, "run", "started.yaml", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    done = call(root, "export", json.loads(done.stdout)["run_dir"], "started")
    assert done.returncode == 0, done.stderr
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = call(root, "run", "suite.yaml", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    runs = {each["run"]: root / each["run_dir"] for each in json.loads(done.stdout)["runs"]}
    for name, folder in runs.items():
        done = call(root, "export", str(folder), name, PYTHONDONTWRITEBYTECODE="")
        assert done.returncode == 0, done.stderr
    return root, runs


@cache
def script(folder: Path) -> dict[str, Any]:
    """The functions of an export's script."""
    return runpy.run_path(str(folder / SCRIPT))


def logits(root: Path, name: str, text: str) -> tuple[list[float], str]:
    """Scores rows; returns the logits, and the line that counts."""
    (root / "rows.jsonl").write_text(text, encoding="utf-8")
    done = alone(root, root / name, "rows.jsonl")
    assert done.returncode == 0, done.stderr
    counted = next(line for line in done.stderr.splitlines() if line.startswith("rows: "))
    return [float(row["logit"]) for row in csv.DictReader(done.stdout.splitlines())], counted


@pytest.mark.parametrize("name", ["mf", "odd", "files"])
def test_scores_are_the_runs(exports: tuple[Path, dict[str, Path]], name: str) -> None:
    root, runs = exports
    assert len((root / name / SCRIPT).read_text(encoding="utf-8").splitlines()) < 80
    stored = pl.read_parquet(runs[name] / "scores.parquet").filter(pl.col("split") == "test")
    wanted = {(row["user"], row["item"]): row["logit"] for row in stored.iter_rows(named=True)}
    # As rows of one's own: without their places in probe.jsonl.
    given = [json.loads(line) for line in (root / name / "probe.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{key: row[key] for key in ("user", "item", "history")} for row in given]
    found, _ = logits(root, name, "".join(json.dumps(row) + "\n" for row in rows))
    assert max(abs(each - wanted[row["user"], row["item"]]) for each, row in zip(found, rows, strict=True)) < 1e-4
    assert len({round(each, 5) for each in found}) > 3


def test_ids_are_text_or_numbers_and_blank_lines_are_skipped(exports: tuple[Path, dict[str, Path]]) -> None:
    root, _ = exports
    found, counted = logits(
        root,
        "mf",
        '\ufeff{"user": "3", "item": "7", "history": ["1", "2"]}\n\n  \r\n'
        '{"user": 3, "item": 7, "history": [1, 2]}\r\n{"user": "4", "item": "7", "history": ["1", "2"]}',
    )
    assert found[0] == found[1] != found[2]
    assert counted == "rows: 3; of unknown users: 0; history ids left out, not in items.csv: 0"


def test_unknown_ids_are_left_out_of_histories_and_counted(exports: tuple[Path, dict[str, Path]]) -> None:
    root, _ = exports
    found, counted = logits(
        root,
        "mf",
        '{"user": "nobody", "item": "7", "history": ["1", "2", "3", "4"]}\n'
        '{"user": "nobody", "item": "7", "history": ["1", "2", "x", "3", "4", "y"]}\n'
        '{"user": "nobody", "item": "7", "history": ["3", "4"]}\n',
    )
    assert found[0] == found[1] != found[2]
    assert counted == "rows: 3; of unknown users: 3; history ids left out, not in items.csv: 2"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"user": "3", "item": "7", "history": "12"}', f'history "12": {RULE}'),
        ('{"user": "3", "item": "7", "history": null}', f"history null: {RULE}"),
        ('{"user": "3", "item": "7", "history": ["1", true]}', f'history ["1", true]: {RULE}'),
        ('{"user": "3", "item": "7", "histry": ["1"]}', f'histry ["1"]: {RULE}'),
        ('{"user": "3", "item": 7.0}', f"item 7.0: {RULE}"),
        ('{"user": ["3"], "item": "7"}', f'user ["3"]: {RULE}'),
        ('{"user": "", "item": "7"}', f'user "": {RULE}'),
        ('{"item": "7"}', f"user null: {RULE}"),
        ('{"user": "3", "item": "999"}', "item 999: not in items.csv"),
        # The vectors of a row of probe.jsonl are those of that row alone.
        ('{"user": "3", "item": "7", "history": [], "probe": 0}', f"probe 0: {RULE}"),
        ('[{"user": "3"}]', f'row [{{"user": "3"}}]: {RULE}'),
    ],
)
def test_what_a_row_cannot_hold_is_one_sentence(exports: tuple[Path, dict[str, Path]], line: str, said: str) -> None:
    root, _ = exports
    for function in ("checked", "score"):
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            script(root / "mf")[function](json.loads(line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"user": "3", "item": "7"', "not JSON"),
        ('{"user": "3", "item": "7", "histry": ["1"]}', f'histry ["1"]: {RULE}'),
    ],
)
def test_a_file_with_a_bad_row_is_refused_before_any_is_scored(
    exports: tuple[Path, dict[str, Path]], line: str, said: str
) -> None:
    root, _ = exports
    (root / "bad.jsonl").write_text(f'{{"user": "3", "item": "7"}}\n\n{line}\n', encoding="utf-8")
    done = alone(root, root / "mf", "bad.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"bad.jsonl: line 3: {said}"
    assert "Traceback" not in done.stderr


def test_an_overlong_question_is_refused(
    exports: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = exports
    functions = script(root / "mf")
    prompt = functions["score"].__globals__["PROMPT"]
    row = {"user": "3", "item": "7", "history": ["1", "2"]}
    short = functions["score"]({**row, "history": []})
    n_tokens = len(functions["prompt"](row, []))
    monkeypatch.setitem(prompt, "max_tokens", n_tokens)
    assert functions["score"](row) == short
    monkeypatch.setitem(prompt, "max_tokens", n_tokens - 1)
    with pytest.raises(SystemExit, match=f"item 7: more than {n_tokens - 1} tokens"):
        functions["score"](row)


@pytest.mark.parametrize("name", ["mf", "odd", "files"])
def test_no_file_of_an_export_says_where_this_machine_keeps_it(
    exports: tuple[Path, dict[str, Path]], name: str
) -> None:
    root, _ = exports
    files = [path for path in (root / name).rglob("*") if path.is_file()]
    assert {"collm.json", "README.md", "adapter_config.json", "tokenizer_config.json"} <= {each.name for each in files}
    for path in files:
        assert str(root).encode() not in path.read_bytes(), path
    config = json.loads((root / name / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == ("hf" if name == "files" else "tiny")


@pytest.mark.parametrize("raised", ["1 / 0", "raise SystemExit('nothing to do')", "import no_such_library"])
def test_a_script_that_stops_is_left_out_with_its_reason(
    exports: tuple[Path, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    root, runs = exports
    reason = {
        "1 / 0": "ZeroDivisionError: division by zero",
        "import no_such_library": "ModuleNotFoundError: No module named 'no_such_library'",
    }.get(raised, "SystemExit: nothing to do")
    text = f"def score(row):\n    {raised}\n"
    monkeypatch.setattr(exporting, "write_script", lambda folder: (folder / SCRIPT).write_text(text, encoding="utf-8"))
    exported = export_run(open_run(runs["mf"], cache_dir=root / "cache"), tmp_path / "out")
    assert exported.script.fault == f"it stops at rows of the run ({reason})"
    assert not (tmp_path / "out" / SCRIPT).exists()
    card = " ".join((tmp_path / "out" / "README.md").read_text(encoding="utf-8").split())
    assert f"`score.py` is left out: it stops at rows of the run ({reason})." in card
    assert "python score.py" not in card
    parity = json.loads((tmp_path / "out" / "collm.json").read_text(encoding="utf-8"))["parity"]
    assert parity["score_py"] == {"rows": 0, "gap": 0.0, "fault": exported.script.fault}
