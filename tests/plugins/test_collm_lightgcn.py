from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import TrainRows
from collm.errors import DataError
from collm.model.negatives import NegativeSampler
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_lightgcn import register_encoders
from collm_lightgcn.encoder import LightGCN, build
from collm_lightgcn.graph import Adjacency, Propagation, mean_of_layers, positive_adjacency

COMPONENT = register_encoders()[0]


class TestLightGCN(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {"embedding_size": 8}


class TestLightGCNReference(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {"embedding_size": 8, "biases": False}


class TestLightGCNPairwise(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {"embedding_size": 8, "loss": "bpr"}


def make(tmp_path, **settings) -> LightGCN:
    torch.manual_seed(0)
    config = COMPONENT.config(name="lightgcn", **settings)
    return build(config, data=encoder_data(), context=BuildContext(cache_dir=tmp_path))


def dense(adjacency: Adjacency) -> np.ndarray:
    size = adjacency.row_start.numel() - 1
    matrix = torch.sparse_csr_tensor(*vars(adjacency).values(), (size, size), check_invariants=True)
    return matrix.to_dense().numpy()


def dense_reference(data) -> np.ndarray:
    """The matrix by its definition, with a loop over the rows."""
    first_item, size = data.n_users + 1, data.n_users + data.n_items + 2
    matrix = np.zeros((size, size))
    for user, item, label in zip(data.train.user, data.train.item, data.train.label, strict=True):
        if label:
            matrix[user, first_item + item] = matrix[first_item + item, user] = 1
    degree = np.maximum(matrix.sum(axis=1), 1)
    return matrix / np.sqrt(degree[:, None] * degree[None, :])


def with_rows(data, **columns):
    return replace(data, train=replace(data.train, **columns))


def test_the_matrix_is_the_normalised_positive_graph() -> None:
    data = encoder_data()
    assert np.allclose(dense(positive_adjacency(data)), dense_reference(data), atol=1e-6)


def test_a_repeated_pair_is_one_edge() -> None:
    data = encoder_data()
    twice = {name: np.concatenate([column, column]) for name, column in vars(data.train).items()}
    repeated = replace(data, train=TrainRows(**twice))
    assert np.allclose(dense(positive_adjacency(repeated)), dense(positive_adjacency(data)))


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_layers_are_averaged_and_the_gradient_is_that_of_the_dense_product(n_layers: int) -> None:
    data = encoder_data()
    adjacency, matrix = positive_adjacency(data), torch.from_numpy(dense_reference(data)).float()
    torch.manual_seed(0)
    x = torch.randn(matrix.shape[0], 4, requires_grad=True)
    layers = [x]
    for _ in range(n_layers):
        layers.append(matrix @ layers[-1])
    expected = torch.stack(layers).mean(dim=0)
    weight = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
    result = Propagation.apply(x, adjacency, n_layers)
    (got,) = torch.autograd.grad((result * weight).sum(), x)
    assert torch.allclose(result, expected, atol=1e-6)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_a_graph_without_positive_edges_is_refused() -> None:
    data = encoder_data()
    with pytest.raises(DataError, match=r"no edge, because none of the \d+ training rows is positive"):
        positive_adjacency(with_rows(data, label=np.zeros_like(data.train.label)))


def test_evaluation_propagates_once_until_the_embeddings_change(tmp_path, monkeypatch) -> None:
    encoder = make(tmp_path, embedding_size=4).eval()
    batch = encoder_batch(encoder_data())
    calls = []
    monkeypatch.setattr("collm_lightgcn.graph.mean_of_layers", lambda *given: calls.append(1) or mean_of_layers(*given))
    with torch.no_grad():
        before = encoder.score(batch)
        encoder.encode(batch)
        assert len(calls) == 1
        encoder.embedding.mul_(2)
        after = encoder.score(batch)
        assert len(calls) == 2 and torch.allclose(after, 4 * before, atol=1e-5)
        encoder.load_state_dict(make(tmp_path, embedding_size=4).state_dict())
        assert torch.equal(encoder.score(batch), before) and len(calls) == 3
        encoder.train()
        encoder.eval().score(batch)
        assert len(calls) == 4


def test_a_training_step_propagates_once_each_way(tmp_path, monkeypatch) -> None:
    encoder = make(tmp_path, embedding_size=4).train()
    calls = []
    monkeypatch.setattr("collm_lightgcn.graph.mean_of_layers", lambda *given: calls.append(1) or mean_of_layers(*given))
    encoder.loss(encoder_batch(encoder_data())).backward()
    assert len(calls) == 2


def test_without_biases_vectors_are_embeddings_and_their_product_is_the_score(tmp_path) -> None:
    encoder = make(tmp_path, embedding_size=4, biases=False).eval()
    batch = encoder_batch(encoder_data())
    pair = encoder.encode(batch)
    assert encoder.user_dim == 4
    assert torch.allclose((pair.user * pair.item).sum(dim=1), encoder.score(batch), atol=1e-6)


def test_the_graph_is_not_part_of_the_saved_state(tmp_path) -> None:
    assert set(make(tmp_path).state_dict()) == {"embedding", "node_bias", "global_bias"}


def test_pairwise_loss_without_a_positive_row_is_zero(tmp_path) -> None:
    encoder, batch = make(tmp_path, loss="bpr"), encoder_batch(encoder_data(), rows=[0, 1])
    loss = encoder.loss(replace(batch, label=torch.zeros(2)))
    loss.backward()
    assert loss.item() == 0


def test_sampled_negatives_are_never_positives_and_cover_the_rest() -> None:
    data = encoder_data()
    torch.manual_seed(0)
    sampler = NegativeSampler(data.train, data.n_items)
    users = torch.ones(2000, dtype=torch.int64)
    liked = set(data.train.item[(data.train.user == 1) & (data.train.label == 1)].tolist())
    drawn = set(sampler.sample(users).tolist())
    assert drawn == set(range(1, data.n_items + 1)) - liked


def test_biases_have_a_step_size_and_a_decay_of_their_own(tmp_path) -> None:
    config = COMPONENT.config(name="lightgcn", bias_learning_rate=0.5, bias_weight_decay=0.25)
    encoder = build(config, data=encoder_data(), context=BuildContext(cache_dir=tmp_path))
    embeddings, biases = encoder.parameter_groups(config.fit)
    assert (embeddings["lr"], embeddings["weight_decay"]) == (config.fit.learning_rate, config.fit.weight_decay)
    assert (biases["lr"], biases["weight_decay"]) == (0.5, 0.25)
