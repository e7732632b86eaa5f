"""Fitting an encoder by gradient: batches of rows, its own loss, validation AUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from collm.contracts.encoder import EncoderBatch, FitConfig
from collm.data.prepared import PreparedData, Rows
from collm.engine.seeding import derive_seed
from collm.errors import RunError
from collm.model.encoder import EncoderModule

SCORING_ROWS = 16_384


class EncoderBatcher:
    """Turns rows of the prepared data into encoder batches on a device."""

    def __init__(self, data: PreparedData, *, history_items: int, device: torch.device) -> None:
        """Takes the data, how many history items the encoder wants per row (0 = none), and the device."""
        self._data, self._history_items, self._device = data, history_items, device

    def __call__(self, rows: Rows) -> EncoderBatch:
        """Returns the batch of these rows, labels included."""
        history = None
        if self._history_items:
            history = self._tensor(self._data.history(rows, self._history_items), np.int64)
        return EncoderBatch(
            user=self._tensor(rows.user, np.int64),
            item=self._tensor(rows.item, np.int64),
            label=self._tensor(rows.label, np.float32),
            history=history,
        )

    def _tensor(self, values: np.ndarray[Any, Any], dtype: type) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=dtype)).to(self._device)


def validation_auc(label: np.ndarray[Any, Any], logit: np.ndarray[Any, Any], *, what: str) -> float:
    """Returns the AUC that selects weights (fact 34).

    Raises:
        RunError: If the rows hold one class only, or a logit is not finite.
    """
    if len(np.unique(label)) < 2:
        raise RunError(
            f"{what}: the {len(label)} validation rows hold one class only, so no AUC can select; use more rows"
        )
    if not np.isfinite(logit).all():
        raise RunError(f"{what}: {int((~np.isfinite(logit)).sum())} of {len(logit)} validation logits are not finite")
    return float(roc_auc_score(label, logit))


@torch.no_grad()
def encoder_logits(encoder: EncoderModule, batcher: EncoderBatcher, rows: Rows) -> np.ndarray[Any, Any]:
    """Scores rows.

    Args:
        encoder: Put into eval mode.
        batcher: Makes its batches.
        rows: Rows to score.

    Returns:
        float32 [n_rows] logits.
    """
    encoder.eval()
    parts = []
    for start in range(0, len(rows), SCORING_ROWS):
        chunk = rows.take(np.arange(start, min(start + SCORING_ROWS, len(rows))))
        parts.append(encoder.score(batcher(chunk)).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


class EncoderTask:
    """An encoder in the training loop."""

    def __init__(
        self,
        encoder: EncoderModule,
        fit: FitConfig,
        *,
        title: str,
        batcher: EncoderBatcher,
        train: Rows,
        valid: Rows,
        seed: int,
    ) -> None:
        """Takes the encoder, its fit settings and the rows; `seed` decides the order of batches."""
        self.title = title
        self._encoder, self._fit, self._batcher = encoder, fit, batcher
        self._train, self._valid, self._seed = train, valid, seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per pass over the training rows."""
        return -(-len(self._train) // self._fit.batch_size)

    def optimiser(self) -> torch.optim.Optimizer:
        """Returns Adam with coupled L2 (fact 47); groups may carry their own rate and decay."""
        groups = self._encoder.parameter_groups(self._fit)
        return torch.optim.Adam(groups, lr=self._fit.learning_rate, weight_decay=self._fit.weight_decay, fused=True)

    def factor(self, step: int, group: Mapping[str, Any]) -> float:  # noqa: ARG002 - the task's form
        """Returns 1: encoders train at a constant rate."""
        return 1.0

    def batches(self, epoch: int) -> Sequence[Sequence[np.ndarray[Any, Any]]]:
        """Returns a seeded permutation of the training rows, cut into batches."""
        order = np.random.default_rng(derive_seed(self._seed, "batches", epoch)).permutation(len(self._train))
        size = self._fit.batch_size
        return [[order[start : start + size]] for start in range(0, len(order), size)]

    def loss_sum(self, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        """Returns the encoder's mean loss times the number of rows."""
        self._encoder.train()
        return self._encoder.loss(self._batcher(self._train.take(rows))) * len(rows)

    def validate(self) -> float:
        """Returns the AUC on all validation rows."""
        logits = encoder_logits(self._encoder, self._batcher, self._valid)
        return validation_auc(self._valid.label, logits, what=self.title)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns parameters and buffers."""
        return dict(self._encoder.state_dict())

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Loads parameters and buffers, strictly."""
        self._encoder.load_state_dict(dict(state), strict=True)
