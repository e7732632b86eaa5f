"""Questions in the model's own chat template, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from generated import call, write_data
from todays_models import write_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

SPEC = """\
name: chat
dataset: {name: movielens-small, path: data, limit: {valid: 30, test: 30}}
backbone: {name: hf, path: base, dtype: float32}
prompt: {name: movie, chat: true}
tuning: {name: none}
evaluate: {resamples: 0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chat")
    write_data(root / "data")
    write_folder("qwen3", root / "base")
    write_folder("phi-2", root / "no-chat")
    (root / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = call(root, "run", "spec.yaml")
    assert done.returncode == 0, done.stderr
    return root


def shown(folder: Path, row: int, *settings: str) -> dict[str, Any]:
    options = [option for setting in settings for option in ("--set", setting)]
    done = call(folder, "prompt", "spec.yaml", "--row", str(row), "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_scores_are_those_of_the_models_own_chat(folder: Path) -> None:
    (run,) = (folder / "runs").glob("chat-*")
    scores = pl.read_parquet(run / "scores.parquet").filter(pl.col("split") == "test").head(2)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    lm = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    for row, logit in scores.select("row", "logit").iter_rows():
        plain = shown(folder, row, "prompt.chat=false")["variants"]["text"]["text"]
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": plain}],
            add_generation_prompt=True,
            enable_thinking=False,
            return_tensors="pt",
            return_dict=False,
        )
        with torch.no_grad():
            logits = lm(input_ids=ids).logits[0, -1]
        np.testing.assert_allclose(float(logits[yes] - logits[no]), logit, atol=1e-4)
        found = shown(folder, row)
        assert [number for number, _ in found["variants"]["text"]["tokens"]] == ids[0].tolist()
        assert found["variants"]["text"]["text"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert found["answer_words"] == {"Yes": yes, "No": no}


def test_chat_is_another_run_and_says_so(folder: Path) -> None:
    done = call(folder, "run", "spec.yaml", "--set", "prompt.chat=false")
    assert done.returncode == 0, done.stderr
    runs = sorted((folder / "runs").glob("chat-*"))
    assert len(runs) == 2
    first, second = (pl.read_parquet(run / "scores.parquet")["logit"] for run in runs)
    assert (first - second).abs().max() > 0.01
    words = [json.loads((run / "results.json").read_text())["facts"]["backbone"]["answer_words"] for run in runs]
    assert sorted(tuple(each) for each in words) == [(" Yes", " No"), ("Yes", "No")]


def test_an_export_says_what_stands_around_the_prompt(folder: Path) -> None:
    run = next(run for run in (folder / "runs").glob("chat-*") if "chat: true" in (run / "spec.yaml").read_text())
    done = call(folder, "export", run.name, "exported")
    assert done.returncode == 0, done.stderr
    frame = json.loads((folder / "exported" / "collm.json").read_text())["prompt"]["chat"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "exported" / "model")
    assert tokenizer.decode(frame["before"]) == "<|im_start|>user\n"
    assert tokenizer.decode(frame["after"]) == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["backbone.path=no-chat"],
            "prompt.chat: {root}/no-chat: has no chat template (chat_template.jinja); set it to",
        ),
        (["backbone={{name: tiny}}"], "prompt.chat: backbone 'tiny' has no chat template; set it to false"),
        (["prompt.leading_space=true"], "chat and leading_space exclude each other"),
    ],
)
def test_what_has_no_chat_is_found_by_validate(folder: Path, settings: list[str], said: str) -> None:
    options = [option for setting in settings for option in ("--set", setting.format())]
    done = call(folder, "validate", "spec.yaml", *options)
    assert done.returncode == 2, done.stdout
    assert said.format(root=folder) in " ".join(done.stderr.split())


def test_answered_examples_have_no_turn(folder: Path) -> None:
    done = call(folder, "run", "spec.yaml", "--set", "tuning.examples=2")
    assert done.returncode == 2
    assert "prompt.chat: answered examples (tuning.examples) have no turns of their own" in done.stderr
