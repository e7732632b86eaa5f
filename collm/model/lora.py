"""LoRA layers whose master weights are float32 and whose arithmetic is that of the frozen weights.

peft's own layer casts every activation to float32 and back where the adapters are float32. Here the small matrices are
cast instead: same masters, same optimiser state, a fraction of the memory traffic (measured in docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLoraLinear
from torch import nn
from torch.nn import functional


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
        low = functional.linear(self.lora_dropout[name](x), down.weight.to(x.dtype))
        # The scale goes onto B: [out, r] numbers instead of one pass over all activations.
        update = functional.linear(low, (up.weight * self.scaling[name]).to(x.dtype))
        result: torch.Tensor = self.base_layer(x, *args, **kwargs) + update
        return result


def is_lora_dropout(name: str, module: nn.Module) -> bool:
    """Whether a named module is the dropout of an adapter."""
    return "lora_dropout" in name and isinstance(module, nn.Dropout)
