"""The contract of encoders, and that the vectors are the library's."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from collm.errors import DataError
from collm.testing.encoder_suite import EncoderContract

from collm_implicit import register_encoders


class TestImplicitAls(EncoderContract):
    component = register_encoders()[0]
    settings: ClassVar = {"embedding_size": 6, "iterations": 5, "regularization": 0.1}

    def test_vectors_solve_the_users_least_squares(self) -> None:
        """After many alternations a user's vector is the minimum of the loss that the library documents."""
        data = self.make_data()
        config = self.component.config(name="implicit-als", embedding_size=3, iterations=300, regularization=0.5)
        torch.manual_seed(0)
        encoder = self.component.load_factory()(config, data=data, context=self.context())
        encoder.fit_direct(data, iter(()))
        items = encoder.items.double().numpy()
        for user in (1, 2):
            mine = data.train.user == user
            weight, wanted = np.ones(len(items)), np.zeros(len(items))
            weight[data.train.item[mine]] = config.confidence
            wanted[data.train.item[mine]] = data.train.label[mine]
            left = items.T @ (weight[:, None] * items) + config.regularization * np.eye(3)
            solved = np.linalg.solve(left, items.T @ (weight * wanted))
            assert encoder.users[user].numpy() == pytest.approx(solved, rel=0.02, abs=0.005)

    def test_positives_rank_above_negatives_in_training(self) -> None:
        encoder = self.fitted()
        batch = self.batch(encoder)
        with torch.no_grad():
            logits = encoder.score(batch)
        assert logits[batch.label == 1].mean() > logits[batch.label == 0].mean() + 0.5

    def test_unseen_ids_have_no_vector(self) -> None:
        data, encoder = self.make_data(), self.fitted()
        unseen = encoder.users[data.n_users], encoder.items[data.n_items], encoder.users[0], encoder.items[0]
        assert [bool(vector.any()) for vector in unseen] == [False] * 4

    def test_one_class_is_refused(self) -> None:
        data = self.make_data()
        ones = replace(data, train=replace(data.train, label=np.ones_like(data.train.label)))
        with pytest.raises(DataError, match="146 of 146 training rows are positive"):
            self.build().fit_direct(ones, iter(()))
