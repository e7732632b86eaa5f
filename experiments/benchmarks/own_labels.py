"""Simulates uAUC of a score that knows nothing but the user's own earlier labels, where labels are independent.

Run:      python experiments/benchmarks/own_labels.py
Time:     seconds
Shows:    within a user such a score ranks backwards: after more likes than usual, fewer are left among the rows to come
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.metrics import roc_auc_score

SHARE, SMOOTHING = 0.55, 3.0


def mean_area(n_rows: int, n_users: int, generator: np.random.Generator) -> float:
    """Returns the mean AUC within users of the log-odds of their earlier labels; some users like more than others."""
    areas = []
    for liked in generator.beta(5, 4, n_users):
        label = (generator.random(n_rows) < liked).astype(int)
        if not 0 < label.sum() < n_rows:
            continue
        likes, rows = np.concatenate([[0], np.cumsum(label)[:-1]]), np.arange(n_rows)
        score = np.log((likes + SMOOTHING * SHARE) / (rows - likes + SMOOTHING * (1 - SHARE)))
        areas.append(roc_auc_score(label, score))
    return float(np.mean(areas))


def main() -> None:
    """Prints a line per number of rows."""
    generator = np.random.default_rng(0)
    for n_rows in (5, 10, 30, 100, 300):
        sys.stdout.write(f"{n_rows:4d} rows per user: uAUC {mean_area(n_rows, 1000, generator):.3f}\n")


if __name__ == "__main__":
    main()
