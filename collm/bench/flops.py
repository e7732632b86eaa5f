"""Floating-point operations that work needs, by a rule that no implementation can make look better.

Distinct tokens times parameters: two operations per parameter forward, two more where activations are differentiated,
and those of the adapters. Attention, padding, output head, mapping, and anything computed twice count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from collm.engine.prompt_rows import PromptRows
from collm.model.parameters import lora_parameters


@dataclass(frozen=True)
class ModelSize:
    """Parameters that every token meets.

    Attributes:
        decoder: Parameters of the language model without token embeddings, output head and adapters.
        lora: Parameters of the adapters.
    """

    decoder: int
    lora: int


@dataclass(frozen=True)
class Tokens:
    """Distinct tokens of some rows: what rows share is counted once.

    Attributes:
        forward: Tokens that are run.
        differentiated: Those of them through whose activations gradients flow.
    """

    forward: int
    differentiated: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.forward + other.forward, self.differentiated + other.differentiated)


def model_size(lm: nn.Module) -> ModelSize:
    """Counts the parameters of a Hugging Face causal language model.

    Args:
        lm: The model, adapters included where there are any.
    """
    tables = (lm.get_input_embeddings(), lm.get_output_embeddings())  # type: ignore[operator]
    outside = {id(parameter) for table in tables if table is not None for parameter in table.parameters()}
    lora = sum(parameter.numel() for parameter in lora_parameters(lm).values())
    everything = sum(parameter.numel() for parameter in lm.parameters() if id(parameter) not in outside)
    return ModelSize(decoder=everything - lora, lora=lora)


def count_tokens(prompts: PromptRows, positions: np.ndarray, *, trains: bool, lora_trains: bool) -> Tokens:
    """Counts the distinct tokens of one piece of work: one optimiser step, or one call for scores.

    Args:
        prompts: Encoded rows.
        positions: int64 [n] which of them.
        trains: Whether there is a backward pass.
        lora_trains: Whether adapters train; otherwise gradients begin at the first slot.

    Returns:
        The tokens of one prefix tree of all these rows, however the engine cuts it.
    """
    batch = prompts.batch(positions, constant_history=trains and not lora_trains)
    levels = batch.tree
    if levels is None:
        n = int(batch.lengths.sum())
        return Tokens(n, n if trains else 0)
    sizes = [level.ids.numel() for level in levels]
    has_slots = [level.has_slots for level in levels]
    first = 0 if lora_trains or True not in has_slots else has_slots.index(True)
    return Tokens(sum(sizes), sum(sizes[first:]) if trains else 0)


def needed_flops(size: ModelSize, tokens: Tokens, *, lora_trains: bool) -> float:
    """Returns the operations that some tokens need.

    Args:
        size: The model's parameters.
        tokens: Distinct tokens.
        lora_trains: Whether the adapters' own gradients are computed.
    """
    forward = 2.0 * (size.decoder + size.lora) * tokens.forward
    backward = 2.0 * (size.decoder + size.lora) * tokens.differentiated
    own = 2.0 * size.lora * tokens.differentiated if lora_trains else 0.0
    return forward + backward + own
