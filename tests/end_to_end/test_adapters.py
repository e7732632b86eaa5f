"""A tuned run's adapter leaves as a PEFT folder and comes back as one, through the real command line."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from generated import call, write_data
from model_folders import write_qwen2
from safetensors.torch import load_file, save_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"
STEP = "{epochs: 1, warmup_steps: 2, learning_rate: 0.02}"
SPEC = f"""\
name: text
dataset: {{name: movielens-small, path: data}}
backbone: {{name: hf, path: base, dtype: float32}}
prompt: {{name: movie}}
tuning: {{name: text-only, batch_size: 4, max_rows: 80, text: {STEP}}}
evaluate: {{resamples: 0}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    write_data(root / "data")
    (root / "base").mkdir()
    write_qwen2(root / "base")
    (root / "text.yaml").write_text(SPEC, encoding="utf-8")
    done = call(root, "run", "text.yaml")
    assert done.returncode == 0, done.stderr
    return root


def run_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "runs").glob(f"{name}-[0-9a-f]*")
    return found


def adapter_of(folder: Path, name: str) -> Path:
    results = json.loads((run_of(folder, name) / "results.json").read_text())
    return folder / "runs" / "stages" / f"tune_1-{results['stages']['tune_1']}" / "adapter"


def documented(folder: Path) -> dict[str, Any]:
    match = re.search(r"^```python adapter\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert match is not None
    (folder / "their_scores.py").write_text(match.group(1), encoding="utf-8")
    return runpy.run_path(str(folder / "their_scores.py"))


def prompts_of(folder: Path, pairs: pl.DataFrame) -> list[str]:
    """The paper's text prompt from the files alone: the ten latest liked films before the rating."""
    with (folder / "data" / "movies.csv").open(encoding="utf-8") as stream:
        titles = {row["movieId"]: row["title"] for row in csv.DictReader(stream)}
    with (folder / "data" / "ratings.csv").open(encoding="utf-8") as stream:
        ratings = [(r["userId"], r["movieId"], float(r["rating"]), int(r["timestamp"])) for r in csv.DictReader(stream)]
    when = {(user, item): time for user, item, _, time in ratings}
    prompts = []
    for user, item in pairs.select("user", "item").iter_rows():
        liked = [(t, i) for u, i, stars, t in ratings if u == user and stars >= 4 and t < when[user, item]]
        history = ", ".join(f'"{titles[each]}"' for _, each in sorted(liked)[-10:]) or "none so far"
        prompts.append(
            f"#Question: A user has given high ratings to the following movies: {history}. Using all available "
            "information, make a prediction about whether the user would enjoy the movie titled "
            f'"{titles[item]}"? Answer with "Yes" or "No". #Answer:'
        )
    return prompts


def test_plain_transformers_and_peft_give_the_runs_text_only_scores(folder: Path) -> None:
    stored = pl.read_parquet(run_of(folder, "text") / "scores.parquet").filter(pl.col("split") == "test").head(25)
    logits = documented(folder)["text_only_logits"]
    prompts = prompts_of(folder, stored)
    found = logits(str(folder / "base"), str(adapter_of(folder, "text")), prompts)
    np.testing.assert_allclose(found, stored["logit"].to_numpy(), atol=1e-4)
    assert np.std(found) > 1e-3
    blank = folder / "blank"
    shutil.copytree(adapter_of(folder, "text"), blank, dirs_exist_ok=True)
    tensors = load_file(blank / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in tensors.items()}, blank / "adapter_model.safetensors")
    assert np.abs(np.array(logits(str(folder / "base"), str(blank), prompts)) - found).max() > 1e-3


def test_an_export_has_the_same_adapter(folder: Path) -> None:
    done = call(folder, "export", run_of(folder, "text").name, "exported")
    assert done.returncode == 0, done.stderr
    folders = (adapter_of(folder, "text"), folder / "exported" / "adapter")
    ours, theirs = (load_file(each / "adapter_model.safetensors") for each in folders)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_begins_from_an_adapter_and_says_so(folder: Path) -> None:
    # A rate this small leaves the adapter where it began.
    rate = "tuning.text.learning_rate=1e-12"
    start = f"tuning.text.start={adapter_of(folder, 'text')}"
    done = call(folder, "run", "text.yaml", "--set", "name=again", "--set", start, "--set", rate)
    assert done.returncode == 0, done.stderr
    first, again = (pl.read_parquet(run_of(folder, name) / "scores.parquet")["logit"] for name in ("text", "again"))
    np.testing.assert_allclose(first, again, atol=1e-5)
    results = json.loads((run_of(folder, "again") / "results.json").read_text())
    assert [note for note in results["notes"] if "LoRA began from an adapter that was given" in note]
    # Another place of the same files is the same work; other files are not.
    shutil.copytree(adapter_of(folder, "text"), folder / "moved")
    moved = call(folder, "run", "text.yaml", "--set", "name=again", "--set", "tuning.text.start=moved", "--set", rate)
    assert "nothing was run" in moved.stderr
    tensors = load_file(folder / "moved" / "adapter_model.safetensors")
    save_file({name: value * 1.5 for name, value in tensors.items()}, folder / "moved" / "adapter_model.safetensors")
    other = call(folder, "run", "text.yaml", "--set", "name=again", "--set", "tuning.text.start=moved", "--set", rate)
    assert "nothing was run" not in other.stderr
    assert len(list((folder / "runs").glob("again-*"))) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tuning.text.start=nowhere"], "tuning.text.start: {root}/nowhere: no such folder; give a PEFT adapter's"),
        (["tuning.lora.r=4"], "tuning.lora.r: is 4, the adapter's in '{adapter}' is 8: set it to 8"),
        (["tuning.lora.target_modules=[q_proj]"], "tuning.lora.target_modules: names q_proj, the adapter in"),
        (["backbone.path=wide"], "tuning.text.start: '{adapter}' was made on another model (its config names"),
    ],
)
def test_an_adapter_that_does_not_fit_is_found_by_validate(folder: Path, settings: list[str], said: str) -> None:
    if not (folder / "wide").exists():
        shutil.copytree(folder / "base", folder / "wide")
        tensors = load_file(folder / "base" / "model.safetensors")
        tensors = {name: torch.cat([value, value]) if "q_proj" in name else value for name, value in tensors.items()}
        save_file(tensors, folder / "wide" / "model.safetensors", metadata={"format": "pt"})
    adapter = adapter_of(folder, "text")
    options = [option for setting in (f"tuning.text.start={adapter}", *settings) for option in ("--set", setting)]
    done = call(folder, "validate", "text.yaml", *options)
    assert done.returncode == 2, done.stdout
    assert said.format(root=folder, adapter=adapter) in " ".join(done.stderr.split())
