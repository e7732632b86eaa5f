"""Training groups of a finished language-model run on: what is written, what stays, and where it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import collm, write_data
from safetensors.torch import load_file

from collm.engine.checkpoint import load_tensors, save_tensors
from collm.errors import RunError
from collm.stages.continued import Length, continue_tuning
from collm.stages.language_model import LanguageModelRun
from collm.trained.opened import open_run

SPEC = """\
name: hybrid
dataset: {name: movielens-small, path: data, limit: {valid: 40, test: 60}}
history: {max_items: 3}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  batch_size: 8
  max_rows: 32
  text: {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
  collaborative: {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
evaluate: {resamples: 0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("continued")
    write_data(root / "data")
    (root / "spec.yaml").write_text(SPEC, encoding="utf-8")
    collm(root, "run", "spec.yaml")
    collm(root, "run", "spec.yaml", "--set=name=softmax", "--set=tuning.loss=softmax", "--set=tuning.negatives=2")
    return root


def opened(root: Path, name: str) -> tuple[LanguageModelRun, Any]:
    (path,) = (root / "runs").glob(f"{name}-[0-9a-f]*")
    model = open_run(path, cache_dir=root / "cache", device="cpu")
    assert model.language is not None
    return model.language, model.data.rows("test")


def moved(before: Path, after: Path) -> float:
    old, new = load_file(before), load_file(after)
    assert set(old) == set(new)
    return max(float((old[name] - new[name]).abs().max()) for name in old)


@pytest.mark.parametrize("name", ["hybrid", "softmax"])
def test_only_the_groups_that_train_are_written(folder: Path, tmp_path: Path, name: str) -> None:
    language, rows = opened(folder, name)
    lora, projector = (stage.folder for stage in language.finished)
    kept = (lora / "lora.safetensors").read_bytes()
    facts = continue_tuning(language, ["projector"], rows, length=Length(steps=2), folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"projector.safetensors"}
    assert moved(projector / "projector.safetensors", tmp_path / "projector.safetensors") > 0
    assert (facts["continued"], facts["optimiser_steps"]) == (["projector"], 2)
    assert not {"best_valid_auc", "best_step", "valid_rows"} & set(facts)
    both = tmp_path / "both"
    both.mkdir()
    continue_tuning(language, ["projector", "lora"], rows, length=Length(epochs=0.5), folder=both)
    assert {path.name for path in both.iterdir()} == {"projector.safetensors", "lora.safetensors", "adapter"}
    assert moved(lora / "lora.safetensors", both / "lora.safetensors") > 0
    assert (lora / "lora.safetensors").read_bytes() == kept


def test_rows_and_steps_are_those_that_were_asked_for(folder: Path, tmp_path: Path) -> None:
    language, rows = opened(folder, "hybrid")
    few = rows.take(np.arange(12))
    facts = continue_tuning(language, ["projector"], few, length=Length(epochs=2), folder=tmp_path)
    assert (facts["rows"], facts["optimiser_steps"], facts["rows_seen"]) == (12, 4, 24)
    many = continue_tuning(language, ["projector"], rows, length=Length(), folder=tmp_path)
    # tuning.max_rows draws whole groups of one user and history.
    assert 32 <= many["rows"] < len(rows)
    with pytest.raises(RunError, match="no rows to train on"):
        continue_tuning(language, ["projector"], rows.take(np.arange(0)), length=Length(), folder=tmp_path)


def test_it_starts_from_the_file_that_is_given(folder: Path, tmp_path: Path) -> None:
    language, rows = opened(folder, "hybrid")
    few = rows.take(np.arange(8))
    own = language.finished[-1].folder / "projector.safetensors"
    ends = {}
    for name, start in (("none", None), ("same", {"projector": own}), ("other", {"projector": tmp_path / "other.st"})):
        if name == "other":
            save_tensors(tmp_path / "other.st", {key: tensor + 1 for key, tensor in load_tensors(own)[0].items()})
        (tmp_path / name).mkdir()
        continue_tuning(language, ["projector"], few, length=Length(steps=1), folder=tmp_path / name, start=start)
        ends[name] = load_file(tmp_path / name / "projector.safetensors")
    assert all(torch.equal(tensor, ends["same"][key]) for key, tensor in ends["none"].items())
    trained = [key for key, tensor in ends["none"].items() if not torch.equal(tensor, load_file(own)[key])]
    assert trained
    assert all(float((ends["other"][key] - ends["none"][key]).min()) > 0.5 for key in trained)
