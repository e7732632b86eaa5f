"""Learning-rate schedules at their edges, and the published code's against a transcript of its formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
from language_fakes import prompt_rows, tiny_recommender

from collm.contracts.tuning import GroupPlan, StepConfig, TuneStep, TuningConfig
from collm.engine.language_task import LanguageTask
from collm.engine.schedule import Schedule
from collm.errors import SpecError


def factor(step: int, name: Any = "linear-warmup-cosine", *, peak: float = 1e-3, **changes: Any) -> float:
    values = {"total": 100, "warmup": 10, "epoch_steps": 50, "warmup_start": 1e-5, "min_rate": 8e-5}
    return Schedule(name, **{**values, **changes}).factor(step, peak)


def test_warmup_rises_and_cosine_falls_to_zero() -> None:
    rates = [factor(step) for step in range(100)]
    # The first step moves: its rate is one part of eleven, not 0.
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert factor(55) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert factor(100) == pytest.approx(0.0)


def test_no_warmup_and_one_step() -> None:
    assert factor(0, total=1, warmup=0) == 1.0


def test_constant() -> None:
    assert {factor(step, "constant") for step in (0, 5, 99)} == {1.0}


def published_rate(step: int, *, total: int, warmup: int, peak: float, epoch: int, start: float, low: float) -> float:
    """The published scheduler: warm-up by the step inside an epoch, cosine by the total step."""
    n_epochs, inner = total / epoch, step % epoch
    if step < warmup:
        return min(peak, start + (peak - start) * inner / max(warmup, 1))
    return (peak - low) * 0.5 * (1.0 + math.cos(math.pi * step / (n_epochs * epoch))) + low


@pytest.mark.parametrize(
    ("total", "warmup", "epoch"),
    [(10_000, 200, 50), (10_000, 200, 100), (3_177, 200, 50), (75, 20, 50), (40, 20, 50), (22, 2, 50), (1, 0, 50)],
)
@pytest.mark.parametrize("peak", [1e-2, 1e-3, 1e-4])
def test_reference_is_the_published_schedule_step_by_step(total: int, warmup: int, epoch: int, peak: float) -> None:
    for step in range(total):
        found = peak * factor(step, "reference-sawtooth", peak=peak, total=total, warmup=warmup, epoch_steps=epoch)
        expected = published_rate(step, total=total, warmup=warmup, peak=peak, epoch=epoch, start=1e-5, low=8e-5)
        assert found == pytest.approx(expected, rel=1e-12)


def test_reference_starts_again_with_every_epoch_and_falls_within_them() -> None:
    rates = [1e-3 * factor(step, "reference-sawtooth", total=10_000, warmup=200) for step in range(10_000)]
    drops = [step for step in range(1, 250) if rates[step] < rates[step - 1] - 1e-4]
    assert drops == [50, 100, 150]
    assert rates[0] == rates[50] == pytest.approx(1e-5)
    assert rates[200] == pytest.approx(1e-3, rel=0.01)
    assert rates[201] < rates[200], "the cosine falls with every step, not with every epoch"
    assert rates[-1] == pytest.approx(8e-5, rel=1e-3)


def test_a_short_reference_training_decays_too() -> None:
    assert 1e-3 * factor(39, "reference-sawtooth", total=40, warmup=0) == pytest.approx(8e-5, rel=0.02)


def by_hand(name: str, step: int, *, warmup: int, total: int, lowest: float) -> float:
    """transformers' schedules from their documentation."""
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1, total - warmup)
    half = 0.5 * (1 + math.cos(math.pi * done))
    return {
        "linear": max(0.0, 1 - done),
        "cosine": half,
        "cosine_with_min_lr": lowest + (1 - lowest) * half,
        "constant_with_warmup": 1.0,
        "inverse_sqrt": math.sqrt(warmup / step) if warmup else math.sqrt(10_000 / (step + 10_000)),
    }[name]


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_with_min_lr", "constant_with_warmup", "inverse_sqrt"])
@pytest.mark.parametrize(("total", "warmup"), [(100, 10), (40, 0), (1, 0), (7, 7)])
def test_transformers_names_are_transformers_schedules(name: str, total: int, warmup: int) -> None:
    for step in range(total):
        found = factor(step, name, total=total, warmup=warmup, min_rate=1e-4)
        assert found == pytest.approx(by_hand(name, step, warmup=warmup, total=total, lowest=0.1), abs=1e-9)
    # Each group has its own peak, and one least rate.
    assert 5e-4 * factor(100, "cosine_with_min_lr", peak=5e-4, min_rate=1e-4) == pytest.approx(1e-4)


def test_a_schedule_that_cannot_do_what_it_says_has_a_fault() -> None:
    values = {"total": 4, "epoch_steps": 2, "warmup_start": 1e-5, "min_rate": 8e-5}
    said = Schedule("linear-warmup-cosine", warmup=20, **values).fault(1e-3)
    assert said.startswith(
        "the warm-up has 20 optimiser steps and the training 4, so the learning rate never reaches 0.001"
    )
    for name in ("reference-sawtooth", "linear", "constant_with_warmup"):
        assert Schedule(name, warmup=5, **values).fault(1e-3)
        assert not Schedule(name, warmup=4, **values).fault(1e-3)
    assert not Schedule("constant", warmup=20, **values).fault(1e-3)
    assert "more than the learning rate 1e-05" in Schedule("cosine_with_min_lr", warmup=0, **values).fault(1e-5)
    assert not Schedule("cosine", warmup=0, **values).fault(1e-5)


def test_a_steps_warm_up_is_a_number_or_a_share_rounded_up_and_must_end() -> None:
    def task(schedule: Any = "linear", **settings: Any) -> LanguageTask:
        values = {"warmup_steps": 5, "epochs": 2, "epoch_steps": 25, **settings}
        step = TuneStep("text", "text", {"lora": GroupPlan(True, "scratch")}, {"lora": StepConfig(**values)})
        tuning = TuningConfig(name="t", schedule=schedule)
        rows = prompt_rows()
        return LanguageTask(tiny_recommender(), step, tuning, title="tune_1 text", train=rows, valid=rows, seed=0)

    assert (task().schedule().warmup, task().schedule().total) == (5, 50)
    assert task(warmup_ratio=0.05).schedule().warmup == 3
    assert task(warmup_ratio=0.0).schedule().warmup == 0
    assert task(warmup_steps=50).check_schedule() == []
    with pytest.raises(SpecError, match=r"tune_1 text: the warm-up has 51 optimiser steps and the training 50, .*set"):
        task(warmup_steps=51).check_schedule()
    assert task("constant", warmup_steps=51).check_schedule() == []
    group = {"peak": 1e-3}
    assert [task(warmup_ratio=0.05).factor(step, group) for step in (0, 1, 3)] == pytest.approx([0, 1 / 3, 1])


def test_a_default_warm_up_that_is_too_long_is_a_warning_and_a_note(caplog: pytest.LogCaptureFixture) -> None:
    step = TuneStep("text", "text", {"lora": GroupPlan(True, "scratch")}, {"lora": StepConfig(epochs=1, epoch_steps=9)})
    rows = prompt_rows()
    task = LanguageTask(
        tiny_recommender(), step, TuningConfig(name="t"), title="tune_1 text", train=rows, valid=rows, seed=0
    )
    notes = task.check_schedule()
    assert [note[:66] for note in notes] == ["tune_1 text: the warm-up has 20 optimiser steps and the training 9"]
    assert notes[0] in caplog.text
