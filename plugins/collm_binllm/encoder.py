"""Codes of users and items: the signs of a layer over another encoder's vectors, learnt straight through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderConfig, EncoderData, EncoderFacts, FitConfig, FitPhase, Side
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm_binllm.config import BITS_PER_NUMBER, BinLlmConfig

Array = np.ndarray[Any, Any]
IDS_AT_ONCE = 16_384


class BinLlm(EncoderModule):
    """Logit = s <h_u, h_i> / sqrt(bits) + b, with h = sign(tanh(W e + c)) in {-1, 1} for each side's vector e.

    The paper's logit is the inner product alone; scale and bias leave its order as it is and fit its size. Gradients go
    through the sign as if it were not there (straight-through estimator).
    """

    gives = frozenset({"scores", "words"})
    fit_mode = "gradient"

    def __init__(self, encoder: EncoderModule, *, bits: int, text: Literal["dot-decimal", "binary"]) -> None:
        """Takes the encoder whose vectors become bits.

        Args:
            encoder: Gives vectors of users and items by id alone.
            bits: Bits per code.
            text: How they are written.
        """
        super().__init__()
        assert encoder.user_dim is not None and encoder.item_dim is not None
        self.encoder = encoder
        self.bits, self.text = bits, text
        self.user_layer, self.item_layer = nn.Linear(encoder.user_dim, bits), nn.Linear(encoder.item_dim, bits)
        self.scale, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def codes(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the codes of users and items, float32 [batch, bits] of -1 and 1 each."""
        pair = self.encoder.encode(batch)
        return straight_through_sign(self.user_layer(pair.user)), straight_through_sign(self.item_layer(pair.item))

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]."""
        user, item = self.codes(batch)
        logits: torch.Tensor = self.scale * (user * item).sum(dim=-1) / self.bits**0.5 + self.bias
        return logits

    def fit_phases(self, config: EncoderConfig) -> Sequence[FitPhase]:
        """Returns the phases of the inner encoder, where it is fitted, then that of codes and encoder together.

        The inner phases select by their loss: the codes, whose AUC the others select by, do not mean anything yet.
        """
        assert isinstance(config, BinLlmConfig)
        inner: Sequence[FitPhase] = []
        if self.encoder.fit_mode == "gradient":
            inner = [replace(phase, select="loss") for phase in self.encoder.fit_phases(config.encoder)]
        return [*inner, FitPhase("binarise", self, config.fit)]

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns all trainable parameters; scale and bias do not decay."""
        free = [self.scale, self.bias]
        kept = {id(parameter) for parameter in free}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in kept]
        return [
            {"params": rest, "lr": fit.learning_rate, "weight_decay": fit.weight_decay},
            {"params": free, "lr": fit.learning_rate, "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def slot_words(self, side: Side, ids: Sequence[int]) -> Sequence[str]:
        """Returns the codes of users or items as text.

        Args:
            side: `user` or `item`.
            ids: Dense ids.
        """
        self.eval()
        device = self.scale.device
        words: list[str] = []
        for start in range(0, len(ids), IDS_AT_ONCE):
            asked = torch.tensor(ids[start : start + IDS_AT_ONCE], dtype=torch.int64, device=device)
            unknown = torch.zeros_like(asked)
            user, item = (asked, unknown) if side == "user" else (unknown, asked)
            codes = self.codes(EncoderBatch(user=user, item=item))[0 if side == "user" else 1]
            words += code_texts((codes > 0).cpu().numpy(), self.text)
        return words

    def describe(self) -> EncoderFacts:
        """Returns the form of the codes, and what the inner encoder says of itself."""
        said = self.encoder.describe()
        return replace(said, facts={**said.facts, "bits": self.bits, "text": self.text}, score_notes=())


class _Sign(torch.autograd.Function):
    """The sign, exactly -1 or 1, whose gradient is the identity's."""

    @staticmethod
    def forward(ctx: Any, soft: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's form
        return torch.where(soft < 0, -1.0, 1.0).to(soft.dtype)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's form
        return gradient[0]


def straight_through_sign(vectors: torch.Tensor) -> torch.Tensor:
    """Returns the sign of tanh(vectors) with the gradient of tanh; 0 counts as positive.

    Args:
        vectors: float of any shape.

    Returns:
        float of that shape, of -1 and 1.
    """
    signs: torch.Tensor = _Sign.apply(torch.tanh(vectors))  # type: ignore[no-untyped-call]
    return signs


def code_texts(bits: Array, text: Literal["dot-decimal", "binary"]) -> list[str]:
    """Writes codes.

    Args:
        bits: bool [n, bits]; a multiple of eight bits for `dot-decimal`.
        text: The form; the first bit is the leftmost digit, and the highest of its number.

    Returns:
        n texts.
    """
    if text == "binary":
        return ["".join("1" if bit else "0" for bit in row) for row in bits.tolist()]
    numbers = np.packbits(bits.reshape(len(bits), -1, BITS_PER_NUMBER), axis=2)[:, :, 0]
    return [".".join(str(number) for number in row) for row in numbers.tolist()]


def build(config: BinLlmConfig, *, data: EncoderData, context: BuildContext) -> BinLlm:
    """Builds the inner encoder and puts codes on it (contract: `collm.contracts.encoder.Encoder`).

    Raises:
        PluginError: If the inner encoder's vectors are not those of an id alone, or it must be fitted directly.
    """
    encoder = context.component("encoder", config.encoder.name).load_factory()(
        config.encoder, data=data, context=context
    )
    reads = {
        "histories": encoder.history_items,
        "the target item": encoder.user_depends_on_item,
        "earlier labels": encoder.reads_earlier_labels,
        "times": getattr(encoder, "reads_time", False),
    }
    if found := [what for what, value in reads.items() if value]:
        raise PluginError(
            f"{config.name}: vectors of encoder '{config.encoder.name}' depend on {' and '.join(found)}, so a user or "
            "an item has no one code; choose an encoder of ids, such as mf, mf-bias or lightgcn"
        )
    if encoder.fit_mode == "direct":
        raise PluginError(
            f"{config.name}: encoder '{config.encoder.name}' is fitted directly, and codes are learnt by gradient; "
            "choose another, for `vectors` another `score` than logistic"
        )
    return BinLlm(encoder, bits=config.bits, text=config.text)
