"""Earlier labels equal a count by hand, ties and unknown ids included; the row's own second is never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.data.earlier import EarlierLabels

ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=25
)


class Table:
    """The part of prepared data that is read."""

    def __init__(self, rows: list[tuple[int, int, int, int]], visibility: str = "strictly-earlier") -> None:
        self.visibility = visibility
        self._frame = pl.DataFrame(
            {
                "user": pl.Series([row[0] for row in rows], dtype=pl.Int32),
                "item": pl.Series([row[1] for row in rows], dtype=pl.Int32),
                "label": pl.Series([row[2] for row in rows], dtype=pl.Int8),
                "timestamp": [row[3] for row in rows],
                "split": ["train" if number % 2 else "test" for number in range(len(rows))],
            }
        )

    def interactions(self) -> pl.DataFrame:
        return self._frame


def columns(queries) -> list[np.ndarray]:
    return [np.array(column, dtype=np.int64) for column in zip(*queries, strict=True)]


def sides(user, item) -> list[tuple[int, np.ndarray]]:
    """Place of the id in a row, and the ids asked for."""
    return [(0, user), (1, item)]


def by_hand(rows, user: int, item: int, time: int) -> list[int]:
    counts = []
    for place, wanted in ((0, user), (1, item)):
        seen = [row for row in rows if row[place] == wanted and row[3] < time]
        counts += [sum(row[2] for row in seen), len(seen)]
    return counts


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, asked=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-1, 7)), max_size=8))
def test_counts_are_those_of_a_naive_loop(rows, asked) -> None:
    queries = [*asked, *((row[0], row[1], row[3]) for row in rows)]
    found = EarlierLabels(Table(rows)).counts(*columns(queries))
    assert found.dtype == np.float32
    assert found.tolist() == [by_hand(rows, *query) for query in queries]


def weighted_by_hand(rows, place: int, wanted: int, time: int, half_life: float) -> list[float]:
    """Positives and rows before `time`; the rows of one second share the mean of the weights of their places."""
    seen = sorted((row for row in rows if row[place] == wanted and row[3] < time), key=lambda row: -row[3])
    weights = [0.5 ** (age / half_life) for age in range(len(seen))]
    found = [0.0, 0.0]
    for second in {row[3] for row in seen}:
        ages = [age for age, row in enumerate(seen) if row[3] == second]
        mean = sum(weights[age] for age in ages) / len(ages)
        found = [found[0] + mean * sum(seen[age][2] for age in ages), found[1] + mean * len(ages)]
    return found


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, half_lives=st.lists(st.sampled_from([0.3, 1.0, 6.58, 400.0]), min_size=1, max_size=2))
def test_recent_labels_are_those_of_a_naive_loop(rows, half_lives) -> None:
    user, item, time = columns([*((row[0], row[1], row[3]) for row in rows), (1, 1, 9), (4, 4, 9), (1, 2, -1)])
    earlier = EarlierLabels(Table(rows), half_lives=half_lives)
    found = earlier.before(user, item, time).recent
    assert found.dtype == np.float32
    assert found.shape == (len(user), 2, len(half_lives), 2)
    expected = [
        [
            [weighted_by_hand(rows, place, ids[n], time[n], each) for each in half_lives]
            for place, ids in sides(user, item)
        ]
        for n in range(len(user))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_days_are_those_since_the_last_label(rows) -> None:
    rows = [(*row[:3], row[3] * 40_000) for row in rows]
    user, item, time = columns([(row[0], row[1], row[3]) for row in rows])
    found = EarlierLabels(Table(rows), half_lives=[1]).before(user, item, time).days_since
    for n in range(len(user)):
        for side, (place, ids) in enumerate(sides(user, item)):
            before = [row[3] for row in rows if row[place] == ids[n] and row[3] < time[n]]
            assert found[n, side] == ((time[n] - max(before)) // 86_400 if before else -1)


def everything(rows, asked) -> np.ndarray:
    """All numbers of rows asked for, side by side."""
    earlier = EarlierLabels(Table(rows), half_lives=[2.0, 30.0])
    known = earlier.before(*asked)
    found = known.counts, known.recent, known.days_since
    return np.concatenate([part.reshape(len(asked[0]), -1) for part in found], axis=1)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_the_order_within_a_second_changes_nothing(rows, order) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # times stay with their rows, so this shuffles each second among itself
    asked = columns([(row[0], row[1], row[3]) for row in rows])
    np.testing.assert_array_equal(everything(rows, asked), everything(shuffled, asked))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, moment=st.integers(0, 5), labels=st.lists(st.integers(0, 1), min_size=25, max_size=25))
def test_the_future_changes_nothing(rows, moment, labels) -> None:
    """Rows at or after a moment may be deleted, or get other labels, users and items: earlier numbers stay."""
    asked = columns([(row[0], row[1], row[3]) for row in rows if row[3] <= moment] or [(1, 1, moment)])
    past = [row for row in rows if row[3] < moment]
    future = [row for row in rows if row[3] >= moment]
    permuted = [
        (other[0], other[1], label, row[3]) for row, other, label in zip(future, reversed(future), labels, strict=False)
    ]
    expected = everything(rows, asked)
    np.testing.assert_array_equal(everything([*past, *permuted], asked), expected)
    if past:
        np.testing.assert_array_equal(everything(past, asked), expected)


def test_many_rows_of_one_id_keep_their_precision() -> None:
    rows = [(1, 1, 1, second) for second in range(5_000)] + [(2, 2, 0, second) for second in range(3)]
    found = EarlierLabels(Table(rows), half_lives=[500.0]).before(*columns([(2, 2, 9_000), (1, 1, 9_000)])).recent
    assert found[0, 0, 0].tolist() == pytest.approx([0.0, sum(0.5 ** (age / 500) for age in range(3))])
    assert found[1, 0, 0].tolist() == pytest.approx([sum(0.5 ** (age / 500) for age in range(5_000))] * 2)


def test_nothing_is_known_before_the_first_training_row() -> None:
    one = np.array([1])
    earlier = EarlierLabels(Table([(1, 1, 1, 0)], "as-of-split"), half_lives=[2.0])  # no training row at all
    known = earlier.before(one, one, np.array([9]))
    assert not known.counts.any()
    assert not known.recent.any()
    assert known.days_since.tolist() == [[-1, -1]]


def test_drawn_negatives_are_no_labels() -> None:
    table = Table([(1, 1, 1, 0), (1, 2, 0, 1), (1, 3, 1, 2)])
    frame = table.interactions().with_columns(sampled=pl.Series([False, True, False]))
    table.interactions = lambda: frame
    one = np.array([1])
    assert EarlierLabels(table).counts(one, np.array([2]), np.array([9])).tolist() == [[2, 2, 0, 0]]


def test_training_rows_alone_count_as_of_split() -> None:
    rows = [(1, 1, 1, 0), (1, 1, 1, 1), (1, 2, 0, 2)]  # the second is a training row
    one = np.array([1])
    found = EarlierLabels(Table(rows, "as-of-split")).counts(one, one, np.array([9]))
    assert found.tolist() == [[1, 1, 1, 1]]


def test_the_real_rows(shared_data: Path, tmp_path: Path) -> None:
    from collm.component import BuildContext
    from collm.contracts.data import Limit
    from collm.data.prepare import prepare
    from collm.data.prepared import PreparedData
    from collm.registry import default_registry
    from collm.spec.sections import HistoryConfig

    component = default_registry().get("dataset", "collm-released")
    config = component.config.model_validate(
        {"name": "collm-released", "path": shared_data / "ml-1m-released-split.zip"}
    )
    source = component.load_factory()(config, context=BuildContext(cache_dir=Path("unused")))
    prepare(source, limit=Limit(), history=HistoryConfig(), folder=tmp_path)
    data = PreparedData.open(tmp_path)
    rows = data.rows("test")
    take = rows.take(np.arange(0, len(rows), 400))
    table = data.interactions()
    counts = EarlierLabels(data).counts(take.user, take.item, take.timestamp)
    for place in range(len(take)):
        before = table.filter(pl.col("timestamp") < int(take.timestamp[place]))
        mine, its = before.filter(pl.col("user") == take.user[place]), before.filter(pl.col("item") == take.item[place])
        expected = [mine["label"].sum(), mine.height, its["label"].sum(), its.height]
        assert counts[place].tolist() == expected
