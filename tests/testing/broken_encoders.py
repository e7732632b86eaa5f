"""A zoo of encoders, each broken in one way that strangers' code is, and one that is sound."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional

from collm.component import Component
from collm.contracts.encoder import EncodedPair, EncoderConfig, FitConfig, FitPhase, VectorEncoderConfig
from collm.model.encoder import EncoderModule

DIM = 4
BOTH = frozenset({"scores", "vectors"})
HISTORY = frozenset({"history"})


class Sound(EncoderModule):
    gives = BOTH

    def __init__(self, data) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(data.n_users + 1, DIM), nn.Embedding(data.n_items + 1, DIM)
        self.user_dim = self.item_dim = DIM

    def score(self, batch):
        return (self.users(batch.user) * self.items(batch.item)).sum(-1)

    def encode(self, batch):
        return EncodedPair(user=self.users(batch.user), item=self.items(batch.item))


class SoundWithHistory(EncoderModule):
    """Scores by the mean of the history's item vectors; padding counts for nothing."""

    gives = BOTH

    def __init__(self, data) -> None:
        super().__init__()
        self.items = nn.Embedding(data.n_items + 1, DIM, padding_idx=0)
        self.user_dim = self.item_dim = DIM
        self.history_items = 5

    def pooled(self, history):
        n_items = (history > 0).sum(1, keepdim=True).clamp(min=1)
        return self.items(history).sum(1) / n_items

    def score(self, batch):
        return (self.pooled(batch.history) * self.items(batch.item)).sum(-1)

    def encode(self, batch):
        return EncodedPair(user=self.pooled(batch.history), item=self.items(batch.item))


# -- shapes, dtypes, finiteness ------------------------------------------------------------------------------------


class Float64Scores(Sound):
    def score(self, batch):
        return super().score(batch).double()


class ScoresOfOneColumn(Sound):
    def score(self, batch):
        return super().score(batch)[:, None]


class SqueezesOneRow(Sound):
    def score(self, batch):
        return super().score(batch).squeeze()


class WrongDim(Sound):
    def __init__(self, data):
        super().__init__(data)
        self.user_dim = DIM + 1


class NanForPadding(Sound):
    def score(self, batch):
        return super().score(batch) / (batch.user > 0)


class NoRowForTheLastId(Sound):
    def __init__(self, data):
        super().__init__(data)
        self.users = nn.Embedding(data.n_users, DIM)


class NanForUnseenItems(Sound):
    """A mean over no rows."""

    def __init__(self, data):
        super().__init__(data)
        item = torch.from_numpy(data.train.item)
        label = torch.from_numpy(data.train.label).float()
        self.register_buffer("liked", torch.bincount(item, weights=label, minlength=data.n_items + 1).float())
        self.register_buffer("rows", torch.bincount(item, minlength=data.n_items + 1).float())

    def score(self, batch):
        mean = torch.where(batch.item > 0, self.liked[batch.item] / self.rows[batch.item], 0.0)
        return super().score(batch) + mean


# -- declarations --------------------------------------------------------------------------------------------------


class SaysLess(Sound):
    gives = frozenset({"scores"})


class TargetAware(Sound):
    def encode(self, batch):
        pair = super().encode(batch)
        return EncodedPair(user=pair.user + pair.item, item=pair.item)


class NotTargetAware(Sound):
    user_depends_on_item = True


class IgnoresItsHistory(Sound):
    history_items = 5


class ReadsHistory(Sound):
    def score(self, batch):
        extra = 0 if batch.history is None else batch.history.sum(1)
        return super().score(batch) + extra


class ReadsEarlierLabels(Sound):
    def score(self, batch):
        return super().score(batch) + (0 if batch.earlier is None else batch.earlier[:, 0])


# -- leaks ---------------------------------------------------------------------------------------------------------


class SeesLabels(Sound):
    def score(self, batch):
        return super().score(batch) + (0 if batch.label is None else batch.label)


class LooksAhead(SoundWithHistory):
    """Adds the mean of everything the user ever did in training, later rows included."""

    def __init__(self, data):
        super().__init__(data)
        ever = torch.zeros(data.n_users + 1, data.n_items + 1)
        ever[torch.from_numpy(data.train.user), torch.from_numpy(data.train.item)] = 1
        self.ever = ever / ever.sum(1, keepdim=True).clamp(min=1)

    def score(self, batch):
        return super().score(batch) + ((self.ever[batch.user] @ self.items.weight) * self.items(batch.item)).sum(-1)


class CountsPadding(SoundWithHistory):
    def pooled(self, history):
        return self.items(history).sum(1) / max(1, history.shape[1])


class BatchStatistics(Sound):
    def score(self, batch):
        scores = super().score(batch)
        return scores - scores.mean()


class ChangesTheBatch(Sound):
    def score(self, batch):
        return super().score(replace(batch, item=batch.item.sub_(1).clamp_(min=0)))


# -- training ------------------------------------------------------------------------------------------------------


class IdleParameter(Sound):
    def __init__(self, data):
        super().__init__(data)
        self.idle = nn.Parameter(torch.ones(2))


class ForgetsAGroup(Sound):
    def parameter_groups(self, fit):
        return [{"params": [self.users.weight]}]


class LossPerRow(Sound):
    def loss(self, batch):
        return functional.binary_cross_entropy_with_logits(self.score(batch), batch.label, reduction="none")


class DetachedVectors(Sound):
    def encode(self, batch):
        pair = super().encode(batch)
        return EncodedPair(user=pair.user.detach(), item=pair.item)


class NormalisesOneRow(Sound):
    """BatchNorm refuses a batch of one row while it trains."""

    def __init__(self, data):
        super().__init__(data)
        self.norm = nn.BatchNorm1d(DIM)

    def score(self, batch):
        return (self.norm(self.users(batch.user)) * self.items(batch.item)).sum(-1)


class SelectsByLoss(Sound):
    def fit_phases(self, config):
        return [FitPhase("only", self, config.fit, select="loss")]


# -- determinism and state -----------------------------------------------------------------------------------------


class DropoutInScores(Sound):
    def score(self, batch):
        return functional.dropout(super().score(batch), 0.5, training=True)


class Unseeded(Sound):
    numbers = itertools.count()

    def __init__(self, data):
        super().__init__(data)
        generator = torch.Generator().manual_seed(next(self.numbers))
        nn.init.normal_(self.users.weight, generator=generator)


class HiddenState(Sound):
    def __init__(self, data):
        super().__init__(data)
        self.shift = torch.randn(1)

    def score(self, batch):
        return super().score(batch) + self.shift


class LearnsWhileScoring(Sound):
    def __init__(self, data):
        super().__init__(data)
        self.register_buffer("seen", torch.zeros(()))

    def score(self, batch):
        self.seen += len(batch.user)
        return super().score(batch) + 0 * self.seen


# -- settings ------------------------------------------------------------------------------------------------------


class BareConfig(VectorEncoderConfig):
    depth: int = 3


class LossyNestedConfig(VectorEncoderConfig):
    fit: FitConfig = Field(default=FitConfig(learning_rate=0.05, epochs=7), description="Training settings.")


class GrowingConfig(VectorEncoderConfig):
    init_std: float = Field(default=0.1, description="Scale.")

    @field_validator("init_std")
    @classmethod
    def _double(cls, value: float) -> float:
        return 2 * value


class FitlessConfig(EncoderConfig):
    pass


class WrongProfile(VectorEncoderConfig):
    embedding_size: int = Field(default=8, ge=1, description="Numbers per vector.")


CONFIGS: dict[str, type[EncoderConfig]] = {
    "BareConfig": BareConfig,
    "LossyNestedConfig": LossyNestedConfig,
    "GrowingConfig": GrowingConfig,
    "FitlessConfig": FitlessConfig,
    "WrongProfile": WrongProfile,
}
DECLARED: dict[str, dict[str, Any]] = {
    "IgnoresItsHistory": {"needs": HISTORY},
    "SoundWithHistory": {"needs": HISTORY},
    "LooksAhead": {"needs": HISTORY},
    "CountsPadding": {"needs": HISTORY},
    "WrongProfile": {"profiles": MappingProxyType({"paper": {"embedding_size": 0}})},
}


def component(name: str) -> Component:
    """The record of one of the zoo: a class above, or the sound encoder with one of the configs."""
    return Component(
        kind="encoder",
        name="broken",
        factory=f"{__name__}:build_{name}",
        config=CONFIGS.get(name, VectorEncoderConfig),
        summary="An encoder of the zoo.",
        gives=BOTH,
        **DECLARED.get(name, {}),
    )


def _builder(kind: type[EncoderModule]) -> Any:
    return lambda config, *, data, context: kind(data)


for _name, _kind in list(globals().items()):
    if isinstance(_kind, type) and issubclass(_kind, EncoderModule) and _kind is not EncoderModule:
        globals()[f"build_{_name}"] = _builder(_kind)
for _name in CONFIGS:
    globals()[f"build_{_name}"] = _builder(Sound)
