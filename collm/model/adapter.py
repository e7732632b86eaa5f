"""Adapters as PEFT keeps them: a folder that `peft.PeftModel.from_pretrained` loads, written and begun from."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig as PeftLoraConfig
from safetensors.torch import load_file, save
from torch import nn

from collm.contracts.adapter_folder import (
    ADAPTER_WEIGHTS,
    BASE_WEIGHTS,
    file_name,
    lora_faults,
    read_adapter,
)
from collm.contracts.tuning import LoraConfig
from collm.errors import RunError
from collm.files import write_atomically
from collm.model.parameters import ADAPTER, adapted_modules, load_lora_state, lora_parameters, lora_state


def save_adapter(lm: nn.Module, folder: Path, *, base_name: str, base_weights: str) -> None:
    """Writes the adapters of a language model as a PEFT folder.

    Args:
        lm: A language model that `add_lora` was called on.
        folder: Made if missing; gets `adapter_config.json` and `adapter_model.safetensors` (float32).
        base_name: What the config calls the model beneath: a hub name or a folder.
        base_weights: Digest of its weights, kept in the header.

    Raises:
        RunError: If the folder cannot be written.
    """
    made: PeftLoraConfig = lm.peft_config[ADAPTER]  # type: ignore[index]
    adapted = adapted_modules(lm)
    last = {name.rpartition(".")[2] for name in adapted}
    others = [name for name, _ in lm.named_modules() if name.rpartition(".")[2] in last and name not in adapted]
    settings = PeftLoraConfig(
        base_model_name_or_path=base_name,
        task_type="CAUSAL_LM",
        inference_mode=True,
        r=made.r,
        lora_alpha=made.lora_alpha,
        lora_dropout=made.lora_dropout,
        # Last names, as everybody writes them, unless a module that has no adapter is called like one that does.
        target_modules=sorted(adapted if others else last),
        bias="none",
        fan_in_fan_out=made.fan_in_fan_out,
        use_rslora=made.use_rslora,
        use_dora=made.use_dora,
    )
    tensors = {file_name(name): value.cpu().contiguous() for name, value in lora_state(lm).items()}
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(str(folder))
    write_atomically(folder / ADAPTER_WEIGHTS, save(tensors, metadata={"format": "pt", BASE_WEIGHTS: base_weights}))


def begin_from(lm: nn.Module, folder: Path, config: LoraConfig, *, base_weights: str) -> None:
    """Gives the adapters of a language model the values of a PEFT folder, in place.

    Args:
        lm: A language model that `add_lora` was called on.
        folder: The folder.
        config: The settings that the adapters were made with.
        base_weights: Digest of the language model's weights.

    Raises:
        DataError: If the folder is broken or of another kind.
        RunError: If rank, scale, modules or the model beneath are others, or a value is NaN or infinite.
    """
    adapter = read_adapter(folder)
    if faults := [f"tuning.lora.{field} {said}" for field, said in lora_faults(adapter, config)]:
        raise RunError("; ".join(faults))
    ours = {name: tuple(value.shape) for name, value in lora_parameters(lm).items()}
    if dict(adapter.shapes) != ours:
        name = min(set(adapter.shapes.items()) ^ set(ours.items()))[0]
        theirs, here = (list(shapes[name]) if name in shapes else "nothing" for shapes in (adapter.shapes, ours))
        raise RunError(
            f"{folder}: does not fit the adapters of this run: '{name}' is {theirs} there and {here} here. It was made "
            f"on '{adapter.base_model or 'a model that it does not name'}', on modules "
            f"{', '.join(sorted(adapter.targets))}: use that backbone and tuning.lora.target_modules"
        )
    if adapter.base_weights and adapter.base_weights != base_weights:
        raise RunError(
            f"{folder}: was made on other weights than the backbone's ('{adapter.base_model}', digest "
            f"{adapter.base_weights[:12]}, here {base_weights[:12]}): use that backbone. Where both are the same model "
            "in other files, load the adapter with peft and save it again, which leaves the digest out"
        )
    tensors = load_file(str(folder / ADAPTER_WEIGHTS))
    bad = [name for name, value in sorted(tensors.items()) if not _is_fractions(value)]
    if bad:
        raise RunError(
            f"{folder / ADAPTER_WEIGHTS}: '{bad[0]}' is of whole numbers, or holds NaN or infinity ({len(bad):,} of "
            f"{len(tensors):,} tensors), so nothing can begin from it: get or save the adapter again"
        )
    load_lora_state(lm, {name: tensors[file_name(name)].to(torch.float32) for name in ours})


def _is_fractions(value: torch.Tensor) -> bool:
    return value.is_floating_point() and bool(value.float().isfinite().all())
