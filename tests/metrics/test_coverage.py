"""In simulation, 95% intervals cover the true value 93 to 97 times in 100, and tests raise 3 to 7 false alarms."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "coverage.py"
_spec = importlib.util.spec_from_file_location("coverage_simulation", SCRIPT)
assert _spec is not None and _spec.loader is not None
simulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(simulation)
SLACK = 0.015  # two standard errors of a share of 0.95 over 800 repetitions


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("seed_noise", [0.0, 0.5, 2.0])
def test_seeds_without_a_difference(n_seeds: int, seed_noise: float) -> None:
    covered, alarms = simulation.seeds_without_difference(n_seeds, seed_noise, 0.1, repetitions=800)
    assert 0.93 - SLACK <= covered <= 0.97 + SLACK
    assert 0.03 - SLACK <= alarms <= 0.07 + SLACK
    assert covered + alarms == pytest.approx(1)


@pytest.mark.parametrize("name", ["auc", "uauc"])
@pytest.mark.parametrize("n_users", [30, 100])
def test_few_users(name: str, n_users: int) -> None:
    assert 0.93 - SLACK <= simulation.users_of_one_run(name, n_users, repetitions=300) <= 0.97 + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auc", "uauc", "ndcg"])
@pytest.mark.parametrize("n_users", [30, 58, 320])
def test_users_at_length(name: str, n_users: int) -> None:
    assert 0.93 - SLACK <= simulation.users_of_one_run(name, n_users, repetitions=1500) <= 0.97 + SLACK
