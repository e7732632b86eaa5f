"""Rankings of encoders and metrics of other packages: what is wrong is refused, what is kept is what metrics read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from collm.component import BuildContext, Component
from collm.contracts.encoder import EncoderBatch, EncoderConfig, EncoderData
from collm.contracts.metric import MetricConfig, MetricValue, ScoredRows
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm.registry import Registry, default_registry, registry_of
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.resolve import load_spec

Mode = Literal["pairs", "factors", "all", "last-factors", "other-all", "short-all", "one-tensor", "few-items"]


class GivenConfig(EncoderConfig):
    mode: Mode = Field(default="pairs", description="What ranks a catalogue.")


class Given(EncoderModule):
    """Random vectors; what ranks a catalogue is right or wrong in one way."""

    gives = frozenset({"scores"})
    fit_mode = "none"

    def __init__(self, mode: Mode, data: EncoderData) -> None:
        super().__init__()
        self._mode = mode
        self.user = nn.Parameter(torch.randn(data.n_users + 1, 3))
        self.item = nn.Parameter(torch.randn(data.n_items + 1, 3))

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        return (self.user[batch.user] * self.item[batch.item]).sum(dim=1)

    def factors(self, batch: EncoderBatch) -> Any:
        users = self.user[batch.user]
        if self._mode == "last-factors":
            return torch.cat([users[:-1], -users[-1:]]), self.item
        if self._mode == "few-items":
            return users, self.item[1:]
        return {"factors": (users, self.item), "one-tensor": users}.get(self._mode)

    def score_all(self, batch: EncoderBatch) -> torch.Tensor | None:
        every = self.user[batch.user] @ self.item.T
        return {"all": every, "other-all": -every, "short-all": every[:, 1:]}.get(self._mode)


def build_given(config: GivenConfig, *, data: EncoderData, context: BuildContext) -> Given:
    del context
    return Given(config.mode, data)


class ShownConfig(MetricConfig):
    k: int = Field(default=10, ge=1, description="Items per user.")


class Shown:
    """Mean number of items that a list holds up to rank k: k, where lists hold what was asked."""

    higher_is_better, reads_labels, unit = True, False, "users"

    def __init__(self, config: ShownConfig) -> None:
        self.depth = config.k

    def compute(self, rows: ScoredRows) -> MetricValue:
        assert rows.rank is not None
        if not (n := len(np.unique(rows.user))):
            return MetricValue(None, 0, reason="no users")
        return MetricValue(float((rows.rank <= self.depth).sum() / n), n)

    def resample(self, rows: ScoredRows, user_weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.full(len(user_weights), np.nan)


GIVEN = Component("encoder", "given", f"{__name__}:build_given", GivenConfig, "Given.", gives=frozenset({"scores"}))
SHOWN = Component("metric", "shown", f"{__name__}:Shown", ShownConfig, "Shown.", measures=frozenset({"lists"}))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return registry_of([*default_registry().components(), GIVEN, SHOWN])


def run(folder: Path, registry: Registry, text: str) -> dict[str, Any]:
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    spec = load_spec(folder / "spec.yaml", [], registry, cwd=folder)
    return run_spec(spec, registry, RunOptions(folder / "runs", folder / "cache", threads=1)).plain()


def given(mode: str) -> str:
    return (
        f"name: given-{mode}\ndataset: {{name: tiny}}\nencoder: {{name: given, mode: {mode}}}\n"
        "evaluate: {resamples: 0, ranking: {metrics: [mrr, 'map', shown@12]}}\n"
    )


def test_products_and_whole_catalogues_rank_as_pairs_do(tmp_path: Path, registry: Registry) -> None:
    found = [run(tmp_path, registry, given(mode))["ranking"]["test"]["all"] for mode in ("pairs", "factors", "all")]
    assert found[0] == found[1] == found[2]
    assert found[0]["all"]["shown@12"]["value"] == 12


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("last-factors", "`factors` does not give the scores: differences between items differ"),
        ("other-all", "`score_all` does not give the scores: differences between items differ"),
        ("short-all", r"`score_all` gave shapes \(1, \d+\); asked are \(1, \d+\)"),
        ("one-tensor", "`factors` gave Tensor; asked are two tensors or None"),
        ("few-items", r"`factors` gave shapes .*; asked are"),
    ],
)
def test_wrong_ways_to_rank_are_refused(tmp_path: Path, registry: Registry, mode: str, message: str) -> None:
    with pytest.raises(PluginError, match=rf"encoder 'given' .*{message}"):
        run(tmp_path, registry, given(mode))


def test_lists_hold_what_metrics_read_behind_a_short_list_too(tmp_path: Path, registry: Registry) -> None:
    text = """\
name: short
dataset: {name: tiny}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 1}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: t3
  max_rows: 8
  batch_size: 4
  text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
  collaborative: *step
evaluate:
  resamples: 0
  ranking: {candidates: CANDIDATES, positives: last, shortlist: 3, users: 6, metrics: [mrr, shown@12]}
"""
    for candidates, protocol in (("all", "all"), ("{sample: 15}", "15 uniform")):
        results = run(tmp_path, registry, text.replace("CANDIDATES", candidates))
        assert results["ranking"]["test"][protocol]["all"]["shown@12"]["value"] == 12
        assert results["ranking_floors"]["test"][protocol]["all"]["popularity"]["shown@12"]["value"] == 12
        facts = results["ranking_facts"]["test"][protocol]
        assert (facts["size"], facts["scored"], facts["depth"]) == (3, 18, 12)
        assert any("6 positives of 6 users (the last of each) among" in note for note in results["notes"])


def test_other_cuts_rank_nothing_again(tmp_path: Path, registry: Registry) -> None:
    first = run(tmp_path, registry, given("factors"))
    before = {path.name for path in (tmp_path / "runs" / "stages").glob("rank-*")}
    other = run(tmp_path, registry, given("factors").replace("[mrr, 'map', shown@12]", "[hr@30, ndcg@7, shown@12]"))
    assert ["MRR" in " ".join(each["notes"]) for each in (first, other)] == [True, False], "only what is measured"
    assert {path.name for path in (tmp_path / "runs" / "stages").glob("rank-*")} == before
