"""Rows of an encoder whose user vector moves with time: what is shared, and that sharing changes no score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from list_fakes import HISTORY, list_recommender, list_source, ratings_data

from collm.data.prepared import PreparedData
from collm.engine.language_task import recommender_logits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder: Path = tmp_path_factory.mktemp("data")
    return ratings_data(folder)


def test_scores_together_are_those_of_each_row_alone(data: PreparedData) -> None:
    recommender = list_recommender().eval()
    prompts = list_source(data, recommender).encode(data.rows("train"))
    together = recommender_logits(recommender, prompts, max_tokens=4096)
    alone = recommender_logits(recommender, prompts, max_tokens=1)
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert len(np.unique(np.round(alone, 4))) > 50


def test_rows_of_one_history_share_what_stands_before_the_user_and_those_of_one_moment_the_user_too(
    data: PreparedData,
) -> None:
    rows = data.rows("train")
    prompts = list_source(data, list_recommender()).encode(rows)
    same_history = same_moment = 0
    histories = data.history(rows, HISTORY + 1)  # as the encoder reads them; prompts list one fewer
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            if rows.user[one] != rows.user[other] or (histories[one] != histories[other]).any():
                continue
            tokens = prompts.batch(np.array([one, other])).n_tokens
            lengths, before = prompts.lengths[[one, other]].sum(), int(prompts.prompts.before_user[one])
            shared = int(prompts.prompts.shared[one])
            if rows.timestamp[one] == rows.timestamp[other]:
                assert tokens == lengths - shared
                assert prompts.prefix_group[one] == prompts.prefix_group[other]
                same_moment += 1
            else:
                assert tokens == lengths - before
                assert prompts.prefix_group[one] != prompts.prefix_group[other]
                same_history += 1
    assert same_history > 5
    assert same_moment > 0
