"""The plain loop is the same model: its scores and gradients are those of the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bench_types import OpenSubject

from collm.bench.plain import PlainLoop
from collm.bench.subject import Subject
from collm.contracts.prompt import Variant
from collm.engine.language_task import LanguageTask, recommender_logits
from collm.errors import RunError
from collm.model.parameters import lora_parameters


@pytest.mark.parametrize("variant", ["text", "hybrid"])
@pytest.mark.parametrize("encoder", ["mf-bias", "sasrec"])
def test_scores_are_the_engines(open_tiny: OpenSubject, variant: Variant, encoder: str) -> None:
    subject = open_tiny(f"encoder.name={encoder}")
    rows = subject.data.rows("test")
    ours = recommender_logits(subject.recommender, subject.source(variant).encode(rows), max_tokens=2048)
    plain = PlainLoop(subject).score(rows, variant)
    np.testing.assert_allclose(plain, ours, atol=1e-4)
    assert np.ptp(ours) > 0.01


@pytest.mark.parametrize("history_items", [0, 4])
def test_ranking_requests_score_alike(open_tiny: OpenSubject, history_items: int) -> None:
    subject = open_tiny()
    view, requests = subject.requests(2, 7, history_items=history_items)
    assert [len(rows) for rows in requests] == [7, 7]
    assert len({int(rows.user[0]) for rows in requests}) == 2
    source, loop = subject.source("hybrid", history_items=history_items, data=view), PlainLoop(subject)
    for rows in requests:
        ours = recommender_logits(subject.recommender, source.encode(rows), max_tokens=2048)
        plain = loop.score(rows, "hybrid", data=view, history_items=history_items)
        np.testing.assert_allclose(plain, ours, atol=1e-4)


def gradients(subject: Subject, variant: Variant) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of one global batch: the engine's and the plain loop's."""
    step = subject.step(variant)
    assert step is not None
    loop = PlainLoop(subject)
    rows = subject.train_rows().take(np.arange(16))
    prompts = subject.source(variant).encode(rows)
    trained = [group for group, plan in step.groups.items() if plan.trains]
    subject.recommender.set_trainable(trained)
    task = LanguageTask(
        subject.recommender, step, subject.setup.tuning, title="test", train=prompts, valid=prompts, seed=0
    )
    (task.loss_sum(np.arange(16)) / 16).backward()
    loop.train(rows, step)
    if variant == "text":
        ours, plain = lora_parameters(subject.recommender.lm), lora_parameters(loop._lm)
        plain = {name.removeprefix("base_model.model."): parameter for name, parameter in plain.items()}
    else:
        assert subject.projector is not None
        assert loop._projector is not None
        ours = dict(subject.projector.named_parameters())
        plain = dict(loop._projector.named_parameters())
    return {n: p.grad for n, p in ours.items()}, {n: p.grad for n, p in plain.items()}


@pytest.mark.parametrize("variant", ["text", "hybrid"])
def test_gradients_are_the_engines(open_tiny: OpenSubject, variant: Variant) -> None:
    ours, plain = gradients(open_tiny(), variant)
    assert ours.keys() == plain.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(plain[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_frozen_weights_are_shared(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    loop = PlainLoop(subject)
    ours = {p.data_ptr() for n, p in subject.recommender.lm.named_parameters() if "lora" not in n}
    plain = {p.data_ptr() for n, p in loop._lm.named_parameters() if "lora" not in n}
    assert ours == plain


def test_lists_are_not_measured_as_rows(open_tiny: OpenSubject) -> None:
    with pytest.raises(RunError, match=r"tuning\.loss: softmax trains on lists of drawn items"):
        open_tiny("tuning.loss=softmax")
