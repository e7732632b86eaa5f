"""Puts a recommender together from its parts, saves what was trained, and proves that the files give its scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from collm.contracts.backbone import Backbone, Dtype
from collm.contracts.tuning import Group, LoraConfig
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.device import DTYPES, derive_seed, seed_torch
from collm.engine.probe import OwnLogits
from collm.errors import RunError
from collm.model.adapter import begin_from
from collm.model.encoder import EncoderModule, vectors_per_slot
from collm.model.hf_loading import compile_parts, is_spread
from collm.model.mapping import Projector, embedding_rms
from collm.model.parameters import add_lora, lora_parameters
from collm.model.recommender import PromptBatch, Readout, Recommender
from collm.process_group import ProcessGroup
from collm.spec.sections import MappingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecommenderSpec:
    """What a recommender is made of.

    Attributes:
        lora: Adapter settings; None = no adapters.
        encoders: Name -> encoder with the weights it starts from; empty = text only.
        mapping: Settings of the mapping; None = it is not part of the model.
        adapter: PEFT folder that fresh adapters take their values from; None = they start at zero.
        probe: Whether the language model's logits are compared with its own forward pass (`collm.engine.probe`).
        files: Group -> file of saved weights that replace the fresh ones.
        compiles: Whether parts of the decoder are compiled (`collm.model.hf_loading.compile_parts`).
        seed: Decides fresh weights.
    """

    lora: LoraConfig | None
    mapping: MappingConfig | None
    seed: int
    encoders: Mapping[str, EncoderModule] = field(default_factory=dict)
    adapter: Path | None = None
    probe: bool = True
    files: Mapping[Group, Path] = field(default_factory=dict)
    compiles: bool = False


def assemble(
    parts: RecommenderSpec, backbone: Backbone, *, dtype: Dtype, readout: Readout, device: torch.device
) -> Recommender:
    """Loads the language model and puts the parts around it.

    Args:
        parts: What is in the model and where its values come from.
        backbone: The language model.
        dtype: Number format of the frozen weights.
        readout: How the answer is read.
        device: Where it runs.

    Returns:
        The recommender in eval mode, nothing trainable yet.

    Raises:
        RunError: If saved weights do not fit, or the scores would not be the language model's own.
    """
    lm = backbone.load(dtype=DTYPES[dtype], device=device)
    own = OwnLogits(lm, backbone.tokenizer()) if parts.probe else None
    if parts.lora is not None:
        seed_torch(derive_seed(parts.seed, "lora"))
        add_lora(lm, parts.lora, backbone.lora_targets)
    projectors = {}
    for name, encoder in parts.encoders.items():
        seed_torch(derive_seed(parts.seed, "projector", *([name] if name else [])))
        encoder.bind_backbone(backbone.hidden_size, embedding_rms(lm.get_input_embeddings()))  # type: ignore[operator]
        if parts.mapping is not None and "vectors" in encoder.gives:
            projectors[name] = _projector(encoder, backbone.hidden_size, parts.mapping)
    recommender = Recommender(
        lm, answer=backbone.tokenizer().answer, readout=readout, encoders=parts.encoders, projectors=projectors
    )
    recommender.eval()
    if own is not None:
        # Adapters start at zero, so with them the model still is what it was loaded as.
        recommender.probe = own.compare(recommender)
        if (note := recommender.probe.note()) is not None:
            logger.warning("%s: %s", type(lm).__name__, note)
    if parts.lora is not None and parts.adapter is not None:
        begin_from(lm, parts.adapter, parts.lora, base_weights=backbone.content_hash())
    for group, path in parts.files.items():
        recommender.load_group_state(group, load_tensors(path)[0])
    if parts.compiles:
        compile_parts(lm, device)
    if not is_spread(lm):
        return recommender.to(device).eval()
    for part in _small_parts(recommender):
        part.to(device)
    return recommender.eval()


def assemble_on_all(
    parts: RecommenderSpec,
    backbone: Backbone,
    *,
    dtype: Dtype,
    readout: Readout,
    device: torch.device,
    processes: ProcessGroup,
) -> Recommender:
    """Puts the recommender together in every process, first in the main one: loading may leave converted files.

    Weights that are to be split over the processes pass through the processor's memory, because no device may hold
    them all; adapters, mapping and encoder are on the device in any case.

    Args:
        parts: What is in the model and where its values come from.
        backbone: The language model.
        dtype: Number format of the frozen weights.
        readout: How the answer is read.
        device: Where it will run.
        processes: The processes.

    Returns:
        The recommender in eval mode, nothing trainable yet.

    Raises:
        RunError: If saved weights do not fit, or split weights are to be compiled.
    """
    if parts.compiles and processes.shards:
        raise RunError("backbone.compile: cannot be used where FSDP splits the weights; set it to false")
    place = torch.device("cpu") if processes.shards else device
    recommender = processes.run_main_first(
        lambda: assemble(parts, backbone, dtype=dtype, readout=readout, device=place)
    )
    if processes.shards:
        move_small_parts(recommender, device)
    return recommender


def save_groups(
    recommender: Recommender,
    folder: Path,
    groups: Sequence[Group],
    probe: PromptBatch,
    *,
    step: str,
    processes: ProcessGroup,
) -> None:
    """Saves trained groups from the main process, and proves in every process that the files give its scores.

    Replicas that had drifted apart would not pass for the saved one.

    Args:
        recommender: The trained model; put into eval mode.
        folder: Takes `<group>.safetensors`.
        groups: Groups to save.
        probe: A few encoded rows.
        step: Name of the tuning step, kept in the files.
        processes: The processes.

    Raises:
        RunError: If the disk cannot take the files, or the reloaded model's logits differ in any bit.
    """

    def save() -> None:
        for group in groups:
            facts = {"group": group, "step": step}
            save_tensors(folder / f"{group}.safetensors", recommender.group_state(group), facts)

    processes.run_on_main(save)
    _verify(recommender, folder, groups, probe)


def _verify(recommender: Recommender, folder: Path, groups: Sequence[Group], probe: PromptBatch) -> None:
    """Scores a probe batch, wipes the saved groups, loads them from their files and scores again."""
    recommender.eval()
    with torch.no_grad():
        before = recommender(probe)
        for group in groups:
            for tensor in recommender.group_state(group).values():
                tensor.zero_()
            recommender.load_group_state(group, load_tensors(folder / f"{group}.safetensors")[0])
        after = recommender(probe)
    if not torch.equal(before, after):
        gap = float((before - after).abs().max())
        raise RunError(
            f"{folder}: reloaded weights give other scores (largest gap {gap:.3g} on {len(probe)} probe rows)"
        )


def _projector(encoder: EncoderModule, hidden_size: int, mapping: MappingConfig) -> Projector:
    dims = {"user": encoder.user_dim, "item": encoder.item_dim, "context": encoder.context_dim}
    counts = vectors_per_slot(encoder)
    given = {side: dim for side, dim in dims.items() if dim is not None and counts[side]}
    return Projector(
        given,
        hidden_size,
        n_tokens=mapping.tokens,
        width_factor=mapping.width_factor,
        init=mapping.init,
        standardise=mapping.standardise,
        n_vectors={side: counts[side] for side in given} if mapping.vectors == "own" else {},
    )


def _small_parts(recommender: Recommender) -> list[nn.Module]:
    """Returns what every process keeps whole beside adapters: encoders and mappings."""
    return [*recommender.encoders.values(), *recommender.projectors.values()]


def move_small_parts(recommender: Recommender, device: torch.device) -> None:
    """Moves to a device what every process keeps whole: adapters, mapping and encoder."""
    for part in _small_parts(recommender):
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
    for part in _small_parts(recommender):
        whole |= set(part.parameters())
    settings = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "offload_policy": plugin.cpu_offload,
        "ignored_params": whole,
    }
    for layer in layers:
        fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **settings)
    fully_shard(recommender, **settings)
    return recommender
