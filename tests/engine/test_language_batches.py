"""Batches of a tuning step on prompts of real lengths: no padding, every row once an epoch, labels as in the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from language_fakes import language_task, tiny_recommender
from padding import padding_share

from collm.data.prepared import Rows
from collm.engine.language_task import ROWS_KEPT_TOGETHER
from collm.engine.prompt_rows import PromptRows
from collm.prompt.encoded import EncodedPrompts


def film_rows(n_users: int = 150, *, seed: int = 0) -> PromptRows:
    """Prompts as long as those of films: up to ten titles of 5 to 20 tokens each, some rows per history."""
    generator = np.random.default_rng(seed)
    sequences, before, shared, groups, labels = [], [], [], [], []
    words = generator.integers(10, 40, 25)
    for group in range(n_users):
        titles = generator.integers(0, 11)
        history = np.concatenate([words, generator.integers(10, 48, int(generator.integers(5, 20, titles).sum()) + 20)])
        liking = generator.beta(2, 2)
        for _ in range(generator.integers(1, 7)):
            sequences.append(np.concatenate([history, generator.integers(10, 48, generator.integers(18, 40))]))
            before.append(len(history) - 9)
            shared.append(len(history))
            groups.append(group)
            labels.append(int(generator.random() < liking))
    n, index = len(sequences), np.arange(len(sequences))
    prompts = EncodedPrompts(
        ids=np.concatenate(sequences).astype(np.uint16),
        offsets=np.concatenate([[0], np.cumsum([len(each) for each in sequences])]).astype(np.int64),
        shared=np.array(shared, dtype=np.int32),
        before_user=np.array(before, dtype=np.int32),
        n_history_used=np.zeros(n, dtype=np.int32),
    )
    rows = Rows(np.array(groups) + 1, index, np.array(labels, dtype=np.int8), index, index, index)
    return PromptRows(
        rows,
        prompts,
        prefix_group=np.array(groups),
        batchers={},
        user_depends_on_item=False,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module", params=[True, False], ids=["trees", "padded"])
def task(request: pytest.FixtureRequest):
    recommender = tiny_recommender()
    recommender._shares_prefixes = request.param
    made = language_task(recommender, trains="lora", batch_size=32, micro_batch_tokens=4096)
    made.train = film_rows()
    return made


def test_padding_stays_under_three_percent(task) -> None:
    rows = task.train
    steps = task.batches(0)
    micro_batches = [batch for step in steps for batch in step]
    if not task._recommender.shares_prefixes:
        assert padding_share(rows.lengths, micro_batches) < 0.03
        assert padding_share(rows.lengths, rows.scoring_batches(4096, packed=False)) < 0.03
        shuffled = np.array_split(np.random.default_rng(0).permutation(len(rows)), len(steps))
        assert padding_share(rows.lengths, shuffled) > 0.2
        assert all(len(batch) * rows.lengths[batch].max() <= 4096 for batch in micro_batches)
        return
    for batches in (micro_batches, rows.scoring_batches(4096)):
        # Every distinct token once and no other: words that all prompts begin with are even fewer.
        computed = [rows.batch(batch).n_tokens for batch in batches]
        distinct = [rows.n_tokens(batch) for batch in batches]
        assert all(a <= b for a, b in zip(computed, distinct, strict=True))
        assert sum(computed) < sum(int(rows.lengths[batch].sum()) for batch in batches)


def test_every_epoch_is_another_permutation_cut_into_global_batches(task) -> None:
    n = len(task.train)
    seen = []
    for epoch in range(3):
        steps = task.batches(epoch)
        assert len(steps) == task.steps_per_epoch
        assert sorted(sum(map(len, step)) for step in steps)[1:] == [32] * (len(steps) - 1)
        order = np.concatenate([rows for step in steps for rows in step])
        assert sorted(order.tolist()) == list(range(n))
        seen.append(order.tolist())
    assert seen[0] != seen[1] != seen[2]
    assert [rows.tolist() for step in task.batches(1) for rows in step] == [
        rows.tolist() for step in task.batches(1) for rows in step
    ]


def test_labels_of_any_step_are_those_of_the_data(task) -> None:
    labels = task.train.rows.label.astype(float)
    for number in (0, 5):
        means = np.array([labels[np.concatenate(list(task.batches(epoch)[number]))].mean() for epoch in range(150)])
        assert abs(means.mean() - labels.mean()) < 4 * means.std() / np.sqrt(len(means))


def test_rows_of_one_history_stand_together_only_as_far_as_stated() -> None:
    recommender = tiny_recommender()
    task = language_task(recommender, trains="lora", batch_size=32)
    task.train = film_rows(600)
    groups = task.train.prefix_group
    together = []
    for epoch in range(5):
        for step in task.batches(epoch):
            _, counts = np.unique(groups[np.concatenate(list(step))], return_counts=True)
            together.append(counts.max())
    # Two chunks of one history, of four rows at most, seldom meet in one batch.
    assert np.mean(np.array(together) <= ROWS_KEPT_TOGETHER) > 0.9
