"""The suite must catch faults: each broken encoder fails the test that is about its fault, in words that name it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from collm.component import Component
from collm.contracts.encoder import EncodedPair, VectorEncoderConfig
from collm.model.encoder import EncoderModule
from collm.testing.encoder_suite import EncoderContract


class Sound(EncoderModule):
    gives = frozenset({"scores", "vectors"})

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users + 1, 4), nn.Embedding(n_items + 1, 4)
        self.user_dim = self.item_dim = 4

    def score(self, batch):
        return (self.users(batch.user) * self.items(batch.item)).sum(-1)

    def encode(self, batch):
        return EncodedPair(user=self.users(batch.user), item=self.items(batch.item))


class Float64Scores(Sound):
    def score(self, batch):
        return super().score(batch).double()


class ScoresOfOneColumn(Sound):
    def score(self, batch):
        return super().score(batch)[:, None]


class BatchStatistics(Sound):
    def score(self, batch):
        scores = super().score(batch)
        return scores - scores.mean()


class SeesLabels(Sound):
    def score(self, batch):
        return super().score(batch) + (0 if batch.label is None else batch.label)


class HiddenState(Sound):
    def __init__(self, n_users, n_items):
        super().__init__(n_users, n_items)
        self.shift = torch.randn(1)

    def score(self, batch):
        return super().score(batch) + self.shift


class Unseeded(Sound):
    def score(self, batch):
        return super().score(batch) + torch.rand(1, generator=torch.Generator().manual_seed(id(batch) % 2**31))


class NanForPadding(Sound):
    def score(self, batch):
        return super().score(batch) / (batch.user > 0)


class SqueezesOneRow(Sound):
    def score(self, batch):
        return super().score(batch).squeeze()


class TargetAware(Sound):
    def encode(self, batch):
        pair = super().encode(batch)
        return EncodedPair(user=pair.user + pair.item, item=pair.item)


class WrongDim(Sound):
    def __init__(self, n_users, n_items):
        super().__init__(n_users, n_items)
        self.user_dim = 5


class IdleParameter(Sound):
    def __init__(self, n_users, n_items):
        super().__init__(n_users, n_items)
        self.idle = nn.Parameter(torch.ones(2))


class ForgetsAGroup(Sound):
    def parameter_groups(self, fit):
        return [{"params": [self.users.weight]}]


class ReadsHistory(Sound):
    def score(self, batch):
        extra = 0 if batch.history is None else batch.history.sum(1)
        return super().score(batch) + extra


class SaysMore(Sound):
    gives = frozenset({"scores"})


ENCODERS = {
    kind.__name__: kind
    for kind in (
        Sound,
        Float64Scores,
        ScoresOfOneColumn,
        BatchStatistics,
        SeesLabels,
        HiddenState,
        Unseeded,
        NanForPadding,
        SqueezesOneRow,
        TargetAware,
        WrongDim,
        IdleParameter,
        ForgetsAGroup,
        ReadsHistory,
        SaysMore,
    )
}


def suite_of(name: str) -> EncoderContract:
    class Suite(EncoderContract):
        component = Component(
            kind="encoder",
            name="broken",
            factory="nowhere:build",
            config=VectorEncoderConfig,
            summary="An encoder of this test.",
            gives=frozenset({"scores", "vectors"}),
        )

        def build(self, seed=0):
            torch.manual_seed(seed)
            data = self.make_data()
            return ENCODERS[name](data.n_users, data.n_items)

    return Suite()


class TestSound(EncoderContract):
    component = suite_of("Sound").component

    def build(self, seed=0):
        return suite_of("Sound").build(seed)


@pytest.mark.parametrize(
    ("name", "test", "message"),
    [
        ("Float64Scores", "scores_are_float32_logits_per_row", "score returned torch.float64; asked is torch.float32"),
        ("ScoresOfOneColumn", "scores_are_float32_logits_per_row", r"score returned shape \(\d+, 1\)"),
        ("BatchStatistics", "a_row_does_not_depend_on_its_batch", "score: a row's result changes with the batch"),
        ("SeesLabels", "labels_are_not_seen", "score: changes with the label"),
        ("HiddenState", "saved_state_is_the_whole_encoder", "score: differs after save and load"),
        ("Unseeded", "same_seed_same_encoder|a_row_does_not_depend_on_its_batch", "score: "),
        ("NanForPadding", "padding_and_unseen_ids_are_finite", "score returned NaN or infinite logits"),
        ("SqueezesOneRow", "one_row_is_a_batch", r"score returned shape \(\); asked is \(1,\)"),
        ("TargetAware", "user_vector_depends_on_the_item_as_declared", "user_depends_on_item=False, but .* changes"),
        ("WrongDim", "vectors_have_the_declared_size", "user vectors of shape .* user_dim=5"),
        ("IdleParameter", "gradient_reaches_every_parameter", "no gradient reaches parameter 'idle'"),
        (
            "ForgetsAGroup",
            "parameter_groups_hold_every_parameter_once",
            "leaves out trainable parameters: items.weight",
        ),
        ("ReadsHistory", "history_is_the_only_past", "score: reads a history although"),
        ("SaysMore", "declarations_agree", r"the encoder gives \['scores'\] but its component record says"),
    ],
)
def test_broken_encoders_are_named(name, test, message):
    suite = suite_of(name)
    with pytest.raises(AssertionError, match=message):
        for part in test.split("|"):
            getattr(suite, f"test_{part}")()
