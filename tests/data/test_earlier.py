"""Earlier labels equal a count by hand, ties and unknown ids included; the row's own second is never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
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
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*queries, strict=True))
    found = EarlierLabels(Table(rows)).counts(user, item, time)
    assert found.dtype == np.float32
    assert found.tolist() == [by_hand(rows, *query) for query in queries]


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
    from collm.spec.model import HistoryConfig

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
