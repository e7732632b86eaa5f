"""A third-party encoder with several vectors per user, a context and times, through a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from collm.component import BuildContext, Component
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderConfig, EncoderData
from collm.model.encoder import EncoderModule
from collm.registry import Registry, default_registry, registry_of
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.resolve import load_spec
from collm.testing.encoder_suite import EncoderContract
from collm.trained import open_run
from collm.trained.export import export_run

SPEC = """\
name: many
dataset: {name: tiny}
encoder: {name: many}
backbone: {name: tiny, dtype: float32}
prompt:
  name: custom
  template: 'Liked: {history+item}.[[ Tastes: {user}.]] New: {target}[[ with {item} at {context}]]? #Answer:'
mapping: {tokens: 2}
tuning:
  name: t1
  max_rows: 48
  max_valid_rows: 64
  text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
  collaborative: *step
evaluate: {resamples: 0}
"""


class Many(EncoderModule):
    """Three vectors per user, one per item, one of the hour."""

    gives = frozenset({"vectors"})
    fit_mode = "none"
    tokens_per_slot = (3, 1)
    reads_time = True

    def __init__(self, data: EncoderData) -> None:
        super().__init__()
        self.user_dim = self.item_dim = 4
        self.context_dim = 3
        self.user = torch.nn.Embedding(data.n_users + 1, 12)
        self.item, self.hour = torch.nn.Embedding(data.n_items + 1, 4), torch.nn.Embedding(24, 3)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        assert batch.timestamp is not None
        hour = self.hour(batch.timestamp // 3600 % 24)
        return EncodedPair(self.user(batch.user).view(-1, 3, 4), self.item(batch.item), hour)


def build(config: EncoderConfig, *, data: EncoderData, context: BuildContext) -> Many:
    del config, context
    return Many(data)


MANY = Component(
    "encoder",
    "many",
    f"{__name__}:build",
    EncoderConfig,
    "Several vectors.",
    gives=frozenset({"vectors"}),
    needs=frozenset({"time"}),
)


class TestMany(EncoderContract):
    component = MANY


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of([*default_registry().components(), MANY])


@pytest.mark.parametrize("vectors", ["shared", "own"])
def test_a_run_maps_every_vector(tmp_path: Path, registry: Registry, vectors: str) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    spec = load_spec(tmp_path / "spec.yaml", [f"mapping.vectors={vectors}"], registry, cwd=tmp_path)
    outcome = run_spec(spec, registry, RunOptions(tmp_path / "runs", tmp_path / "cache", threads=1))
    results = json.loads((outcome.folder / "results.json").read_text(encoding="utf-8"))
    stage = tmp_path / "runs" / "stages" / f"tune_2-{results['stages']['tune_2']}"
    names = {name.split(".")[1] for name in load_file(stage / "projector.safetensors") if name.startswith("mlps.")}
    shared = {"both", "context"}
    assert names == (shared if vectors == "shared" else {"user-0", "user-1", "user-2", "item", "context"})
    assert {"user.weight", "item.weight", "hour.weight"} <= set(load_file(stage / "encoder.safetensors"))
    model = open_run(outcome.folder, cache_dir=tmp_path / "cache", registry=registry, threads=1)
    scores = pl.read_parquet(outcome.folder / "scores.parquet").filter(pl.col("split") == "test")
    data = model.data
    rows = data.rows("test")
    stored = dict(zip(scores["row"].to_list(), scores["logit"].to_list(), strict=True))
    again = model.logits(data, rows)
    assert max(abs(stored[int(row)] - float(logit)) for row, logit in zip(rows.row, again, strict=True)) < 1e-4
    # Another hour, another score: the context reaches the prompt.
    users, items = [data.user_ids[1]] * 2, [data.item_ids[1]] * 2
    late = int(rows.timestamp.max())
    one, two = model.pair_logits(users, items, [late, late + 5 * 3600])
    assert one != two
    # Without a time a pair is asked one second after everything that is known.
    last = int(data.interactions()["timestamp"].max())
    assert np.array_equal(model.pair_logits(users, items), model.pair_logits(users, items, [last + 1] * 2))
    # Items of the history have no time; score.py knows their vectors apart from those of target items.
    exported = export_run(model, tmp_path / "exported")
    assert (exported.script.fault, exported.script.rows) == ("", 8)
    assert {"history", "item", "user"} <= set(load_file(tmp_path / "exported" / "vectors.safetensors"))
    assert yaml.safe_load((outcome.folder / "spec.yaml").read_text(encoding="utf-8"))["mapping"]["vectors"] == vectors
