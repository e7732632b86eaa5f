from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData, TrainRows
from collm.errors import DataError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_floors import register_encoders

COMPONENTS = {component.name: component for component in register_encoders()}
CONTEXT = BuildContext(cache_dir=Path("no-cache"))


class TestItemMean(EncoderContract):
    component = COMPONENTS["item-mean"]


class TestItemUserMean(EncoderContract):
    component = COMPONENTS["item-user-mean"]


class TestBiasLogistic(EncoderContract):
    component = COMPONENTS["bias-logistic"]


class TestOnlineUserItem(EncoderContract):
    component = COMPONENTS["online-user-item"]


class TestPopularity(EncoderContract):
    component = COMPONENTS["popularity"]


class TestRecentPopularity(EncoderContract):
    component = COMPONENTS["recent-popularity"]


def data_of(user, item, label) -> EncoderData:
    zeros = np.zeros(len(user), dtype=np.int64)
    rows = TrainRows(
        user=np.array(user, dtype=np.int64),
        item=np.array(item, dtype=np.int64),
        label=np.array(label, dtype=np.int8),
        timestamp=zeros,
        row=zeros,
    )
    return EncoderData(n_users=3, n_items=3, titles=["", "a", "b", "c"], train=rows, history_items=0)


def logits(name: str, data: EncoderData, user, item, **settings) -> np.ndarray:
    component = COMPONENTS[name]
    config = component.config.model_validate({"name": name, **settings})
    floor = component.load_factory()(config, data=data, context=CONTEXT)
    floor.fit_direct(data, iter([]))
    batch = EncoderBatch(
        user=torch.tensor(user),
        item=torch.tensor(item),
        earlier=torch.zeros(len(user), 4),
        recent=torch.zeros(len(user), 2, 1, 2),
    )
    return floor.score(batch).double().numpy()


def log_odds(probability):
    return np.log(probability / (1 - probability))


def test_all_are_floors_with_scores_only():
    of_rows = {"item-mean", "item-user-mean", "bias-logistic", "online-user-item", "recent-logistic"}
    assert set(COMPONENTS) == {*of_rows, "popularity", "recent-popularity"}
    assert {name for name, component in COMPONENTS.items() if component.floor} == of_rows
    assert all(component.floor != component.ranking_floor for component in COMPONENTS.values())
    assert all(component.gives == {"scores"} for component in COMPONENTS.values())


def test_popularity_counts_positives_and_late_ones_more():
    data = data_of([1, 2, 3, 4, 1, 2], [1, 1, 1, 2, 2, 3], [1, 1, 0, 1, 1, 1])
    found = logits("popularity", data, [1] * 4, [0, 1, 2, 3])
    counts = np.log1p(np.array([0, 2, 2, 1]))
    np.testing.assert_allclose(found, counts - counts.max(), atol=1e-6)
    # Positives in time order: items 1, 1, 2, 2, 3; a positive counts half after 0.2 of them, which is one.
    found = logits("recent-popularity", data, [1] * 4, [0, 1, 2, 3], half_life=0.2)
    counts = np.log1p(np.array([0, 1 / 16 + 1 / 8, 1 / 4 + 1 / 2, 1]))
    np.testing.assert_allclose(found, counts - counts.max(), atol=1e-6)


def test_item_mean_by_hand():
    data = data_of([1, 1, 2, 2], [1, 2, 1, 2], [1, 0, 1, 1])
    found = logits("item-mean", data, [3, 1, 1], [1, 2, 3], smoothing=4)
    share = 3 / 4
    expected = [(2 + 4 * share) / 6, (1 + 4 * share) / 6, share]
    np.testing.assert_allclose(found, log_odds(np.array(expected)), atol=1e-6)


def test_item_user_mean_by_hand():
    data = data_of([1, 1, 2, 2], [1, 2, 1, 2], [1, 0, 1, 1])
    found = logits("item-user-mean", data, [1, 3, 3], [2, 2, 3], item_smoothing=4, user_smoothing=2)
    share = 3 / 4
    item, user = log_odds((1 + 4 * share) / 6), log_odds((1 + 2 * share) / 4)
    np.testing.assert_allclose(found, [item + user - log_odds(share), item, log_odds(share)], atol=1e-6)


def test_bias_logistic_is_at_the_optimum_of_its_penalised_loss():
    data = encoder_data()
    component = COMPONENTS["bias-logistic"]
    floor = component.load_factory()(component.config(name="bias-logistic", inverse_l2=0.7), data=data, context=CONTEXT)
    floor.fit_direct(data, iter([]))
    batch = encoder_batch(data)
    residual = torch.sigmoid(floor.score(batch)).double().numpy() - data.train.label
    # gradient of sum(loss) + ||w||^2 / (2 C), entry by entry
    by_user = np.bincount(data.train.user, residual, data.n_users + 1) + floor.user_logit.numpy() / 0.7
    by_item = np.bincount(data.train.item, residual, data.n_items + 1) + floor.item_logit.numpy() / 0.7
    assert abs(residual.sum()) < 0.05
    np.testing.assert_allclose(by_user, 0, atol=0.05)
    np.testing.assert_allclose(by_item, 0, atol=0.05)
    assert floor.user_logit[-1] == 0
    assert floor.item_logit[-1] == 0


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_finite_logits(name, label):
    data = data_of([1, 2, 3], [1, 2, 3], [label] * 3)
    found = logits(name, data, [1, 0], [1, 0])
    assert np.isfinite(found).all()
    if COMPONENTS[name].floor:
        assert ((found > 0) == bool(label)).all()


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_training_rows_is_an_error(name):
    with pytest.raises(DataError, match="there are no training rows"):
        logits(name, data_of([], [], []), [1], [1])


def test_a_refit_replaces_the_tables():
    data = encoder_data()
    component = COMPONENTS["item-mean"]
    floor = component.load_factory()(component.config(name="item-mean"), data=data, context=CONTEXT)
    floor.fit_direct(data, iter([]))
    before = floor.item_logit.clone()
    turned = replace(data, train=replace(data.train, label=1 - data.train.label))
    floor.fit_direct(turned, iter([]))
    torch.testing.assert_close(floor.item_logit, -before)


def online(batches, data, **settings):
    component = COMPONENTS["online-user-item"]
    config = component.config.model_validate({"name": "online-user-item", **settings})
    floor = component.load_factory()(config, data=data, context=CONTEXT)
    floor.fit_direct(data, iter(batches))
    return floor


def test_online_logits_by_hand():
    data = data_of([1, 1, 2, 2], [1, 2, 1, 2], [1, 1, 1, 1])  # one class: weights stay 1
    floor = online([], data, user_smoothing=2, item_smoothing=4)
    share = 1 - 0.125
    earlier = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 6.0]])
    ids = torch.tensor([1, 2])
    found = floor.score(EncoderBatch(user=ids, item=ids, earlier=earlier)).double().numpy()
    expected = [
        log_odds((3 + 2 * share) / 6),
        log_odds((1 + 4 * share) / 10),
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_online_weights_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    data = encoder_data()
    batch = encoder_batch(data)
    floor = online([batch], data)
    earlier, label = batch.earlier.double().numpy(), data.train.label
    share = label.mean()
    features = [
        log_odds((earlier[:, 2 * side] + m * share) / (earlier[:, 2 * side + 1] + m)) - log_odds(share)
        for side, m in enumerate((3.0, 5.0))
    ]
    model = LogisticRegression(C=100.0).fit(np.stack(features, axis=1), label)
    expected = [model.intercept_[0], *model.coef_[0]]
    np.testing.assert_allclose(floor.weights.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_online_needs_the_counts():
    data = encoder_data()
    ids = torch.tensor([1])
    with pytest.raises(DataError, match="no counts of earlier labels"):
        online([encoder_batch(data)], data).score(EncoderBatch(user=ids, item=ids))


def test_recent_logistic_weighs_three_numbers_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    data = encoder_data()
    component = COMPONENTS["recent-logistic"]
    floor = component.load_factory()(component.config(name="recent-logistic"), data=data, context=CONTEXT)
    assert floor.half_lives == (6.58,)
    assert pytest.approx(0.9, abs=1e-4) == 0.5 ** (1 / 6.58)
    batch = encoder_batch(data, half_lives=floor.half_lives)
    floor.fit_direct(data, iter([batch]))
    earlier, recent = batch.earlier.double().numpy(), batch.recent.double().numpy()
    share = data.train.label.mean()
    pairs = [(earlier[:, 0], earlier[:, 1], 3.0), (earlier[:, 2], earlier[:, 3], 5.0), (*recent[:, 0, 0].T, 1.0)]
    features = np.stack(
        [log_odds((positives + m * share) / (rows + m)) - log_odds(share) for positives, rows, m in pairs], axis=1
    )
    model = LogisticRegression(C=100.0).fit(features, data.train.label)
    np.testing.assert_allclose(floor.weights.numpy(), [model.intercept_[0], *model.coef_[0]], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(floor.score(batch).numpy(), model.decision_function(features), atol=1e-4)
    with pytest.raises(DataError, match="recent-logistic: the batch has no recent labels"):
        floor.score(encoder_batch(data))
