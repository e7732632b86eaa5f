"""Earlier labels beside another encoder: what is known of user and item strictly before a row, as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from collm.component import BuildContext
from collm.contracts.encoder import (
    EncodedPair,
    EncoderBatch,
    EncoderConfig,
    EncoderData,
    EncoderFacts,
    FitConfig,
    FitMode,
    FitPhase,
    TrainRows,
)
from collm.data.slices import part_in_time
from collm.errors import DataError, PluginError
from collm.model.earlier_logits import relative_logit
from collm.model.encoder import EncoderModule, completed
from collm_online.config import OnlineConfig
from collm_online.scale import Scale

# Logarithms of counts and days lie between 0 and about 8: divided by this they have the size of log-odds.
LOG_SCALE = 4.0
OWN_LABELS = (
    "uAUC is biased down for scores that follow the user's own earlier labels: after more likes than usual fewer are "
    "left (docs/online.md)."
)
WEAK_PENALTY = 100.0  # scikit-learn's C


class Online(EncoderModule):
    """Logit = b + w z + w_u . f(user) + w_i . f(item), with the logit z of the inner encoder.

    f are numbers of one side, from labels strictly before the row: log-odds of all of them and of the recent ones for
    each half-life, relative to the share of positives in training (0 = nothing is known); log(1 + rows) / 4 and
    log(2 + days since the last label) / 4, 0 where there is none. The vector of a side is the inner encoder's, f, and
    the sum w . f, each centred and scaled to a total variance of 1 over the later training rows.
    """

    gives = frozenset({"scores", "vectors"})
    reads_earlier_labels = True
    share: torch.Tensor

    def __init__(self, encoder: EncoderModule, config: OnlineConfig, *, share: float) -> None:
        """Takes the inner encoder, built; `share` is the share of positives in training, in (0, 1)."""
        super().__init__()
        assert encoder.user_dim is not None and encoder.item_dim is not None
        self.encoder = encoder
        self.half_lives = tuple(config.half_lives)
        self.n_features = len(self.half_lives) + 3
        self.fit_mode: FitMode = "gradient" if encoder.fit_mode == "gradient" else "direct"
        self.user_depends_on_item = encoder.user_depends_on_item
        self.history_items, self.reads_time = encoder.history_items, encoder.reads_time
        self.user_dim, self.item_dim = (dim + self.n_features + 1 for dim in (encoder.user_dim, encoder.item_dim))
        self._smoothing = config.user_smoothing, config.item_smoothing
        self._recent_smoothing, self._later = config.recent_smoothing, 1 - config.later_share
        self._refit = config.refit
        self.register_buffer("share", torch.tensor(share))
        self.combined = Combined(encoder.user_dim, encoder.item_dim, self.n_features)

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]."""
        found: torch.Tensor = self.combined(self.encoder.score(batch), *self.features(batch))
        return found

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the inner encoder's vectors, the numbers and their sum, float32 [batch, inner + n_features + 1]."""
        pair = self.encoder.encode(batch)
        user, item = self.features(batch)
        return EncodedPair(self.combined.side("user", pair.user, user), self.combined.side("item", pair.item, item))

    def features(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the numbers of users and items, float32 [batch, n_features] each.

        Raises:
            DataError: If the batch lacks earlier or recent labels.
        """
        if batch.earlier is None or batch.recent is None or batch.days_since is None:
            raise DataError("online: the batch has no earlier labels (EncoderBatch.earlier, .recent, .days_since)")
        sides = []
        for side in (0, 1):
            positives, rows = batch.earlier[:, 2 * side], batch.earlier[:, 2 * side + 1]
            found = [relative_logit(positives, rows, self.share, self._smoothing[side])]
            for number in range(len(self.half_lives)):
                recent = batch.recent[:, side, number]
                found.append(relative_logit(recent[:, 0], recent[:, 1], self.share, self._recent_smoothing))
            days = batch.days_since[:, side]
            age = torch.where(days < 0, torch.zeros_like(days), torch.log(days.clamp(min=0) + 2))
            found += [torch.log1p(rows) / LOG_SCALE, age / LOG_SCALE]
            sides.append(torch.stack(found, dim=1))
        return sides[0], sides[1]

    def fit_phases(self, config: EncoderConfig) -> Sequence[FitPhase]:
        """Returns the inner phases on the earlier rows, the weights on the later ones, and the inner phases on all."""
        assert isinstance(config, OnlineConfig)
        inner = self.encoder.fit_phases(config.inner)
        early = [replace(phase, part=(0.0, self._later), continues=not config.refit) for phase in inner]
        # By its loss: an AUC is as good long before the weights are those of a logistic regression.
        select: Literal["auc", "loss"] = "loss" if config.refit else "auc"
        combine = FitPhase(
            "combine", Combining(self), config.fit, select=select, part=(self._later, 1.0), continues=False
        )
        again = [replace(phase, name=f"{phase.name}-again") for phase in inner] if config.refit else []
        return [*early, combine, *again]

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns the inner encoder's groups and the combining weights, which do not decay."""
        weights = {"params": list(self.combined.parameters()), "lr": fit.learning_rate, "weight_decay": 0.0}
        return [*self.encoder.parameter_groups(fit), weights]

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Fits the inner encoder on the earlier rows, the weights on the later ones, and (`refit`) the first on all."""
        rows = joined(list(batches))
        later = part_in_time(data.train.timestamp, (self._later, 1.0))
        for part in (~later, later):
            if len(np.unique(data.train.label[part])) < 2:
                raise DataError(
                    f"online: {int(part.sum())} training rows on one side of later_share hold one class only; use more "
                    "rows or another later_share"
                )
        self._fit_inner(replace(data, train=train_part(data.train, ~later)), batch_part(rows, ~later))
        self.combined.solve(self, batch_part(rows, later))
        if self._refit:
            self._fit_inner(data, rows)

    def describe(self) -> EncoderFacts:
        """Returns the combining weights, and what the inner encoder says of itself."""
        said = self.encoder.describe()
        weights = {name: round(value, 4) for name, value in self.combined.named_weights(self.half_lives).items()}
        return replace(said, facts={**said.facts, "weights": weights}, notes=(*said.notes, OWN_LABELS), score_notes=())

    def _fit_inner(self, data: EncoderData, rows: EncoderBatch) -> None:
        if self.encoder.fit_mode == "direct":
            self.encoder.fit_direct(data, iter([rows]))


class Combined(nn.Module):
    """The combining weights, and the scales of vectors and numbers.

    Weights start so that the score is the inner encoder's.
    """

    def __init__(self, user_dim: int, item_dim: int, n_features: int) -> None:
        super().__init__()
        self.weights = nn.Linear(1 + 2 * n_features, 1)
        with torch.no_grad():
            self.weights.weight.zero_()[0, 0] = 1.0
            self.weights.bias.zero_()
        dims = {"user": user_dim, "item": item_dim, "user-features": n_features, "item-features": n_features}
        self.scales = nn.ModuleDict({name: Scale(dim) for name, dim in dims.items()})

    def forward(self, logit: torch.Tensor, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Returns combined logits, float32 [batch]."""
        found: torch.Tensor = self.weights(torch.cat([logit[:, None], user, item], dim=1))[:, 0]
        return found

    def side(self, name: str, inner: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Returns the vectors of a side, `user` or `item`, float32 [batch, inner + n_features + 1]."""
        vectors, numbers = self.scales[name], self.scales[f"{name}-features"]
        first = 1 if name == "user" else 1 + features.shape[1]
        weights = self.weights.weight[0, first : first + features.shape[1]]
        found: torch.Tensor = torch.cat(
            [vectors(inner), numbers(features), numbers.weighted(features, weights.detach())],  # type: ignore[operator]
            dim=1,
        )
        return found

    @torch.no_grad()
    def measure(self, owner: Online, batch: EncoderBatch) -> None:
        """Adds the vectors and numbers of training rows to what the scales know."""
        pair, (user, item) = owner.encoder.encode(batch), owner.features(batch)
        for name, found in zip(self.scales, (pair.user, pair.item, user, item), strict=True):
            self.scales[name].add(found.float())  # type: ignore[operator]

    @torch.no_grad()
    def solve(self, owner: Online, batch: EncoderBatch) -> None:
        """Sets the weights to those of a logistic regression on a labelled batch."""
        owner.eval()
        assert batch.label is not None
        self.measure(owner, batch)
        inputs = torch.cat([owner.encoder.score(batch)[:, None], *owner.features(batch)], dim=1)
        model = LogisticRegression(C=WEAK_PENALTY, max_iter=1000).fit(inputs.cpu().numpy(), batch.label.cpu().numpy())
        self.weights.weight.copy_(torch.from_numpy(model.coef_))
        self.weights.bias.copy_(torch.from_numpy(model.intercept_))

    def named_weights(self, half_lives: Sequence[float]) -> dict[str, float]:
        """Returns name -> combining weight."""
        numbers = ["all", *(f"recent {each:g}" for each in half_lives), "rows", "days"]
        names = ["inner", *(f"{side} {number}" for side in ("user", "item") for number in numbers)]
        return dict(zip(names, self.weights.weight[0].tolist(), strict=True)) | {"intercept": self.weights.bias.item()}


class Combining(nn.Module):
    """What the phase `combine` trains: the weights alone, on rows that the inner encoder was not fitted on."""

    def __init__(self, owner: Online) -> None:
        super().__init__()
        self.combined = owner.combined
        self._owner = [owner]  # in a list, so that the inner encoder is not part of this module's state

    def loss(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns the mean binary cross-entropy, a scalar; the rows add to the scales of the vectors."""
        owner, label = self._owner[0], batch.label
        assert label is not None
        owner.encoder.eval()
        with torch.no_grad():
            logit, features = owner.encoder.score(batch), owner.features(batch)
        if self.training:
            self.combined.measure(owner, batch)
        return functional.binary_cross_entropy_with_logits(self.combined(logit, *features), label)

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns the weights as one group."""
        weights = list(self.combined.weights.parameters())
        return [{"params": weights, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]


def joined(batches: Sequence[EncoderBatch]) -> EncoderBatch:
    """Returns all rows of some batches as one."""
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(EncoderBatch)}
    found: dict[str, Any] = {n: None if parts[0] is None else torch.cat(parts) for n, parts in columns.items()}
    return EncoderBatch(**found)


def batch_part(batch: EncoderBatch, inside: np.ndarray[Any, Any]) -> EncoderBatch:
    """Returns the rows of a batch where bool [batch] says so."""
    rows = torch.from_numpy(np.flatnonzero(inside)).to(batch.user.device)
    columns = {field.name: getattr(batch, field.name) for field in fields(EncoderBatch)}
    found: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
    return EncoderBatch(**found)


def train_part(rows: TrainRows, inside: np.ndarray[Any, Any]) -> TrainRows:
    """Returns the training rows where bool [n_rows] says so."""
    columns = {field.name: getattr(rows, field.name) for field in fields(TrainRows)}
    found: dict[str, Any] = {name: None if column is None else column[inside] for name, column in columns.items()}
    return TrainRows(**found)


def build(config: OnlineConfig, *, data: EncoderData, context: BuildContext) -> Online:
    """Builds the inner encoder and puts earlier labels beside it (contract: `collm.contracts.encoder.Encoder`).

    Raises:
        PluginError: If the inner encoder gives several vectors per slot or a context vector, or reads recent labels.
    """
    encoder = context.component("encoder", config.inner.name).load_factory()(config.inner, data=data, context=context)
    if encoder.tokens_per_slot != (1, 1) or getattr(encoder, "context_dim", None) is not None:
        raise PluginError(
            f"{config.name}: encoder '{config.inner.name}' gives several vectors per slot, and earlier labels are put "
            "beside one for the user and one for the item; choose an encoder such as mf-bias"
        )
    if getattr(encoder, "half_lives", ()):
        raise PluginError(
            f"{config.name}: encoder '{config.inner.name}' reads recent labels itself, by half-lives of its own; "
            "choose an encoder such as mf-bias"
        )
    half_row = 0.5 / max(len(data.train.label), 1)
    positives = float(data.train.label.mean()) if len(data.train.label) else 0.5
    return Online(completed(encoder), config, share=min(max(positives, half_row), 1 - half_row))
