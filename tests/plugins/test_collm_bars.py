from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.errors import DataError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_bars import register_encoders
from collm_bars.counts import CountTables, out_of_fold_features
from collm_bars.counts_encoders import regression_inputs
from collm_bars.trees import TreeArrays

KNN, GBDT, LOGISTIC = register_encoders()
SMALL_TREES = {"n_trees": 12, "min_leaf_rows": 5, "max_leaves": 6}


class TestItemKNN(EncoderContract):
    component = KNN
    settings: ClassVar = {"n_neighbours": 7, "profile_items": 6}


class TestCountsGBDT(EncoderContract):
    component = GBDT
    settings = SMALL_TREES


class TestCountsLogistic(EncoderContract):
    component = LOGISTIC


def fitted(component, data, tmp_path, **settings):
    torch.manual_seed(0)
    config = component.config(name=component.name, **settings)
    encoder = component.load_factory()(config, data=data, context=BuildContext(cache_dir=tmp_path))
    batch = encoder_batch(data, history_items=encoder.history_items)
    encoder.fit_direct(data, iter([batch]))
    return encoder.eval(), batch


def one_class(data):
    return replace(data, train=replace(data.train, label=np.ones_like(data.train.label)))


def test_rates_are_smoothed_towards_the_base_rate() -> None:
    data = encoder_data()
    tables = CountTables(data.n_users, data.n_items)
    tables.count(data.train)
    base = (data.train.label > 0).mean()
    of_user = data.train.user == 2
    features = tables.features(torch.tensor([2, 0]), torch.tensor([3, 0]), user_prior=4, item_prior=2)
    liked = data.train.label[of_user].sum()
    assert features[0, 0].item() == pytest.approx((liked + 4 * base) / (of_user.sum() + 4))
    assert features[0, 1].item() == of_user.sum()
    assert features[1].tolist() == pytest.approx([base, 0, base, 0])


def test_a_training_rows_own_label_does_not_enter_its_features() -> None:
    data = encoder_data()
    turned = data.train.label.copy()
    turned[5] = 1 - turned[5]
    other = replace(data, train=replace(data.train, label=turned))
    settings: ClassVar = {"user_prior": 1e-9, "item_prior": 1e-9, "n_folds": 4, "seed": 0}
    before, after = out_of_fold_features(data, **settings), out_of_fold_features(other, **settings)
    assert torch.allclose(before[5], after[5], atol=1e-6)
    assert not torch.allclose(before, after, atol=1e-3)


def test_walked_trees_equal_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(600, 4))
    label = (inputs[:, 0] * inputs[:, 1] + generator.normal(size=600) > 0).astype(int)
    model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=9, min_samples_leaf=5, early_stopping=False)
    trees = TreeArrays(40, 9)
    trees.copy_from(model.fit(inputs, label))
    fresh = np.concatenate([generator.normal(size=(500, 4)) * 2, inputs])
    assert np.allclose(trees(torch.from_numpy(fresh)).numpy(), model.decision_function(fresh), atol=1e-10)
    assert trees(torch.zeros(0, 4, dtype=torch.float64)).shape == (0,)


def test_gbdt_scores_equal_scikit_learn_on_the_same_features(tmp_path) -> None:
    encoder, batch = fitted(GBDT, encoder_data(), tmp_path, **SMALL_TREES)
    expected = encoder._model.decision_function(encoder.features(batch).numpy())
    assert np.allclose(encoder.score(batch).numpy(), expected, atol=1e-5)


def test_logistic_scores_equal_a_pipeline_of_scikit_learn(tmp_path) -> None:
    data = encoder_data()
    encoder, batch = fitted(LOGISTIC, data, tmp_path)
    settings: ClassVar = {"user_prior": 3.0, "item_prior": 5.0, "n_folds": 5, "seed": encoder._fold_seed}
    length = (batch.history != 0).sum(dim=1).double()
    train = regression_inputs(out_of_fold_features(data, **settings), length).numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, data.train.label)
    expected = model.decision_function(regression_inputs(encoder.features(batch), length).numpy())
    assert np.allclose(encoder.score(batch).numpy(), expected, atol=1e-5)


def test_resemblance_is_the_sum_of_cosines_by_definition(tmp_path) -> None:
    data = encoder_data()
    encoder, batch = fitted(KNN, data, tmp_path, n_neighbours=data.n_items + 1, shrinkage=2.0, profile_items=6)
    liked = np.zeros((data.n_users + 1, data.n_items + 1))
    positive = data.train.label > 0
    liked[data.train.user[positive], data.train.item[positive]] = 1
    norm = np.linalg.norm(liked, axis=0)
    cosine = liked.T @ liked / np.maximum(norm[:, None] * norm[None, :] + 2.0, 1e-12)
    np.fill_diagonal(cosine, 0)
    expected = [
        cosine[item, history[history > 0]].sum() for item, history in zip(batch.item, batch.history, strict=True)
    ]
    assert np.allclose(encoder.resemblance(batch).numpy(), expected, atol=1e-5)


def test_fewer_neighbours_keep_the_most_similar(tmp_path) -> None:
    data = encoder_data()
    many, _ = fitted(KNN, data, tmp_path, n_neighbours=15, profile_items=6)
    few, _ = fitted(KNN, data, tmp_path, n_neighbours=3, profile_items=6)
    largest = many.similarity.sort(dim=1, descending=True).values[:, :3]
    assert torch.allclose(few.similarity.sort(dim=1, descending=True).values, largest)


@pytest.mark.parametrize("component", [KNN, GBDT, LOGISTIC])
def test_rows_of_one_class_are_refused(component, tmp_path) -> None:
    with pytest.raises(DataError, match="of both classes"):
        fitted(component, one_class(encoder_data()), tmp_path)


@pytest.mark.parametrize("component", [KNN, LOGISTIC])
def test_a_batch_without_history_is_refused(component, tmp_path) -> None:
    encoder, _ = fitted(component, encoder_data(), tmp_path)
    with pytest.raises(DataError, match="carries no history"):
        encoder.score(EncoderBatch(user=torch.tensor([1]), item=torch.tensor([1])))
