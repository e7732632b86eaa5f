from __future__ import annotations

import numpy as np
import pytest

from collm.contracts.metric import ScoredRows
from collm.errors import DataError
from collm.metrics.grouping import check_rows, group_ties


def rows(user, label, score):
    return ScoredRows(user=np.array(user), label=np.array(label, dtype=np.int8), score=np.array(score, dtype=float))


def test_ties_are_runs_of_one_users_equal_scores():
    ties = group_ties(rows([9, 4, 9, 9, 4], [1, 0, 0, 1, 1], [0.5, 0.5, 0.5, 0.1, 0.7]))
    assert ties.n_users == 2
    assert ties.n_rows.tolist() == [2, 3]
    assert ties.n_positive.tolist() == [1, 2]
    assert ties.tie_user.tolist() == [0, 0, 1, 1]
    assert ties.tie_start.tolist() == [0, 1, 0, 1]
    assert ties.tie_rows.tolist() == [1, 1, 1, 2]
    assert ties.tie_positive.tolist() == [0, 1, 1, 1]


def test_no_rows_have_no_ties():
    ties = group_ties(rows([], [], []))
    assert ties.n_users == 0
    assert len(ties.tie_rows) == 0


@pytest.mark.parametrize(
    ("user", "label", "score", "message"),
    [
        ([1], [1], [0.5, 0.5], "1 users, 1 labels and 2 scores"),
        ([1, 1], [1, 2], [0.5, 0.5], "label 2 in row 1; allowed are 0 and 1"),
        ([1, 1, 2], [1, 0, 0], [0.5, np.nan, np.inf], r"2 of 3 scores are NaN or infinite, the first \(nan\) in row 1"),
    ],
)
def test_unusable_rows_are_refused(user, label, score, message):
    with pytest.raises(DataError, match=message):
        check_rows(rows(user, label, score))
