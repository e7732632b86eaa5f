"""LoRA layers whose master weights are float32 and whose arithmetic is that of the frozen weights.

peft's own layer casts every activation to float32 and back where the adapters are float32. Here the small matrices are
cast instead: same masters, same optimiser state, a fraction of the memory traffic (measured in docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft.tuners.lora.layer import Linear as PeftLoraLinear
from torch import nn
from torch.nn import functional

from collm.errors import RunError

MASK_STEPS = 1 << 16


class LoraLinear(PeftLoraLinear):  # type: ignore[misc]  # peft ships no types
    """peft's LoRA layer on `nn.Linear`, computing in the dtype of its input."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Returns W x + (alpha / r) B A dropout(x).

        Args:
            x: float [..., in_features].
            args: Passed to the frozen layer.
            kwargs: Passed to the frozen layer.

        Returns:
            [..., out_features], the dtype of `x`.
        """
        if self.disable_adapters or self.merged or self.lora_variant or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        name = self.active_adapters[0]
        down, up = self.lora_A[name], self.lora_B[name]
        low = functional.linear(drop(self.lora_dropout[name], x), down.weight.to(x.dtype))
        # The scale goes onto B: [out, r] numbers instead of one pass over all activations.
        update = functional.linear(low, (up.weight * self.scaling[name]).to(x.dtype))
        result: torch.Tensor = self.base_layer(x, *args, **kwargs) + update
        return result


def drop(dropout: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Applies a dropout module; on a processor with masks from numpy's SFC64, ten times as fast as torch's own draw.

    The stream is seeded by one draw from torch's global generator, so seeding and resuming torch decide it.

    Args:
        dropout: `nn.Dropout`, or what stands for none.
        x: float, any shape.

    Returns:
        x with entries set to 0 with probability p (to 1/65,536) and the others scaled by 1 / (1 - p).
    """
    if not (isinstance(dropout, nn.Dropout) and dropout.training and 0 < dropout.p < 1) or x.device.type != "cpu":
        dropped: torch.Tensor = dropout(x)
        return dropped
    generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))
    n_dropped = round(dropout.p * MASK_STEPS)
    draws = generator.integers(MASK_STEPS, size=x.numel(), dtype=np.uint16, endpoint=False)
    kept = torch.from_numpy(draws >= n_dropped).view(x.shape)
    return x * kept.to(x.dtype).mul_(MASK_STEPS / (MASK_STEPS - n_dropped))


@torch.no_grad()
def merge_lora(lm: nn.Module) -> int:
    """Adds every adapter to the weights that it sits on and takes it off, in place.

    Args:
        lm: The language model; W becomes W + (alpha / r) B A, computed in float32 and rounded once to W's dtype.

    Returns:
        How many modules were merged.

    Raises:
        RunError: If the weights are quantised.
    """
    adapted = [(name, module) for name, module in lm.named_modules() if isinstance(module, PeftLoraLinear)]
    for name, module in adapted:
        base: nn.Linear = module.get_base_layer()
        if not base.weight.is_floating_point():
            raise RunError(
                f"{name}: 4-bit weights take no adapter; load the model with backbone.four_bit: false to merge it"
            )
        for adapter in module.active_adapters:
            update = module.lora_B[adapter].weight.float() @ module.lora_A[adapter].weight.float()
            update = update.T if module.fan_in_fan_out else update  # GPT-2's Conv1D holds [in, out]
            base.weight.copy_(base.weight.float() + module.scaling[adapter] * update)
        parent, _, child = name.rpartition(".")
        setattr(lm.get_submodule(parent), child, base)
    return len(adapted)


def is_lora_dropout(name: str, module: nn.Module) -> bool:
    """Whether a named module is the dropout of an adapter."""
    return "lora_dropout" in name and isinstance(module, nn.Dropout)
