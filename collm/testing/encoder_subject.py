"""The encoder under test: how the contract suite builds it, fits it, and asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import torch

from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderConfig, EncoderData, FitPhase
from collm.model.encoder import EncoderModule, completed, vectors_per_slot
from collm.testing.component_suite import ComponentContract, expect
from collm.testing.fakes import encoder_batch, encoder_data

UNBOUND_HIDDEN_SIZE = 16
TOKEN_RMS = 0.02
Output = Callable[[EncoderBatch], torch.Tensor]
TOLERANCE = 1e-5


class EncoderSubject(ComponentContract):
    """Builds and fits the encoder on a tiny dataset.

    Attributes:
        component: The record under test.
        settings: Fields of its config that the tests set; defaults otherwise. Small sizes keep the tests quick.
        fit_steps: Optimiser steps that stand for one phase of a fit.
        own_data: Rows to check on; None = invented ones. The last user and the last item have no training row in it.
        unused_parameters: Names of parameters that the loss may leave alone, with a reason in the subclass.
    """

    settings: ClassVar[Mapping[str, Any]] = {}
    fit_steps: ClassVar[int] = 3
    own_data: ClassVar[EncoderData | None] = None
    unused_parameters: ClassVar[frozenset[str]] = frozenset()

    def make_config(self) -> EncoderConfig:
        """Returns the settings under test."""
        config = super().make_config()
        expect(isinstance(config, EncoderConfig), f"{type(config).__name__} must be a subclass of EncoderConfig")
        return config  # type: ignore[return-value]

    def make_data(self) -> EncoderData:
        """Returns training rows in which the last user and the last item do not appear."""
        return encoder_data() if self.own_data is None else self.own_data

    def build(self, seed: int = 0) -> EncoderModule:
        """Builds the encoder, untrained; one that gives `llm-tokens` is bound to a language model."""
        return self.build_on(self.make_data(), seed=seed)

    def build_on(self, data: EncoderData, *, seed: int = 0) -> EncoderModule:
        """Builds the encoder on given rows; the one place to override where the factory needs more."""
        torch.manual_seed(seed)
        config = self.make_config()
        built = self.component.load_factory()(config, data=data, context=self.context())
        expect(isinstance(built, torch.nn.Module), f"the factory returned {type(built).__name__}, not a torch module")
        encoder = completed(built)
        if "llm-tokens" in encoder.gives:
            encoder.bind_backbone(getattr(config, "hidden_size", None) or UNBOUND_HIDDEN_SIZE, TOKEN_RMS)
        return encoder

    def fitted(self, seed: int = 0) -> EncoderModule:
        """Builds and fits the encoder; it comes back in eval mode."""
        encoder = self.build(seed)
        batch = self.batch(encoder)
        if encoder.fit_mode == "direct":
            encoder.fit_direct(self.make_data(), iter([batch]))
        elif encoder.fit_mode == "gradient":
            for phase in encoder.fit_phases(self.make_config()):
                self._run(phase, batch)
        return encoder.eval()

    def batch(self, encoder: EncoderModule) -> EncoderBatch:
        """Returns all training rows as a batch, with history and earlier labels where the encoder wants them."""
        batch = encoder_batch(self.make_data(), history_items=encoder.history_items, half_lives=encoder.half_lives)
        if not encoder.reads_earlier_labels:
            batch = replace(batch, earlier=None)
        return batch if encoder.reads_time else replace(batch, timestamp=None)

    def outputs(self, encoder: EncoderModule) -> list[tuple[str, Output]]:
        """Returns what the component gives by name: functions from a batch to a tensor, in eval mode."""
        found: list[tuple[str, Output]] = []
        if "scores" in self.component.gives:
            found.append(("score", lambda batch: score(encoder, batch)))
        if self.gives_vectors():
            found.append(("user vector", lambda batch: encode(encoder, batch).user))
            found.append(("item vector", lambda batch: encode(encoder, batch).item))
        return found

    def gives_vectors(self) -> bool:
        """Whether `encode` must answer."""
        return bool(self.component.gives & {"vectors", "llm-tokens"})

    def check_outputs(self, encoder: EncoderModule, batch: EncoderBatch) -> None:
        """Expects scores and vectors of the promised shape, dtype and finiteness."""
        if "scores" in self.component.gives:
            check_scores(score(encoder, batch), len(batch.user))
        if self.gives_vectors():
            check_pair(encoder, encode(encoder, batch), len(batch.user))

    def _run(self, phase: FitPhase, batch: EncoderBatch) -> None:
        """Takes the phase's optimiser steps on one batch."""
        module = phase.model
        assert isinstance(module, torch.nn.Module)
        optimiser = torch.optim.Adam(module.parameter_groups(phase.fit), lr=phase.fit.learning_rate)
        module.train()
        for _ in range(self.fit_steps):
            optimiser.zero_grad()
            module.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()


@torch.no_grad()
def score(encoder: EncoderModule, batch: EncoderBatch) -> torch.Tensor:
    """Scores in eval mode: logits, [batch]."""
    return encoder.eval().score(batch)


@torch.no_grad()
def encode(encoder: EncoderModule, batch: EncoderBatch) -> EncodedPair:
    """Encodes in eval mode."""
    return encoder.eval().encode(batch)


def check_scores(logits: torch.Tensor, n_rows: int) -> None:
    """Expects finite float32 [n_rows]."""
    expect(logits.dtype == torch.float32, f"score returned {logits.dtype}; asked is torch.float32")
    expect(tuple(logits.shape) == (n_rows,), f"score returned shape {tuple(logits.shape)}; asked is ({n_rows},)")
    expect(bool(torch.isfinite(logits).all()), "score returned NaN or infinite logits")


def check_pair(encoder: EncoderModule, pair: EncodedPair, n_rows: int) -> None:
    """Expects finite vectors of the declared sizes, or [n_rows, n_tokens, hidden] for `llm-tokens`."""
    dims = (encoder.user_dim, encoder.item_dim, encoder.context_dim)
    tokens = vectors_per_slot(encoder).values()
    sides: tuple[tuple[str, torch.Tensor | None], ...] = (
        ("user", pair.user),
        ("item", pair.item),
        ("context", pair.context),
    )
    for (side, vectors), dim, n_tokens in zip(sides, dims, tokens, strict=True):
        if side == "context" and vectors is None:
            expect(dim is None, f"context_dim={dim}, but encode returned no context vectors")
            continue
        assert vectors is not None
        shape = tuple(vectors.shape)
        expect(
            vectors.dtype.is_floating_point, f"encode returned {vectors.dtype} {side} vectors; asked is a float type"
        )
        if "vectors" in encoder.gives:
            asked = f"{n_rows} rows and {side}_dim={dim}" + (f", {n_tokens} per slot" if n_tokens != 1 else "")
            right = shape == (n_rows, n_tokens, dim) or (n_tokens == 1 and shape == (n_rows, dim))
        else:
            asked = f"{n_rows} rows and tokens_per_slot={encoder.tokens_per_slot}"
            right = len(shape) == 3 and shape[:2] == (n_rows, n_tokens)
        expect(right, f"encode returned {side} vectors of shape {shape}; declared are {asked}")
        expect(bool(torch.isfinite(vectors).all()), f"encode returned NaN or infinite {side} vectors")


def take(batch: EncoderBatch, rows: torch.Tensor) -> EncoderBatch:
    """Returns some rows of a batch; `rows` int64 [n]."""
    columns = {each.name: getattr(batch, each.name) for each in fields(batch)}
    found: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
    return EncoderBatch(**found)


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two tensors agree up to rounding."""
    return one.shape == two.shape and bool(np.allclose(one.numpy(), two.numpy(), rtol=TOLERANCE, atol=TOLERANCE))
