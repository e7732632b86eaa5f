"""Parameter groups of the recommender: adapters, their named states, and what the optimiser gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from peft.tuners.lora.layer import Linear as PeftLoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from collm.contracts.tuning import Group, LoraConfig
from collm.errors import RunError

if TYPE_CHECKING:
    from collm.model.recommender import Recommender

ADAPTER = "default"
LINEAR = (nn.Linear, Conv1D)
_MARK = f".{ADAPTER}.weight"
_KINDS = ("lora_A", "lora_B", "lora_magnitude_vector")
MASK_STEPS = 1 << 16


def add_lora(lm: nn.Module, config: LoraConfig, default_targets: Sequence[str]) -> tuple[str, ...]:
    """Puts low-rank adapters into the language model, in place; B starts at zero, so nothing changes yet.

    Master weights are float32 whatever the model's dtype; A is drawn from torch's global generator.

    Args:
        lm: The frozen causal language model.
        config: Rank, scale, dropout, targets.
        default_targets: Module names adapted where the config names none.

    Returns:
        Full names of the adapted modules.

    Raises:
        RunError: If adapters are there already, or no module has one of the names.
    """
    if lora_parameters(lm):
        raise RunError("LoRA: the language model has adapters already; load a fresh one")
    settings = peft_settings(lm, config, default_targets)
    settings._register_custom_module({nn.Linear: LoraLinear})
    inject_adapter_in_model(settings, lm, adapter_name=ADAPTER)
    for parameter in lora_parameters(lm).values():
        parameter.data = parameter.data.float()
    return tuple(adapted_modules(lm))


def peft_settings(lm: nn.Module, config: LoraConfig, default_targets: Sequence[str]) -> PeftLoraConfig:
    """Returns the settings of adapters as peft takes them.

    Args:
        lm: The language model that they are for.
        config: Rank, scale, dropout, targets.
        default_targets: Module names adapted where the config names none.

    Raises:
        RunError: If no linear module has one of the names.
    """
    linear = {name: part for name, part in lm.named_modules() if isinstance(part, LINEAR)}
    targets: tuple[str, ...] | str = config.target_modules or tuple(default_targets)
    names = {name.rpartition(".")[2] for name in linear}
    if not isinstance(targets, str) and (not targets or not names.issuperset(targets)):
        missing = [name for name in targets if name not in names]
        asked = ", ".join(missing) or "(this architecture has no default: set tuning.lora.target_modules)"
        raise RunError(f"LoRA: no linear module is called {asked}; linear modules are {', '.join(sorted(names))}")
    return PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
        fan_in_fan_out=any(
            isinstance(module, Conv1D)
            for name, module in linear.items()
            if isinstance(targets, str) or name.rpartition(".")[2] in targets
        ),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def adapted_modules(lm: nn.Module) -> dict[str, Any]:
    """Returns the modules that have adapters by full name, those on quantised weights included."""
    return {name: module for name, module in lm.named_modules() if isinstance(module, LoraLayer)}


def lora_parameters(lm: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the adapters' parameters by state name, e.g. `model.layers.0.self_attn.q_proj.lora_A`."""
    return {
        name.removesuffix(_MARK): parameter
        for name, parameter in lm.named_parameters()
        if name.endswith(_MARK) and any(f".{kind}." in name for kind in _KINDS)
    }


def lora_state(lm: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the adapters by name, float32, sharing memory with the model; empty where there are none."""
    return {name: parameter.detach() for name, parameter in lora_parameters(lm).items()}


def load_lora_state(lm: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Loads what `lora_state` returned.

    Raises:
        RunError: If a name is missing or unexpected, or a shape differs.
    """
    load_strictly(lora_parameters(lm), state, what="LoRA")


def load_strictly(targets: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Copies tensors into same-named targets, in place; both name sets must be equal.

    Args:
        targets: Name -> tensor written to.
        state: Name -> tensor read from.
        what: Whose weights they are, for the message.

    Raises:
        RunError: Names every missing and unexpected name (the first eight of each) or a differing shape.
    """
    missing, unexpected = sorted(set(targets) - set(state)), sorted(set(state) - set(targets))
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({_shown(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({_shown(unexpected)})")
    shapes = [name for name in targets if name in state and targets[name].shape != state[name].shape]
    if shapes:
        name = shapes[0]
        problems.append(f"'{name}' has shape {list(state[name].shape)}, the model's is {list(targets[name].shape)}")
    if problems:
        raise RunError(f"{what} weights do not fit the model: {'; '.join(problems)}. Are they of another spec?")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(state[name])


def optimiser_groups(recommender: Recommender, group: Group, *, weight_decay: float) -> list[dict[str, Any]]:
    """Returns torch optimiser groups of one parameter group's training parameters.

    Matrices decay; biases and other one-dimensional parameters do not (fact 38).

    Args:
        recommender: The model, after `set_trainable`.
        group: Which group.
        weight_decay: Decoupled weight decay of the matrices.

    Returns:
        One or two groups with `params` and `weight_decay`.

    Raises:
        RunError: If the group has no training parameter.
    """
    params = [parameter for parameter in recommender.parameter_groups()[group].values() if parameter.requires_grad]
    if not params:
        raise RunError(f"parameter group '{group}' has nothing to train; check the tuning strategy and the encoder")
    matrices = [parameter for parameter in params if parameter.ndim >= 2]
    others = [parameter for parameter in params if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [part for part in groups if part["params"]]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


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
        lm: The language model; W becomes W + (alpha / r) B A, computed in float32 and rounded once to W's dtype. DoRA
            scales each row of that to its magnitude.

    Returns:
        How many modules were merged.

    Raises:
        RunError: If the weights are quantised.
    """
    adapted = adapted_modules(lm)
    for name, module in adapted.items():
        base: nn.Linear = module.get_base_layer()
        if not base.weight.is_floating_point():
            raise RunError(
                f"{name}: 4-bit weights take no adapter; load the model with backbone.four_bit: false to merge it"
            )
        if module.lora_variant:
            _merge_variant(module)
        for adapter in () if module.lora_variant else module.active_adapters:
            update = module.lora_B[adapter].weight.float() @ module.lora_A[adapter].weight.float()
            update = update.T if module.fan_in_fan_out else update  # GPT-2's Conv1D holds [in, out]
            base.weight.copy_(base.weight.float() + module.scaling[adapter] * update)
        parent, _, child = name.rpartition(".")
        setattr(lm.get_submodule(parent), child, base)
    return len(adapted)


def _merge_variant(module: Any) -> None:
    """Has peft merge what is more than a low-rank update (DoRA), in float32."""
    weight = module.get_base_layer().weight
    dtype = weight.dtype
    weight.data = weight.data.float()
    module.merge()
    weight.data = weight.data.to(dtype)


def is_lora_dropout(name: str, module: nn.Module) -> bool:
    """Whether a named module is the dropout of an adapter."""
    return "lora_dropout" in name and isinstance(module, nn.Dropout)
