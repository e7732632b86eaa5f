"""Parameter groups of the recommender: adapters, their named states, and what the optimiser gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from collm.contracts.tuning import Group, LoraConfig
from collm.errors import RunError
from collm.model.lora import LoraLinear

if TYPE_CHECKING:
    from collm.model.recommender import Recommender

ADAPTER = "default"
LINEAR = (nn.Linear, Conv1D)
_MARK = f".{ADAPTER}.weight"


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
    targets = tuple(config.target_modules or default_targets)
    found = {name: module for name, module in lm.named_modules() if name.rpartition(".")[2] in targets}
    if not found:
        linear = sorted({name.rpartition(".")[2] for name, part in lm.named_modules() if isinstance(part, LINEAR)})
        asked = ", ".join(targets) or "(this architecture has no default: set tuning.lora.target_modules)"
        raise RunError(f"LoRA: no module is called {asked}; linear modules are {', '.join(linear)}")
    settings = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(targets),
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in found.values()),
    )
    settings._register_custom_module({nn.Linear: LoraLinear})
    inject_adapter_in_model(settings, lm, adapter_name=ADAPTER)
    for parameter in lora_parameters(lm).values():
        parameter.data = parameter.data.float()
    return tuple(found)


def lora_parameters(lm: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the adapters' parameters by state name, e.g. `model.layers.0.self_attn.q_proj.lora_A`."""
    return {
        name.removesuffix(_MARK): parameter
        for name, parameter in lm.named_parameters()
        if name.endswith(_MARK) and (".lora_A" in name or ".lora_B" in name)
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
    params = [parameter for parameter in recommender.parts()[group].values() if parameter.requires_grad]
    if not params:
        raise RunError(f"parameter group '{group}' has nothing to train; check the tuning strategy and the encoder")
    matrices = [parameter for parameter in params if parameter.ndim >= 2]
    others = [parameter for parameter in params if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [part for part in groups if part["params"]]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
