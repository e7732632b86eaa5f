"""The encoder: two tables of given vectors, and a score of pairs. It knows ids, nothing of histories or texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, EncoderFacts
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm_vectors.config import VectorsConfig
from collm_vectors.files import VectorFile, width_fault
from collm_vectors.table import VectorTable, read_table

Array = np.ndarray[Any, Any]
_DRAW_SEED = 0
_MOST_ITERATIONS = 1000


class Vectors(EncoderModule):
    """Given vectors as parameters: frozen under `default`, trained from where they are under `t1`, `t2` and `t3`.

    The logistic head reads user vector, item vector and, where both have one width, their products number by number; it
    is a buffer, because tuning through the prompt gives it no gradient.
    """

    gives = frozenset({"scores", "vectors"})

    def __init__(self, config: VectorsConfig, users: VectorTable, items: VectorTable) -> None:
        """Takes the settings and the vectors of both sides by dense id."""
        super().__init__()
        self._config, self._users, self._items = config, users, items
        self.fit_mode = "direct" if config.score == "logistic" else "none"
        self.user_dim, self.item_dim = users.width, items.width
        self.user_vectors = nn.Parameter(torch.from_numpy(users.values))
        self.item_vectors = nn.Parameter(torch.from_numpy(items.values))
        self._fit_facts: dict[str, Any] = {}
        if config.score == "logistic":
            n_features = users.width + items.width + (users.width if users.width == items.width else 0)
            self.head_weight: torch.Tensor
            self.head_bias: torch.Tensor
            self.register_buffer("head_weight", torch.zeros(n_features, dtype=torch.float64))
            self.register_buffer("head_bias", torch.zeros((), dtype=torch.float64))

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the vectors, float32 [batch, user_dim] and [batch, item_dim]."""
        return EncodedPair(user=self.user_vectors[batch.user], item=self.item_vectors[batch.item])

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]: dot products, cosines, or log odds of the logistic head."""
        pair = self.encode(batch)
        user, item = pair.user, pair.item
        if self._config.score == "logistic":
            return (self._features(user.double(), item.double()) @ self.head_weight + self.head_bias).float()
        if self._config.score == "cosine":
            user, item = functional.normalize(user.double(), dim=-1), functional.normalize(item.double(), dim=-1)
        return (user.double() * item.double()).sum(dim=-1).float()

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns the vectors, of length 1 for cosines; None with the logistic head."""
        user = self.user_vectors[batch.user]
        if self._config.score == "logistic":
            return None
        if self._config.score == "cosine":
            return functional.normalize(user, dim=-1), functional.normalize(self.item_vectors, dim=-1)
        return user, self.item_vectors

    @torch.no_grad()
    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Fits the logistic head on the training rows.

        Raises:
            DataError: If the rows hold one class only.
        """
        del batches
        from sklearn.linear_model import LogisticRegression

        train, n_rows = data.train, len(data.train.user)
        rows = np.arange(n_rows)
        if n_rows > self._config.fit_rows:
            rows = np.sort(np.random.default_rng(_DRAW_SEED).choice(n_rows, self._config.fit_rows, replace=False))
        label = train.label[rows]
        if len(np.unique(label)) < 2:
            raise DataError(f"encoder.score: logistic: the {len(rows):,} training rows hold one class only")
        user, item = torch.from_numpy(train.user[rows]), torch.from_numpy(train.item[rows])
        pair = self.encode(EncoderBatch(user=user.to(self.user_vectors.device), item=item.to(self.user_vectors.device)))
        features = self._features(pair.user.double(), pair.item.double()).cpu().numpy()
        centre, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale == 0] = 1.0
        features -= centre
        features /= scale
        model = LogisticRegression(C=1 / self._config.l2, max_iter=_MOST_ITERATIONS).fit(features, label)
        weight = model.coef_[0] / scale
        self.head_weight.copy_(torch.from_numpy(weight))
        self.head_bias.copy_(torch.tensor(float(model.intercept_[0] - weight @ centre)))
        self._fit_facts = {
            "train_rows": len(rows),
            "iterations": int(model.n_iter_[0]),
            "converged": bool(model.n_iter_[0] < _MOST_ITERATIONS),
        }

    def describe(self) -> EncoderFacts:
        """Says which ids have no vector, and what the scores are."""
        users, items = self._users, self._items
        notes = [*_missing_note("user", users), *_missing_note("item", items)]
        return EncoderFacts(
            facts={"users": users.facts(), "items": items.facts(), "score": self._config.score, **self._fit_facts},
            notes=tuple(notes),
            score_notes=tuple(self._score_notes()),
            scratch_notes=(
                "Given vectors have no random start: the step that starts the encoder from scratch (t2) begins "
                "with the vectors of the files, as t1 does.",
            ),
        )

    def _score_notes(self) -> Iterator[str]:
        score = self._config.score
        if score != "logistic":
            said = {"dot": "dot products", "cosine": "cosines"}[score]
            yield (
                f"The encoder's logits are {said} of given vectors, not log odds: AUC, uAUC and NDCG rank by them; log "
                "loss and accuracy have no meaning here (`score: logistic` fits a head)."
            )
        n_zero = self._users.n_zero + self._items.n_zero
        if score == "cosine" and n_zero:
            yield f"{n_zero:,} users or items have the vector 0, whose cosine with every other counts as 0: they tie."
        if score == "logistic" and self.user_dim != self.item_dim:
            yield (
                f"User and item vectors differ in width ({self.user_dim} and {self.item_dim}), so the logistic head "
                "adds a term of the user and one of the item: it ranks the items alike for all users."
            )
        if self._fit_facts and not self._fit_facts["converged"]:
            yield f"The logistic head did not converge in {_MOST_ITERATIONS} iterations; a larger encoder.l2 helps."

    def _features(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Returns [batch, n_features]."""
        both = [user, item]
        return torch.cat([*both, user * item] if self.user_dim == self.item_dim else both, dim=-1)


def _missing_note(side: str, table: VectorTable) -> Iterator[str]:
    if table.n_missing:
        yield (
            f"{table.n_missing:,} of {table.n_ids:,} {side}s have no vector in the file of {side} vectors; the mean of "
            f"its {table.n_rows:,} vectors stands for each of them."
        )
    if table.n_unused:
        yield f"{table.n_unused:,} of {table.n_rows:,} ids in the file of {side} vectors are not in the data."


def build(config: VectorsConfig, *, data: EncoderData, context: BuildContext) -> Vectors:  # noqa: ARG001
    """Reads the files and builds `vectors` (contract: `collm.contracts.encoder.Encoder`).

    Raises:
        DataError: If a file cannot be used, widths do not fit the score, or dot products leave the range of float32.
    """
    if not data.user_ids or not data.item_ids:
        raise DataError("encoder 'vectors' finds vectors by raw id, and this data has no raw ids")
    users = read_table(VectorFile.of(config, "user"), data.user_ids)
    items = read_table(VectorFile.of(config, "item"), data.item_ids)
    if fault := width_fault(config, users.width, items.width):
        raise DataError(f"encoder.score: {fault}")
    if config.score == "dot" and users.longest * items.longest > float(np.finfo(np.float32).max):
        raise DataError(
            f"encoder.score: dot products may reach {users.longest * items.longest:.3g} (longest user vector times "
            "longest item vector), beyond float32; scale the vectors, or use `score: cosine`"
        )
    return Vectors(config, users, items)
