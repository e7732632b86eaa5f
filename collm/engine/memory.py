"""How much memory a step takes at most, stated before weights load, and which setting to turn where it is too much.

Counted per decoder layer and token of a Llama or Qwen2 block with trained adapters on queries and values, as autograd
keeps them (tests/engine/test_memory.py compares with what it does keep): 6 h + 3 I numbers in the model's format and
2 h in float32 (the norms), where h is the width of the model and I of its feed-forward part; on a processor also the
attention weights, one number for each head and token that is read. Attention kernels of a GPU keep none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from collm.contracts.backbone import Backbone, BackboneConfig, Dtype, ModelFolderConfig
from collm.contracts.tuning import TuningConfig

logger = logging.getLogger(__name__)
GB = 1e9
# Weight, gradient and AdamW's two averages, all float32.
_BYTES_PER_TRAINED = 16
# NF4 with doubly quantised scales.
_BYTES_FOUR_BIT = 0.52
_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
# Python, torch and its libraries, the prepared data; on a GPU the context and cuBLAS.
_PROCESS_GB = 1.0
_FEWEST_TOKENS = 64


@dataclass(frozen=True)
class Shape:
    """Decoder dimensions that determine memory use.

    Attributes:
        parameters: All of them, tied ones once.
        table_parameters: Token embeddings and output layer.
        layers: Decoder layers.
        width: h.
        inner: I.
        heads: Attention heads.
    """

    parameters: int
    table_parameters: int
    layers: int
    width: int
    inner: int
    heads: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Shape | None:
        """Returns the shape that a backbone's `describe` states; None where it does not state enough."""
        needed = ("parameters", "embedding_parameters", "layers", "hidden_size")
        if any(not isinstance(facts.get(name), int) for name in needed):
            return None
        parameters, tables, layers, width = (int(facts[name]) for name in needed)
        inner, heads = (
            int(facts.get("intermediate_size", 4 * width)),
            int(facts.get("attention_heads", width // 64 or 1)),
        )
        return cls(parameters, tables, layers, width, inner, heads)


@dataclass(frozen=True)
class Plan:
    """How a step uses the decoder.

    Attributes:
        dtype: Number format of the frozen weights.
        tokens: Tokens of a forward pass at most.
        prompt_tokens: Tokens of a prompt at most.
        trained: Parameters that train; 0 = scoring.
        four_bit: Whether weights outside the tables are held in 4 bits.
        recomputes: Whether layers keep their input alone.
        on_processor: Whether it runs on the processor.
        kept_gb: Keys and values of prompt prefixes that are kept over the epochs, 10^9 bytes at most.
    """

    dtype: Dtype
    tokens: int
    prompt_tokens: int
    trained: int
    four_bit: bool = False
    recomputes: bool = False
    on_processor: bool = True
    kept_gb: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """Memory in 10^9 bytes.

    Attributes:
        weights: Frozen weights.
        trained: Trained parameters with gradients and the optimiser's state.
        activations: What a training pass keeps; what a layer holds at once when scoring.
        kept: Keys and values kept over the epochs.
    """

    weights: float
    trained: float
    activations: float
    kept: float = 0.0

    @property
    def total(self) -> float:
        """All of it with the process itself."""
        return self.weights + self.trained + self.activations + self.kept + _PROCESS_GB


def estimate(shape: Shape, plan: Plan) -> Estimate:
    """Returns what a step takes at most."""
    size = _BYTES[plan.dtype]
    blocks = shape.parameters - shape.table_parameters
    weights = shape.table_parameters * size + blocks * (_BYTES_FOUR_BIT if plan.four_bit else size)
    layer = size * (6 * shape.width + 3 * shape.inner) + 8 * shape.width
    if plan.on_processor:
        # A token reads those before it: half of the longest prompt on average.
        layer += size * shape.heads * plan.prompt_tokens // 2
    if not plan.trained:
        kept = 2 * layer
    elif plan.recomputes:
        kept = shape.layers * shape.width * size + 2 * layer
    else:
        kept = shape.layers * layer
    return Estimate(weights / GB, plan.trained * _BYTES_PER_TRAINED / GB, plan.tokens * kept / GB, plan.kept_gb)


def free_gb(device: torch.device) -> float:
    """Returns the memory that this process may still take on the device, in 10^9 bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / GB
    return float(psutil.virtual_memory().available) / GB


def advice(shape: Shape, plan: Plan, free: float) -> list[str]:
    """Returns the settings that would make a step fit, each sufficient by itself, the cheapest first.

    Args:
        shape: The decoder.
        plan: The step.
        free: Memory in 10^9 bytes.

    Returns:
        Settings as `path: value`; empty where none of them is enough.
    """
    found = []
    fixed = estimate(shape, replace(plan, tokens=0)).total
    per_token = (estimate(shape, plan).total - fixed) / max(plan.tokens, 1)
    tokens = int((free - fixed) / per_token) if per_token else plan.tokens
    if tokens >= max(_FEWEST_TOKENS, plan.prompt_tokens):
        found.append(f"tuning.micro_batch_tokens: {tokens // 64 * 64} (same numbers, smaller passes)")
    changes: list[tuple[str, Plan]] = []
    if plan.kept_gb:
        changes.append(("tuning.prefix_cache_gb: 0", replace(plan, kept_gb=0.0)))
    if plan.trained and not plan.recomputes:
        changes.append(("backbone.gradient_checkpointing: true", replace(plan, recomputes=True)))
    if plan.dtype == "float32":
        changes.append(("backbone.dtype: bfloat16", replace(plan, dtype="bfloat16")))
    if not plan.on_processor and not plan.four_bit:
        changes.append(("backbone.four_bit: true", replace(plan, four_bit=True)))
    found += [setting for setting, changed in changes if estimate(shape, changed).total <= free]
    return found


def plan_of(
    backbone: BackboneConfig,
    tuning: TuningConfig,
    *,
    trained: int,
    device: torch.device,
    max_length: int,
    keeps_prefixes: bool = False,
) -> Plan:
    """Returns how a spec's step uses its decoder.

    Args:
        backbone: The backbone's settings.
        tuning: The tuning's settings.
        trained: Parameters that train; 0 = scoring.
        device: Where it runs.
        max_length: Longest prompt that the model takes.
        keeps_prefixes: Whether the step is one that leaves what comes before the user slot as it is.
    """
    folder = backbone if isinstance(backbone, ModelFolderConfig) else None
    return Plan(
        dtype=backbone.dtype,
        tokens=tuning.micro_batch_tokens,
        prompt_tokens=min(backbone.max_prompt_tokens, max_length),
        trained=trained,
        four_bit=folder is not None and folder.four_bit,
        recomputes=folder is not None and folder.gradient_checkpointing,
        on_processor=device.type == "cpu",
        kept_gb=tuning.prefix_cache_gb if keeps_prefixes else 0.0,
    )


def describe(title: str, shape: Shape, plan: Plan, free: float) -> tuple[bool, str]:
    """Says what a step takes.

    Args:
        title: What the step is called.
        shape: The decoder.
        plan: The step.
        free: Memory in 10^9 bytes.

    Returns:
        Whether it fits, and a sentence with the parts and, where it does not fit, what to set.
    """
    parts = estimate(shape, plan)
    kept = f"kept prefixes {parts.kept:.1f}, " if parts.kept else ""
    said = (
        f"{title}: about {parts.total:.1f} GB of memory at most (weights {parts.weights:.1f}, trained "
        f"{parts.trained:.1f}, activations of {plan.tokens:,} tokens {parts.activations:.1f}, {kept}process "
        f"{_PROCESS_GB:.1f}), {free:.1f} GB free"
    )
    if parts.total <= free:
        return True, said
    settings = advice(shape, plan, free)
    knobs = "; or ".join(settings) if settings else "a smaller backbone, or a machine with more memory"
    return False, f"{said}: it may not fit; set {knobs}" if settings else f"{said}: it may not fit; use {knobs}"


def report_memory(
    title: str,
    backbone: Backbone,
    config: BackboneConfig,
    *,
    tuning: TuningConfig,
    trains_lora: bool,
    device: torch.device,
) -> None:
    """Logs before weights load what a tuning step takes, as a warning where it may not fit.

    Adapters decide what is kept for their gradients, so whether they train is what counts; their own number is small.
    A backbone that does not describe its shape is passed over.

    Args:
        title: What the step is called.
        backbone: The model without its weights.
        config: Its settings.
        tuning: The tuning's settings.
        trains_lora: Whether the step trains the adapters.
        device: Where it runs.
    """
    shape = Shape.of(backbone.describe())
    if shape is None:
        return
    plan = plan_of(
        config,
        tuning,
        trained=4 * tuning.lora.r * shape.width * shape.layers,
        device=device,
        max_length=backbone.max_length,
        keeps_prefixes=not trains_lora,
    )
    fits, said = describe(title, shape, plan, free_gb(device))
    logger.log(logging.INFO if fits else logging.WARNING, said)
