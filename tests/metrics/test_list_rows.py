"""Ranked lists in a slice: other positives leave the candidates, and what was behind them moves up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collm.metrics.scored_rows import list_rows


def lists(seed: int) -> pl.DataFrame:
    """Tables as `ranking.parquet` holds them: the best 6 of 20 candidates and all of 1 to 8 positives, by user."""
    draw = np.random.default_rng(seed)
    rows = []
    for user in ("9", "10", "a"):
        positives = draw.choice(20, size=draw.integers(1, 9), replace=False) + 1
        for rank in range(1, 21):
            if rank <= 6 or rank in positives:
                rows.append((user, f"i{draw.integers(1, 99)}", int(rank in positives), rank, 20, 3, 4))
    names = ["user", "item", "label", "rank", "candidates", "user_train_rows", "item_train_rows"]
    return pl.DataFrame(rows, schema=names, orient="row").sample(fraction=1, shuffle=True, seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_positives_of_other_slices_leave_the_list(seed: int) -> None:
    table = lists(seed)
    inside = np.random.default_rng(seed + 100).random(table.height) < 0.5
    found = list_rows(table, inside)
    expected = []
    for place, user in enumerate(("9", "a", "10")):  # by length of the id, then the id
        own = [
            (row, kept) for row, kept in zip(table.iter_rows(named=True), inside, strict=True) if row["user"] == user
        ]
        gone = [row["rank"] for row, kept in own if row["label"] and not kept]
        if not any(row["label"] and kept for row, kept in own):
            continue
        for row, kept in own:
            if kept or not row["label"]:
                rank = row["rank"] - sum(other < row["rank"] for other in gone)
                expected.append((place, row["label"], rank, 20 - len(gone)))
    users = np.unique([each[0] for each in expected], return_inverse=True)[1]
    wanted = sorted((int(user), *each[1:]) for user, each in zip(users, expected, strict=True))
    assert found.rank is not None
    assert found.candidates is not None
    assert (
        sorted(
            zip(found.user.tolist(), found.label.tolist(), found.rank.tolist(), found.candidates.tolist(), strict=True)
        )
        == wanted
    )
    assert found.score.tolist() == (-found.rank).tolist()


def test_a_slice_without_positives_is_empty() -> None:
    assert len(list_rows(lists(0), np.zeros(lists(0).height, dtype=bool)).user) == 0
