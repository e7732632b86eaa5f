"""Gradient checkpointing of decoder layers: activations inside a layer are computed again in the backward pass.

Hugging Face's own switch fires in training mode only, and the frozen language model stays in evaluation mode. It would
also reach the last layer, whose hooks (`last_tokens`) are gone by the time of the backward pass. Prompt trees go
through unchanged: a pass over a tree is a function of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from collm.errors import DataError


def recompute_layers(lm: nn.Module) -> int:
    """Makes every decoder layer but the last keep its input alone, wherever gradients are on.

    Gradients are bit by bit those without it; the draws of dropout are repeated.

    Args:
        lm: Hugging Face causal language model, changed in place.

    Returns:
        How many layers compute again.

    Raises:
        DataError: If the decoder stack does not name its layers.
    """
    layers = getattr(getattr(lm, "base_model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise DataError(
            f"backbone.gradient_checkpointing: {type(lm).__name__} has no list of decoder layers, so it cannot "
            "be used; set it to false and lower tuning.micro_batch_tokens"
        )
    for layer in layers[:-1]:
        # A partial around the bound method, not a closure: copying the model copies which layer it belongs to.
        layer.forward = partial(_forward, layer.forward)
    return len(layers) - 1


def _forward(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
