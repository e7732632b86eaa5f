"""Simulates what reports claim: how often 95% intervals cover, and how often a test finds what is not there.

Prints the tables of docs/reports.md, and that of ranked lists in docs/ranking.md.

Run: .venv/bin/python experiments/benchmarks/coverage.py [--repetitions 2000]   (about 5 minutes on one core)
"""

from __future__ import annotations

import argparse
import itertools
import sys

import numpy as np

from collm.contracts.metric import ScoredRows
from collm.metrics.uncertainty import UserDraws, interval
from collm.registry import default_registry
from collm.report.compare import Draws, compare_all
from collm.stages.evaluate import build_metrics

N_RESAMPLES = 400
USER_NOISE = 0.01  # standard deviation of a metric from one sample of users to another
SEEDS = (2, 3, 5, 10)
SEED_NOISE = (0.0, 0.5, 2.0)  # relative to USER_NOISE
LIST_USERS = (30, 100, 600)
LIST_METRICS = ("hr@10", "ndcg@10", "mrr")
LIST_ITEMS = 2_000
# The rank of a list's positive is LIST_ITEMS ** (u ** shape), u uniform: hit rates of 0.14 and 0.02 at rank 10.
LIST_SHAPES = (0.6, 0.3)
USERS = (5, 10, 20, 30, 58, 100, 320)


def draws_of_a_method(
    n_seeds: int, seed_noise: float, own_users: float, n_users: int, generator: np.random.Generator, weights: np.ndarray
) -> Draws:
    """Draws a method whose true value is 0: users that seeds share, users by seed, and seeds.

    Args:
        n_seeds: Seeds.
        seed_noise: Standard deviation of what a seed changes for all users, relative to that of the users.
        own_users: Share of the users' variance that differs from seed to seed, in [0, 1].
        n_users: Users.
        generator: Source of the draws.
        weights: float [n_resamples, n_users] how often each resample has each user; rows sum to n_users.
    """
    scale = USER_NOISE * np.sqrt(n_users)
    shared = generator.normal(0, scale * np.sqrt(1 - own_users), n_users)
    own = generator.normal(0, scale * np.sqrt(own_users), (n_seeds, n_users))
    of_users = shared + own
    of_seeds = generator.normal(0, USER_NOISE * seed_noise, n_seeds)
    values = of_users.mean(axis=1) + of_seeds
    left_out = (of_users.sum(axis=1, keepdims=True) - of_users) / (n_users - 1) + of_seeds[:, None]
    resampled = of_users @ weights.T / n_users + of_seeds[:, None]
    found = [UserDraws(row, left) for row, left in zip(resampled, left_out, strict=True)]
    return Draws.of(list(values), found, tuple(range(n_seeds)), n_users)


def seeds_without_difference(
    n_seeds: int, seed_noise: float, own_users: float, *, repetitions: int, n_users: int = 100
) -> tuple[float, float]:
    """Compares two methods without any true difference.

    Returns:
        The share of 95% intervals that cover 0, and the share of p-values under 0.05.
    """
    generator = np.random.default_rng([n_seeds, int(100 * seed_noise), int(100 * own_users)])
    covered = alarms = 0
    for _ in range(repetitions):
        weights = generator.multinomial(n_users, np.full(n_users, 1 / n_users), size=N_RESAMPLES).astype(np.float64)
        # A difference of two methods has twice the variance of each: the noise of both parts grows alike.
        pair = {
            name: draws_of_a_method(n_seeds, seed_noise, own_users, n_users, generator, weights) for name in ("a", "b")
        }
        (found,) = compare_all(pair, "auc")
        covered += found.low <= 0 <= found.high
        alarms += found.p < 0.05
    return covered / repetitions, alarms / repetitions


def scored_users(n_users: int, generator: np.random.Generator) -> ScoredRows:
    """Draws users that differ in how many rows they have, how positive they are and how well they are scored."""
    n_rows = np.maximum(2, generator.lognormal(2.6, 1.0, size=n_users).astype(int))
    user = np.repeat(np.arange(n_users), n_rows)
    level = generator.normal(0.3, 0.8, size=n_users)[user]
    label = (generator.random(len(user)) < 1 / (1 + np.exp(-level))).astype(np.int8)
    skill = generator.normal(0.8, 0.4, size=n_users)[user]
    score = 0.5 * level + skill * (label - 0.5) + generator.normal(size=len(user))
    return ScoredRows(user=user, label=label, score=score)


def users_of_one_run(name: str, n_users: int, *, repetitions: int) -> float:
    """Returns the share of 95% intervals of a metric that cover its true value, one run and few users."""
    metric = build_metrics([name], default_registry())[name]
    generator = np.random.default_rng(7)
    truth = metric.compute(scored_users(100_000, generator)).value
    assert truth is not None
    covered = 0
    for number in range(repetitions):
        ends = interval(metric, scored_users(n_users, generator), n_resamples=N_RESAMPLES, seed=number)
        assert ends is not None
        covered += ends[0] <= truth <= ends[1]
    return covered / repetitions


def ranked_users(n_users: int, shape: float, generator: np.random.Generator) -> ScoredRows:
    """Draws a ranked list of one positive per user."""
    rank = np.ceil(LIST_ITEMS ** (generator.random(n_users) ** shape)).astype(np.int64)
    return ScoredRows(np.arange(n_users), np.ones(n_users, dtype=np.int8), -rank.astype(np.float64), rank=rank)


def users_of_ranked_lists(name: str, shape: float, n_users: int, *, repetitions: int) -> tuple[float, float]:
    """Returns the true value of a metric of lists, and the share of 95% intervals that cover it."""
    metric = build_metrics([name], default_registry())[name]
    generator = np.random.default_rng(7)
    truth = metric.compute(ranked_users(2_000_000, shape, generator)).value
    assert truth is not None
    covered = 0
    for number in range(repetitions):
        ends = interval(metric, ranked_users(n_users, shape, generator), n_resamples=N_RESAMPLES, seed=number)
        covered += ends is not None and ends[0] <= truth <= ends[1]
    return truth, covered / repetitions


def say(line: str) -> None:
    """Writes a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Writes the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    repetitions = parser.parse_args().repetitions
    columns = " | ".join(f"{n} seeds" for n in SEEDS)
    say(f"| users' noise that each seed has its own | seed noise / user noise | {columns} |")
    say("|---" * (2 + len(SEEDS)) + "|")
    for own_users, noise in itertools.product((0.0, 0.3, 1.0), SEED_NOISE):
        found = [seeds_without_difference(n, noise, own_users, repetitions=repetitions) for n in SEEDS]
        cells = " | ".join(f"{100 * covered:.1f}% / {100 * alarms:.1f}%" for covered, alarms in found)
        say(f"| {own_users:.0%} | {noise:g} | {cells} |")
    say(f"\n| metric | {' | '.join(f'{n} users' for n in USERS)} |")
    say("|---" * (1 + len(USERS)) + "|")
    for name in ("auc", "uauc", "ndcg"):
        shares = [users_of_one_run(name, n, repetitions=repetitions) for n in USERS]
        say(f"| {name} | {' | '.join(f'{100 * share:.1f}%' for share in shares)} |")
    say(f"\n| metric of lists | true value | {' | '.join(f'{n} users' for n in LIST_USERS)} |")
    say("|---" * (2 + len(LIST_USERS)) + "|")
    for shape, name in itertools.product(LIST_SHAPES, LIST_METRICS):
        found = [users_of_ranked_lists(name, shape, n, repetitions=repetitions) for n in LIST_USERS]
        say(f"| {name} | {found[0][0]:.3f} | {' | '.join(f'{100 * share:.1f}%' for _, share in found)} |")


if __name__ == "__main__":
    main()
