"""What a PEFT adapter folder must hold, read from its config and its weights' header alone: no torch, no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm.contracts.model_folder import HUB_ID, nearest_folder, read_json, tensor_header
from collm.errors import DataError

if TYPE_CHECKING:
    from collm.contracts.tuning import LoraConfig

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
# Digest of the base model's weights, in the header of adapters that are written here.
BASE_WEIGHTS = "base_weights"
_PREFIX = "base_model.model."
# Settings of PEFT with which an adapter is more than one low-rank update of one size per module.
_MORE = (
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
    "velora_config",
)
# Ways to begin that change the weights of the model beneath, so that the adapter is wrong on the plain model.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter as its folder describes it.

    Attributes:
        folder: The folder.
        r: Rank.
        alpha: Scaling numerator.
        use_rslora: Whether the update is scaled by alpha / sqrt(r).
        use_dora: Whether it has magnitudes.
        base_model: What its config calls the model that it was made on; empty where it says nothing.
        base_weights: Digest of that model's weights; empty where PEFT wrote the folder.
        shapes: Shape of each tensor by state name, e.g. `model.layers.0.self_attn.q_proj.lora_A`.
    """

    folder: Path
    r: int
    alpha: float
    use_rslora: bool
    use_dora: bool
    base_model: str
    base_weights: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def modules(self) -> tuple[str, ...]:
        """Full names of the adapted modules."""
        return tuple(sorted({name.rpartition(".")[0] for name in self.shapes}))

    @property
    def targets(self) -> frozenset[str]:
        """Last names of the adapted modules."""
        return frozenset(name.rpartition(".")[2] for name in self.modules)


def file_name(state_name: str) -> str:
    """Returns the name that PEFT's files give a tensor of a state, e.g. `base_model.model.q_proj.lora_A.weight`."""
    return f"{_PREFIX}{state_name}" + ("" if state_name.endswith(".lora_magnitude_vector") else ".weight")


def read_adapter(folder: Path) -> AdapterFolder:
    """Reads an adapter's settings and the names and shapes of its tensors.

    Args:
        folder: The folder.

    Raises:
        DataError: If it is missing, broken, or holds another kind of adapter than plain LoRA, DoRA or rsLoRA.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder{nearest_folder(folder)}; give a PEFT adapter's ({ADAPTER_CONFIG})")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            has = [each for each in ("adapter_model.bin", "config.json") if (folder / each).is_file()]
            hint = {
                "adapter_model.bin": "; adapter_model.bin is a pickle: load it with peft and save it again",
                "config.json": "; it is a whole model: name it in backbone.path",
            }
            raise DataError(f"{folder}: has no {name}{hint[has[0]] if has else '; save_pretrained of peft writes it'}")
    settings = read_json(folder / ADAPTER_CONFIG)
    _check_kind(folder, settings)
    metadata, shapes = tensor_header(folder / ADAPTER_WEIGHTS)
    strangers = [name for name in shapes if not name.startswith(_PREFIX) or ".lora_" not in name]
    if strangers or not shapes:
        raise DataError(
            f"{folder / ADAPTER_WEIGHTS}: holds {strangers[0] if strangers else 'nothing'}, expected names such as "
            f"{_PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight: save the adapter with peft (save_pretrained)"
        )
    try:
        return AdapterFolder(
            folder,
            r=int(settings["r"]),
            alpha=float(settings["lora_alpha"]),
            use_rslora=bool(settings.get("use_rslora")),
            use_dora=bool(settings.get("use_dora")),
            base_model=str(settings.get("base_model_name_or_path") or ""),
            base_weights=metadata.get(BASE_WEIGHTS, ""),
            shapes={name.removeprefix(_PREFIX).removesuffix(".weight"): shape for name, shape in shapes.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / ADAPTER_CONFIG}: r and lora_alpha must be numbers ({error})") from error


def _check_kind(folder: Path, settings: Mapping[str, Any]) -> None:
    kind, bias = settings.get("peft_type"), settings.get("bias", "none")
    if kind != "LORA":
        raise DataError(f"{folder / ADAPTER_CONFIG}: peft_type is {kind}; LORA alone can be begun from")
    more = [name for name in _MORE if settings.get(name)]
    if bias != "none":
        more.append(f"bias: {bias}")
    if str(begun := settings.get("init_lora_weights")).startswith(_CHANGES_BASE):
        more.append(f"init_lora_weights: {begun} (it changes the base model's weights)")
    if more:
        raise DataError(
            f"{folder / ADAPTER_CONFIG}: {', '.join(more)}: the adapter is more than one low-rank update per module, "
            "which cannot be begun from; merge it into a model folder (peft: merge_and_unload) and name that in "
            "backbone.path"
        )


def lora_faults(adapter: AdapterFolder, lora: LoraConfig) -> Iterator[tuple[str, str]]:
    """Yields (field of `tuning.lora`, sentence) for every setting that the adapter has otherwise."""
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("r", adapter.r, lora.r),
        ("alpha", adapter.alpha, lora.alpha),
        ("use_rslora", adapter.use_rslora, lora.use_rslora),
        ("use_dora", adapter.use_dora, lora.use_dora),
    )
    for name, theirs, ours in pairs:
        if theirs != ours:
            wanted = str(theirs).lower() if isinstance(theirs, bool) else f"{theirs:g}"
            yield name, f"is {_plain(ours)}, the adapter's in '{adapter.folder}' is {wanted}: set it to {wanted}"
    if isinstance(lora.target_modules, tuple) and (asked := frozenset(lora.target_modules)) != adapter.targets:
        theirs = ", ".join(sorted(adapter.targets))
        yield (
            "target_modules",
            f"names {', '.join(sorted(asked))}, the adapter in '{adapter.folder}' has {theirs}: set it to [{theirs}]",
        )


def base_fault(adapter: AdapterFolder, shapes: Mapping[str, tuple[int, ...]], checkpoint: str | None) -> str:
    """Says how an adapter belongs to another base model, empty where nothing speaks against it.

    Args:
        adapter: The adapter.
        shapes: Shapes of the base model's weights by name.
        checkpoint: What the hub calls the base model; None where that is not known.
    """
    made_on = f" (its config names '{adapter.base_model}')" if adapter.base_model else ""
    if checkpoint and HUB_ID.fullmatch(adapter.base_model) and adapter.base_model.lower() != checkpoint.lower():
        return (
            f"'{adapter.folder}' was made on {adapter.base_model}, the backbone is {checkpoint}: use that checkpoint, "
            f"or where both are the same model, correct base_model_name_or_path in {ADAPTER_CONFIG}"
        )
    for module in adapter.modules:
        base = shapes.get(f"{module}.weight")
        if base is None:
            return f"'{adapter.folder}' was made on another model{made_on}: the backbone has no module '{module}'"
        down, up = adapter.shapes.get(f"{module}.lora_A"), adapter.shapes.get(f"{module}.lora_B")
        if down and up and sorted((up[0], down[-1])) != sorted(base[-2:]):
            return (
                f"'{adapter.folder}' was made on another model{made_on}: its '{module}' takes {down[-1]} numbers to "
                f"{up[0]}, the backbone's weight has shape {list(base)}"
            )
    return ""


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
