"""Tuning by lists beside a plain computation: one prompt at a time, the loss as it is written, no micro-batches."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from list_fakes import HISTORY, list_recommender, list_source, list_task, ratings_data
from process_fakes import in_group

from collm.contracts.encoder import EncoderBatch
from collm.data.earlier import EarlierLabels
from collm.data.prepared import PreparedData
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.list_task import ListTask, list_batches, list_notes, sampled_lists
from collm.engine.train import train
from collm.errors import DataError, RunError
from collm.model.recommender import Recommender
from collm.process_group import SINGLE, ProcessGroup


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return ratings_data(tmp_path_factory.mktemp("ratings"))


def seen_before(data: PreparedData, user: int, time: int, target: int, n: int) -> list[int]:
    """The last positives of a user before a moment without one item, found by looking at all rows."""
    table = data.interactions().sort("user", "order").iter_rows(named=True)
    liked = [r["item"] for r in table if r["user"] == user and r["label"] == 1 and r["timestamp"] < time]
    kept = [item for item in liked if item != target][-n:]
    return [0] * (n - len(kept)) + kept


def plain_logit(task: ListTask, recommender: Recommender, data: PreparedData, positive: Any, item: int) -> torch.Tensor:
    """The answer's logit of one item, asked as a positive row was: one prompt through the language model itself."""
    user, target, time = positive
    history = seen_before(data, user, time, target, HISTORY + 1)
    prompts = task.lists._source.prompt_encoder.encode(np.array([item]), np.array([history[1:]]), "hybrid")
    counts = EarlierLabels(data).counts(np.array([user]), np.array([item]), np.array([time]))
    batch = EncoderBatch(
        user=torch.tensor([user]),
        item=torch.tensor([item]),
        history=torch.tensor([history]),
        earlier=torch.from_numpy(counts),
        timestamp=torch.tensor([time]),
    )
    pair, embed = recommender.encoders[""].encode(batch), recommender.lm.get_input_embeddings()
    embedded = embed(torch.from_numpy(prompts.prompt(0).astype(np.int64))).detach()
    for side in ("user", "item"):
        vector = recommender.projectors[""](side, getattr(pair, side))[0, 0]
        place = int(prompts.slots[side][0, 0])
        embedded = torch.cat([embedded[:place], vector[None], embedded[place + 1 :]])
    logits = recommender.lm(inputs_embeds=embedded[None]).logits[0, -1]
    return logits[2] - logits[3]


def plain_loss(task: ListTask, recommender: Recommender, data: PreparedData, step: Any) -> torch.Tensor:
    """Mean loss of a global batch's lists."""
    losses = []
    for line in np.concatenate(list(step)).tolist():
        rows = task.lists.rows
        positive = int(rows.user[line[0]]), int(rows.item[line[0]]), int(rows.timestamp[line[0]])
        liked, *others = (plain_logit(task, recommender, data, positive, item) for item in (positive[1], *line[1:]))
        if task._tuning.loss == "bpr":
            losses.append(sum(-torch.log(torch.sigmoid(liked - other)) for other in others) / len(others))
        else:
            losses.append(-torch.log(liked.exp() / (liked.exp() + sum(other.exp() for other in others))))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("trains", ["projector", "lora"])
@pytest.mark.parametrize("user_depends_on_item", [False, True])
def test_loss_and_gradient_are_those_of_a_plain_computation(data, loss, trains, user_depends_on_item) -> None:
    recommender = list_recommender(user_depends_on_item=user_depends_on_item, lora_dropout=0.0)
    task = list_task(data, recommender, trains=trains, loss=loss, negatives=3, micro_batch_tokens=200)
    step = task.batches(1)[2]
    assert len(step) > 1
    total = sum(task.loss_sum(lists) for lists in step) / sum(map(len, step))
    total.backward()
    parameters = recommender.parameter_groups()[trains]
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    recommender.zero_grad(set_to_none=True)
    recommender.share_prefixes(False)
    plain = plain_loss(task, recommender, data, step)
    plain.backward()
    assert total.item() == pytest.approx(plain.item(), abs=1e-4)
    assert max(float(p.grad.abs().max()) for p in parameters.values()) > 1e-3
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_a_list_of_equal_scores_costs_what_chance_does(data, monkeypatch) -> None:
    recommender = list_recommender()
    for loss, expected in (("softmax", math.log(5)), ("bpr", math.log(2))):
        task = list_task(data, recommender, loss=loss)
        monkeypatch.setattr(task, "forward", lambda prompts, places: (torch.full((len(places),), 0.7), None))
        lists = task.batches(0)[0][0]
        assert task.loss_sum(lists).item() == pytest.approx(expected * len(lists), rel=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("micro_batch_tokens", [64, 150, 400])
def test_lists_are_never_parted_and_keep_to_the_limit(data, packed, micro_batch_tokens, caplog) -> None:
    recommender = list_recommender()
    recommender.share_prefixes(packed)
    with caplog.at_level(logging.WARNING):
        task = list_task(data, recommender, micro_batch_tokens=micro_batch_tokens, batch_size=10)
        steps = list(task.batches(0))
    places = [line[0] for step in steps for lists in step for line in lists]
    assert sorted(places) == list(range(len(task.lists)))
    assert sorted(sum(map(len, step)) for step in steps)[1:] == [10] * (len(steps) - 1)
    assert len(steps) == task.steps_per_epoch == -(-len(task.lists) // 10)
    costs = [(len(lists), task.cost(lists)) for step in steps for lists in step]
    assert all(cost <= micro_batch_tokens for n, cost in costs if n > 1)
    too_large = any(cost > micro_batch_tokens for _, cost in costs)
    assert len(caplog.messages) == too_large == (micro_batch_tokens == 64 or (not packed and micro_batch_tokens == 150))
    assert not too_large or "a positive with its 4 negatives has up to" in caplog.messages[0]


def test_a_negative_costs_a_branch_and_not_a_prompt(data) -> None:
    task = list_task(data, list_recommender())
    prompts = task.lists.encode(task.lists.drawn(np.arange(12), 0))
    for first in range(0, len(prompts), 5):
        whole, alone = (prompts.batch(np.arange(first, first + n)).n_tokens for n in (5, 1))
        branches = prompts.lengths[first + 1 : first + 5] - prompts.shared[first + 1 : first + 5]
        assert whole == alone + branches.sum()


def test_negatives_have_the_user_time_and_history_of_their_positive(data) -> None:
    source = list_source(data, list_recommender())
    lists = sampled_lists(source, data.rows("train"), list_task(data, list_recommender())._tuning, seed=1)
    assert data.history_index().repeats > 0
    rows = lists.rows
    encoded = lists.encode(lists.drawn(np.arange(len(lists)), 0))
    histories = encoded.prompts
    for place in range(len(lists)):
        group = np.arange(5) + 5 * place
        assert set(encoded.rows.user[group]) == {rows.user[place]}
        assert set(encoded.rows.timestamp[group]) == {rows.timestamp[place]}
        before = {histories.prompt(row)[: encoded.shared[row]].tobytes() for row in group}
        assert before == {
            source.encode(rows.take(np.array([place]))).prompts.prompt(0)[: encoded.shared[group[0]]].tobytes()
        }
        assert encoded.rows.label[group].tolist() == [1, 0, 0, 0, 0]
        assert encoded.rows.item[group[0]] == rows.item[place]


def finish(task: ListTask, path: Path, processes: ProcessGroup = SINGLE, *, stop_after: int | None = None) -> Any:
    plain, n_calls = task.loss_sum, [0]

    def loss_sum(lists: np.ndarray) -> torch.Tensor:
        n_calls[0] += 1
        if stop_after is not None and n_calls[0] > stop_after:
            raise KeyboardInterrupt
        return plain(lists)

    task.loss_sum = loss_sum  # type: ignore[method-assign]
    return train(
        task,
        task.loop_settings(),
        accelerator=Accelerator(cpu=True),
        checkpoint=path,
        observer=lambda step, values: None,
        processes=processes,
    )


def weights(recommender: Recommender, group: str = "projector") -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in recommender.parameter_groups()[group].values()])


@pytest.mark.parametrize("settings", [{}, {"trains": "lora"}, {"prefix_cache_gb": 1}, {"loss": "bpr"}])
def test_an_interrupted_run_ends_with_the_same_bits_and_counts(data, tmp_path: Path, settings) -> None:
    group = settings.get("trains", "projector")
    whole = list_recommender()
    state = finish(list_task(data, whole, **settings), tmp_path / "whole")
    assert state.rows_seen == 3 * len(list_task(data, list_recommender()).lists)
    with pytest.raises(KeyboardInterrupt):
        finish(list_task(data, list_recommender(), **settings), tmp_path / "part", stop_after=17)
    resumed = list_recommender()
    again = finish(list_task(data, resumed, **settings), tmp_path / "part")
    assert torch.equal(weights(resumed, group), weights(whole, group))
    assert (again.tokens, again.rows_seen) == (state.tokens, state.rows_seen)
    assert state.tokens == state.curve[-1]["tokens"] > 0


def test_a_checkpoint_without_a_count_goes_on_without_one(data, tmp_path: Path) -> None:
    path = tmp_path / "older"
    with pytest.raises(KeyboardInterrupt):
        finish(list_task(data, list_recommender()), path, stop_after=17)
    tensors, metadata = load_tensors(path)
    del metadata["state"]["tokens"]
    save_tensors(path, tensors, metadata)
    state = finish(list_task(data, list_recommender()), path)
    assert state.tokens is None
    assert "tokens" not in state.curve[-1]


def test_kept_prefixes_change_no_weights(data, tmp_path: Path) -> None:
    plain, kept = list_recommender(), list_recommender()
    finish(list_task(data, plain), tmp_path / "plain")
    finish(list_task(data, kept, prefix_cache_gb=1), tmp_path / "kept")
    assert kept.kept_prefixes is not None and kept.kept_prefixes.n_bytes > 0
    torch.testing.assert_close(weights(kept), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shards", [None, False, True])
def test_several_processes_and_smaller_passes_train_the_weights_of_one(data, tmp_path: Path, shards) -> None:
    alone = list_recommender()
    state = finish(list_task(data, alone), tmp_path / "alone")
    if shards is None:
        small = list_recommender()
        finish(list_task(data, small, micro_batch_tokens=100), tmp_path / "small")
        torch.testing.assert_close(weights(small), weights(alone), rtol=1e-4, atol=1e-5)
        return
    models = [list_recommender() for _ in range(2)]

    def work(processes: ProcessGroup) -> Any:
        task = list_task(data, models[processes.index], processes=processes)
        return finish(task, tmp_path / "group", processes)

    for model, other in zip(models, in_group(work, 2, shards=shards), strict=True):
        assert (other.step, other.tokens) == (state.step, state.tokens)
        torch.testing.assert_close(weights(model), weights(alone), rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_halves_passes_and_parts_no_list(data, tmp_path: Path, caplog) -> None:
    roomy, tight = list_recommender(), list_recommender()
    finish(list_task(data, roomy), tmp_path / "roomy")
    task = list_task(data, tight)
    plain = task.loss_sum

    def loss_sum(lists: np.ndarray) -> torch.Tensor:
        assert lists.shape[1] == 5
        if len(lists) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(lists)

    task.loss_sum = loss_sum  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        finish(task, tmp_path / "tight")
    assert "micro-batches half as large" in caplog.messages[0]
    torch.testing.assert_close(weights(tight), weights(roomy), rtol=1e-4, atol=1e-5)
    assert "lower tuning.negatives" in task.smaller_rows()


def test_a_loss_that_is_not_finite_names_the_positives(data, tmp_path: Path) -> None:
    task = list_task(data, list_recommender())
    task.loss_sum = lambda lists: torch.tensor(float("nan"), requires_grad=True)  # type: ignore[method-assign]
    first = task.batches(0)[0][0]
    with pytest.raises(RunError, match=f"loss is nan at step 0 .* on batch rows {first[0, 0]}, {first[1, 0]}, "):
        finish(task, tmp_path / "nan")


def test_rows_without_enough_other_items_are_left_out_and_told(data) -> None:
    source, tuning = list_source(data, list_recommender()), list_task(data, list_recommender())._tuning
    train_rows = data.rows("train")
    for negatives in range(1, 25):
        met = {user: set(train_rows.item[train_rows.user == user].tolist()) for user in set(train_rows.user.tolist())}
        liked = train_rows.take(train_rows.label == 1)
        n_items = len(set(train_rows.item.tolist()))
        enough = [n_items - len(met[user]) >= negatives for user in liked.user.tolist()]
        wanted = tuning.model_copy(update={"negatives": negatives})
        if not any(enough):
            with pytest.raises(DataError, match=rf"tuning.negatives: {negatives} asked for, but no user"):
                sampled_lists(source, train_rows, wanted, seed=0)
            break
        lists = sampled_lists(source, train_rows, wanted, seed=0)
        assert (len(lists), lists.n_left_out) == (sum(enough), len(enough) - sum(enough))
        notes = list(list_notes(lists, "softmax"))
        assert f"each of {sum(enough)} training rows with label 1 was set beside {negatives} item" in notes[0]
        assert len(notes) == 1 + (not all(enough))
    else:
        pytest.fail("some user has every item")
    with pytest.raises(DataError, match="none of the 3 training rows of the step has label 1"):
        sampled_lists(source, train_rows.take(np.flatnonzero(train_rows.label == 0)[:3]), tuning, seed=0)


def test_lists_of_one_history_come_together(data) -> None:
    source = list_source(data, list_recommender())
    lists = sampled_lists(source, data.rows("train"), list_task(data, list_recommender())._tuning, seed=1)
    prompts = lists.encode(lists.drawn(np.arange(len(lists)), 0))
    groups = prompts.prefix_group[::5]
    cuts = list_batches(prompts, 5, max_tokens=10_000, packed=True)
    order = groups[np.concatenate(cuts)]
    assert (np.diff(order) != 0).sum() == len(set(groups.tolist())) - 1 < len(groups) - 1
