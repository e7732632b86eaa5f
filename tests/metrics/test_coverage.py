"""In simulation, 95% intervals cover the true value about 95% of the time."""

from __future__ import annotations

import numpy as np
import pytest

from collm.contracts.metric import ScoredRows
from collm.metrics.uncertainty import interval
from collm.registry import default_registry
from collm.stages.evaluate import build_metrics

N_SIMULATIONS = 600


def draw(n_users: int, generator: np.random.Generator) -> ScoredRows:
    """Users differ in how many rows they have, how positive they are and how well they are scored."""
    n_rows = generator.integers(5, 40, size=n_users)
    user = np.repeat(np.arange(n_users), n_rows)
    level = generator.normal(0.3, 0.8, size=n_users)[user]
    label = (generator.random(len(user)) < 1 / (1 + np.exp(-level))).astype(np.int8)
    skill = generator.normal(0.8, 0.4, size=n_users)[user]
    score = 0.5 * level + skill * (label - 0.5) + generator.normal(size=len(user))
    return ScoredRows(user=user, label=label, score=score)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auc", "uauc"])
@pytest.mark.parametrize("n_users", [200, 800])
def test_intervals_cover_the_truth(name: str, n_users: int) -> None:
    metric = build_metrics([name], default_registry())[name]
    generator = np.random.default_rng(7)
    truth = metric.compute(draw(200_000, generator)).value
    assert truth is not None
    covered = 0
    for number in range(N_SIMULATIONS):
        ends = interval(metric, draw(n_users, generator), n_resamples=400, seed=number)
        assert ends is not None
        covered += ends[0] <= truth <= ends[1]
    assert 0.93 <= covered / N_SIMULATIONS <= 0.97
