"""Learning-rate schedules at their edges."""

from __future__ import annotations

import math

import pytest

from collm.engine.schedule import schedule_factor


def factor(step: int, name: str = "linear-warmup-cosine", **changes) -> float:
    values = {"total": 100, "warmup": 10, "peak": 1e-3}
    return schedule_factor(name, step, **{**values, **changes})


def test_warmup_rises_and_cosine_falls_to_zero() -> None:
    rates = [factor(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert factor(55) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert factor(100) == pytest.approx(0.0)


def test_no_warmup_and_one_step() -> None:
    assert factor(0, total=1, warmup=0) == 1.0


def test_constant() -> None:
    assert {factor(step, "constant") for step in (0, 5, 99)} == {1.0}


def test_reference_sawtooth_restarts_every_fifty_steps_and_never_reaches_the_peak_in_warmup() -> None:
    rates = [1e-3 * factor(step, "reference-sawtooth", total=10_000, warmup=200) for step in range(201)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[50] == pytest.approx(1e-5)
    assert max(rates[:200]) == pytest.approx(1e-5 + (1e-3 - 1e-5) * 49 / 200)
    assert rates[200] == pytest.approx(1e-3, rel=0.01)
