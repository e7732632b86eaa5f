"""What the encoder contract suite does to a built encoder, and what it expects of the answer."""

from __future__ import annotations

import numpy as np
import torch

from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.model.encoder import EncoderModule
from collm.testing.expectation import expect

TOLERANCE = 1e-5


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
    """Expects finite [n_rows, d_u] and [n_rows, d_i], or [n_rows, n_tokens, hidden] for `llm-tokens`."""
    dims, tokens = (encoder.user_dim, encoder.item_dim), encoder.tokens_per_slot
    for side, vectors, dim, n_tokens in zip(("user", "item"), (pair.user, pair.item), dims, tokens, strict=True):
        shape = tuple(vectors.shape)
        expect(
            vectors.dtype.is_floating_point, f"encode returned {vectors.dtype} {side} vectors; asked is a float type"
        )
        if "vectors" in encoder.gives:
            asked = f"{n_rows} rows and {side}_dim={dim}"
            right = shape == (n_rows, dim)
        else:
            asked = f"{n_rows} rows and tokens_per_slot={tokens}"
            right = len(shape) == 3 and shape[:2] == (n_rows, n_tokens)
        expect(right, f"encode returned {side} vectors of shape {shape}; declared are {asked}")
        expect(bool(torch.isfinite(vectors).all()), f"encode returned NaN or infinite {side} vectors")


def take(batch: EncoderBatch, rows: torch.Tensor) -> EncoderBatch:
    """Returns some rows of a batch; `rows` int64 [n]."""
    return EncoderBatch(
        user=batch.user[rows],
        item=batch.item[rows],
        label=None if batch.label is None else batch.label[rows],
        history=None if batch.history is None else batch.history[rows],
        earlier=None if batch.earlier is None else batch.earlier[rows],
    )


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two tensors agree up to rounding."""
    return one.shape == two.shape and bool(np.allclose(one.numpy(), two.numpy(), rtol=TOLERANCE, atol=TOLERANCE))
