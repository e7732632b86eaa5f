"""Frozen weights of a language model split over the processes (FSDP), for models that one device cannot hold."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from collm.errors import RunError
from collm.model.parameters import lora_parameters
from collm.model.recommender import Recommender
from collm.process_group import ProcessGroup


def move_small_parts(recommender: Recommender, device: torch.device) -> None:
    """Moves to a device what every process keeps whole: adapters, mapping and encoder."""
    for part in (recommender.encoder, recommender.projector):
        if part is not None:
            part.to(device)
    for parameter in lora_parameters(recommender.lm).values():
        parameter.data = parameter.data.to(device)


def shard_frozen_weights(recommender: Recommender, accelerator: Accelerator, *, processes: ProcessGroup) -> Recommender:
    """Splits the frozen weights over the processes, one decoder layer at a time, where the launcher asked for it.

    Each layer is gathered when it runs and dropped after it; the recommender itself is the outermost unit, so token
    embeddings, final norm and answer rows are whole within its `forward`. What trains is left whole: it is small, its
    checkpoints stay ordinary files, and its gradients are added up as without sharding.

    Args:
        recommender: Changed in place. Its language model lies on the processor; layers move to the device one by one.
        accelerator: Device, and the launcher's FSDP settings: `reshard_after_forward` and `offload_params` are taken.
        processes: The processes; nothing is done unless it shards.

    Returns:
        The same recommender.

    Raises:
        RunError: If the language model does not say what its layers are, or the launcher asked for FSDP version 1.
    """
    if not processes.shards:
        return recommender
    names = tuple(getattr(recommender.lm, "_no_split_modules", None) or ())
    layers = [module for module in recommender.lm.modules() if type(module).__name__ in names]
    if not layers:
        raise RunError(f"FSDP: {type(recommender.lm).__name__} does not name its layers (`_no_split_modules`); use DDP")
    plugin = getattr(accelerator.state, "fsdp_plugin", None) or FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise RunError("FSDP: launched with version 1, which cannot leave adapters whole; add --fsdp_version 2")
    whole = set(lora_parameters(recommender.lm).values())
    for part in (recommender.encoder, recommender.projector):
        whole |= set() if part is None else set(part.parameters())
    settings = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "offload_policy": plugin.cpu_offload,
        "ignored_params": whole,
    }
    for layer in layers:
        fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **settings)
    fully_shard(recommender, **settings)
    return recommender
