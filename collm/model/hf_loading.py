"""How the weights of a model folder are held: in 4 bits, over several devices, with activations computed again."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BitsAndBytesConfig

from collm.contracts.backbone import DeviceMap
from collm.errors import DataError

logger = logging.getLogger(__name__)
RECOMPILE_LIMIT = 64
FOUR_BIT = "4-bit NF4 (bitsandbytes), quantised when loaded"


@dataclass(frozen=True)
class Loading:
    """How weights are held.

    Attributes:
        four_bit: Frozen decoder weights in 4 bits.
        device_map: How layers are spread over the CUDA devices; None = all on one device.
        gradient_checkpointing: Whether layers keep their inputs alone in training.
    """

    four_bit: bool = False
    device_map: DeviceMap | None = None
    gradient_checkpointing: bool = False

    @property
    def quantisation(self) -> str | None:
        """What results say of the weights; None where loading leaves them as they are."""
        return FOUR_BIT if self.four_bit else None


def placement(loading: Loading, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Returns the loader's arguments beyond the number format; nothing where all goes to one device as it is.

    Args:
        loading: How weights are to be held.
        dtype: Number format of computation.
        device: The process's own device.

    Raises:
        DataError: If the machine lacks what it takes.
    """
    options: dict[str, Any] = {}
    if loading.device_map is not None:
        if device.type != "cuda":
            raise DataError(
                f"backbone.device_map: '{loading.device_map}' spreads layers over CUDA devices, but this runs on "
                f"'{device}'; set backbone.device_map to null"
            )
        options["device_map"] = loading.device_map
    if loading.four_bit:
        options |= {"quantization_config": _four_bit(dtype, device)}
        options.setdefault("device_map", {"": device})
    return options


def check_placement(lm: nn.Module, *, label: str) -> None:
    """Refuses weights that were left outside of the devices for want of room; says what several devices cost.

    Args:
        lm: A model loaded with `placement`.
        label: What messages call it.

    Raises:
        DataError: If a part lies in main memory or on disk, where it cannot train.
    """
    outside = [part for part, place in device_map(lm).items() if str(place) in ("cpu", "disk")]
    if outside:
        raise DataError(
            f"{label}: {len(outside)} parts (first: {outside[0]}) do not fit on the CUDA devices; use more devices, "
            "backbone.four_bit, or a smaller model"
        )
    if is_spread(lm):
        logger.warning(
            "%s: its layers lie on several devices, so prompts that begin alike are computed one by one", label
        )


def device_map(lm: nn.Module) -> dict[str, Any]:
    """Returns where the loader put which part; empty where it had no arguments for it."""
    return dict(getattr(lm, "hf_device_map", None) or {})


def is_spread(lm: nn.Module) -> bool:
    """Whether the model's layers lie on several devices."""
    return len(set(map(str, device_map(lm).values()))) > 1


def is_four_bit(lm: nn.Module) -> bool:
    """Whether the model's weights are quantised by bitsandbytes, so that they cannot be moved or merged as numbers."""
    return bool(getattr(lm, "is_loaded_in_4bit", False))


def _four_bit(dtype: torch.dtype, device: torch.device) -> BitsAndBytesConfig:
    if device.type != "cuda":
        raise DataError(
            f"backbone.four_bit: needs a CUDA device, but this runs on '{device}'; set it to false, and use "
            "backbone.dtype: bfloat16 or a smaller model"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise DataError("backbone.four_bit: needs bitsandbytes: pip install 'collm[four-bit]'; or set it to false")
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


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


def compile_parts(lm: nn.Module, device: torch.device) -> int:
    """Compiles the norms and the gated feed-forward parts of all decoder layers but the last, for any number of tokens.

    The rest of a layer reads keys of other tokens, and of the last layer only some positions are computed. Feed-forward
    parts with adapters are left as they are: compiled code draws other numbers for dropout.

    Args:
        lm: Hugging Face causal language model with its adapters, changed in place: calls compile when they first come.
        device: Where it runs.

    Returns:
        How many parts are compiled.

    Raises:
        DataError: If the decoder stack does not name its layers, or a processor has no C++ compiler.
    """
    layers = getattr(getattr(lm, "base_model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise DataError(
            f"backbone.compile: {type(lm).__name__} has no list of decoder layers, so it cannot be used; set it to "
            "false"
        )
    if device.type == "cpu" and not has_compiler():
        raise DataError("backbone.compile: needs a C++ compiler, and there is none; install g++, or set it to false")
    inner = [part for layer in layers[:-1] for part in layer.modules() if _is_compiled(part)]
    for part in inner:
        part.compile(dynamic=True)
    # One piece of code for all layers: gradients on and off, number formats and adapters are versions of it.
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)
    return len(inner)


def has_compiler() -> bool:
    """Whether torch finds a C++ compiler for code that it generates."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def _is_compiled(part: nn.Module) -> bool:
    children = {name for name, child in part.named_children() if isinstance(child, nn.Linear)}
    return type(part).__name__.endswith("RMSNorm") or children == {"gate_proj", "up_proj", "down_proj"}
