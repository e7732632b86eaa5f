"""Fitting an encoder by gradient: batches of rows, its own loss, validation AUC."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from collm.contracts.encoder import EncoderBatch, FitPhase
from collm.data.earlier import EarlierLabels
from collm.data.pairs import LATEST
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import derive_seed
from collm.errors import PluginError, RunError
from collm.model.encoder import EncoderModule, EncoderTraits, naming_encoder

SCORING_ROWS = 16_384


class EncoderBatcher:
    """Turns rows of the prepared data into encoder batches on a device."""

    def __init__(
        self,
        data: PreparedData,
        *,
        history_items: int,
        device: torch.device,
        earlier_labels: bool = False,
        half_lives: tuple[float, ...] = (),
        time: bool = False,
    ) -> None:
        """Takes the data, how many history items the encoder wants per row (0 = none), and the device.

        Args:
            data: Prepared data.
            history_items: History items per row; 0 = none.
            device: Where batches go.
            earlier_labels: Whether batches carry the counts of earlier labels.
            half_lives: Half-lives of the recent labels that batches carry beside them.
            time: Whether batches carry the rows' times.
        """
        self._data, self._history_items, self._device = data, history_items, device
        self._time = time
        self._after_all: int | None = None
        self._half_lives = half_lives
        self._earlier = EarlierLabels(data, half_lives=half_lives) if earlier_labels or half_lives else None

    @classmethod
    def of(cls, encoder: EncoderModule | EncoderTraits, data: PreparedData, device: torch.device) -> EncoderBatcher:
        """Returns a batcher that gives what the encoder asks for."""
        return cls(
            data,
            history_items=encoder.history_items,
            device=device,
            earlier_labels=encoder.reads_earlier_labels,
            half_lives=encoder.half_lives,
            time=encoder.reads_time,
        )

    @property
    def history_items(self) -> int:
        """History items per row at most."""
        return self._history_items

    def on(self, data: PreparedData) -> EncoderBatcher:
        """Returns the same for other rows of the same users and items."""
        view = copy.copy(self)
        view._data = data
        return view

    def __call__(self, rows: Rows) -> EncoderBatch:
        """Returns the batch of these rows, labels included."""
        history = None
        if self._history_items:
            history = self._tensor(self._data.history(rows, self._history_items), np.int64)
        earlier = recent = days_since = None
        if self._earlier is not None:
            known = self._earlier.before(rows.user, rows.item, self._times(rows))
            earlier = self._tensor(known.counts, np.float32)
            if self._half_lives:
                recent = self._tensor(known.recent, np.float32)
                days_since = self._tensor(known.days_since, np.float32)
        return EncoderBatch(
            user=self._tensor(rows.user, np.int64),
            # Items that were added for their titles alone are padding to an encoder.
            item=self._tensor(np.where(rows.item > self._data.n_items, 0, rows.item), np.int64),
            label=self._tensor(rows.label, np.float32),
            history=history,
            earlier=earlier,
            recent=recent,
            days_since=days_since,
            timestamp=self._tensor(self._times(rows), np.int64) if self._time else None,
        )

    def _times(self, rows: Rows) -> np.ndarray[Any, Any]:
        """Returns the rows' times; one second after the last interaction for pairs that are asked without a time."""
        if not (rows.timestamp == LATEST).any():
            return rows.timestamp
        if self._after_all is None:
            last = self._data.interactions()["timestamp"].max()
            assert isinstance(last, int)  # prepared data has rows
            self._after_all = last + 1
        return np.where(rows.timestamp == LATEST, self._after_all, rows.timestamp)

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
        batch = batcher(chunk)
        with naming_encoder(encoder, "score"):
            logits = encoder.score(batch)
        parts.append(logits.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


class EncoderTask:
    """One phase of an encoder's fit in the training loop."""

    def __init__(
        self,
        encoder: EncoderModule,
        phase: FitPhase,
        *,
        title: str,
        batcher: EncoderBatcher,
        train: Rows,
        valid: Rows,
        seed: int,
    ) -> None:
        """Takes the encoder, the phase and the rows; `seed` decides the order of batches.

        Raises:
            PluginError: If the phase's model is not a torch module.
        """
        if not isinstance(phase.model, torch.nn.Module):
            raise PluginError(f"{title}: the model of a fit phase is a {type(phase.model).__name__}, no torch module")
        self.title = title
        self._encoder, self._model, self._module = encoder, phase.model, phase.model
        self._fit, self._select, self._batcher = phase.fit, phase.select, batcher
        self._train, self._valid, self._seed = train, valid, seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per pass over the training rows."""
        return -(-len(self._train) // self._fit.batch_size)

    def optimiser(self) -> torch.optim.Optimizer:
        """Returns Adam with coupled L2 (fact 47); groups may carry their own rate and decay."""
        groups = self._model.parameter_groups(self._fit)
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
        """Returns the mean loss times the number of rows."""
        self._module.train()
        return self._loss(self._train.take(rows)) * len(rows)

    def validate(self) -> float:
        """Returns the AUC on all validation rows, or minus the mean loss on them where the phase selects by loss."""
        if self._select == "loss":
            return -self._validation_loss()
        logits = encoder_logits(self._encoder, self._batcher, self._valid)
        return validation_auc(self._valid.label, logits, what=self.title)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns parameters and buffers."""
        return dict(self._module.state_dict())

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Loads parameters and buffers, strictly."""
        self._module.load_state_dict(dict(state), strict=True)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean loss over the validation rows in seeded, equal batches: a loss may compare the rows of a batch."""
        self._module.eval()
        n_rows = len(self._valid)
        if not n_rows:
            raise RunError(f"{self.title}: there is no validation row, so no loss can select; use more rows")
        order = np.random.default_rng(derive_seed(self._seed, "validation")).permutation(n_rows)
        parts = np.array_split(order, -(-n_rows // self._fit.batch_size))
        return sum(float(self._loss(self._valid.take(part))) * len(part) for part in parts) / n_rows

    def _loss(self, rows: Rows) -> torch.Tensor:
        batch = self._batcher(rows)
        with naming_encoder(self._encoder, "loss"):
            return self._model.loss(batch)
