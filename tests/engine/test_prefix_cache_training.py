"""Training with kept prefixes: the weights of training without, and the same bits after an interruption."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from language_fakes import COMMON, language_task, prompt_rows, tiny_recommender

from collm.engine.train import train
from collm.model.prefix import run as prefix_run

GB_PER_TOKEN = 2 * 2 * 2 * 8 * 4 / 1e9  # two layers, keys and values, two heads of eight float32


def run(path: Path, *, stop_after: int | None = None, dtype: torch.dtype = torch.float32, **settings: object):
    recommender = tiny_recommender(dtype=dtype)
    task = language_task(recommender, **settings)
    plain, calls = task.loss_sum, []

    def loss_sum(rows: np.ndarray) -> torch.Tensor:
        calls.append(rows)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return plain(rows)

    task.loss_sum = loss_sum  # type: ignore[method-assign]
    train(
        task,
        task.loop_settings(),
        accelerator=Accelerator(cpu=True),
        checkpoint=path,
        observer=lambda step, values: None,
    )
    return recommender


def weights(recommender) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in recommender.parameter_groups()["projector"].values()])


def test_weights_are_those_without_a_cache(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    kept = run(tmp_path / "kept", prefix_cache_gb=1)
    assert kept._prefixes.n_bytes > 0
    torch.testing.assert_close(weights(kept), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("stop_after", [3, 8, 13])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, dtype: torch.dtype, share: float, stop_after: int
) -> None:
    n_tokens = sum(len(ids) for ids in prompt_rows().prefixes(4)[0])
    limit = share * n_tokens * GB_PER_TOKEN / (1 if dtype == torch.float32 else 2)
    whole = run(tmp_path / "whole", dtype=dtype, prefix_cache_gb=limit)
    assert 0 < whole._prefixes.n_bytes <= limit * 1e9 + 1
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", dtype=dtype, prefix_cache_gb=limit, stop_after=stop_after)
    resumed = run(tmp_path / "part", dtype=dtype, prefix_cache_gb=limit)
    assert torch.equal(weights(resumed), weights(whole))


def test_prefixes_run_once_for_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = []
    plan = prefix_run.PrefixPass.__init__

    def count(self, levels, known=None, *, keeps=False):
        tokens.append(sum(level.ids.numel() for level in levels) if keeps else 0)
        plan(self, levels, known, keeps=keeps)

    monkeypatch.setattr(prefix_run.PrefixPass, "__init__", count)
    run(tmp_path / "kept", prefix_cache_gb=1)
    prefixes, _ = prompt_rows().prefixes(4)
    once = sum(len(ids) for ids in prefixes)
    # One token more is run to learn what a token takes; the common words of a group are run once.
    assert once - len(prefixes) * len(COMMON) < sum(tokens) <= once + 1
    tokens.clear()
    run(tmp_path / "plain")
    assert sum(tokens) > 2 * once - 2 * len(prefixes) * len(COMMON)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"frozen_lora_dropout": True}, "LoRA dropout stays on"), ({"trains": "lora"}, None)],
)
def test_where_prefixes_change_none_are_kept(settings: dict, reason: str | None, caplog) -> None:
    recommender = tiny_recommender()
    with caplog.at_level(logging.WARNING):
        task = language_task(recommender, prefix_cache_gb=1, **settings)
    task.loss_sum(np.arange(6)).backward()
    assert recommender._prefixes is None
    assert (reason is None) == (not caplog.messages)
    assert reason is None or reason in caplog.messages[0]


def test_prefixes_that_most_batches_ask_for_come_with_their_uses() -> None:
    prefixes, uses = prompt_rows().prefixes(2)
    assert len(prefixes) == 12
    assert all(np.array_equal(ids[: len(COMMON)], COMMON) for ids in prefixes)
    assert uses.tolist() == [2] * 12
