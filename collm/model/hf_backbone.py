"""A backbone from a local Hugging Face folder: any causal language model that takes input embeddings.

Code inside such a folder is never run, the network is never asked, and pickled weights are read as plain tensors only.
"""

from __future__ import annotations

import copy
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from collm.component import BuildContext
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import check_model_folder, safetensors_files
from collm.errors import DataError
from collm.model.hf_loading import Loading, check_placement, placement, recompute_layers
from collm.model.hf_tokenizer import HfTokenizer
from collm.model.parameters import LINEAR
from collm.model.weight_files import converted_bins, folder_hash

LORA_TARGETS = ("q_proj", "v_proj")
# Where queries, keys and values are one layer and peft knows no default (Phi 3 and 4).
FUSED_TARGETS = ("qkv_proj",)
logger = logging.getLogger(__name__)
_UNUSED = (
    "%s: %d tensors of its weight files have no place in %s and are not used (%s ...): if config.json is of another "
    "model, so are the scores"
)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class HfBackbone:
    """A `collm.contracts.backbone.Backbone` over a model folder; weights load in `load` only.

    Attributes:
        hidden_size: Width of the token embeddings.
        max_length: Longest sequence, in tokens.
        lora_targets: The paper's attention projections (section 5.1.3) where the architecture has them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cache_dir: Path,
        answer_space: bool | None = None,
        quantisation: str | None = None,
        loading: Loading = Loading(),  # noqa: B008 - frozen
    ) -> None:
        """Reads the config.

        Args:
            folder: Model folder.
            cache_dir: Where pickled weights are converted to.
            answer_space: See `HfTokenizer`.
            quantisation: What the weights went through, for results; None = what the config says of them.
            loading: How the weights are held.

        Raises:
            DataError: If the folder lacks a part or needs code of its own.
        """
        check_model_folder(folder)
        self._folder, self._cache_dir = folder, cache_dir
        self._answer_space, self._quantisation = answer_space, quantisation
        self._loading = loading
        self._config = _read_config(folder)
        text_config = self._config.get_text_config()
        self.hidden_size = int(text_config.hidden_size)
        self.max_length = int(getattr(text_config, "max_position_embeddings", None) or 1 << 20)

    @cached_property
    def lora_targets(self) -> tuple[str, ...]:
        """Names of the modules that LoRA adapts by default: the paper's, else what peft takes for the architecture."""
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = AutoModelForCausalLM.from_config(self._config)
        names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, LINEAR)}
        if set(LORA_TARGETS) <= names:
            return LORA_TARGETS
        known = PEFT_TARGETS.get(self._config.model_type) or FUSED_TARGETS
        return tuple(name for name in known if name in names)

    def content_hash(self) -> str:
        """Returns a hex digest of weights and tokenizer files; never of paths."""
        return self._hash

    def describe(self) -> dict[str, Any]:
        """Returns architecture, parameter counts and how the weights were made."""
        return describe_model(self._config, tokenizer=self._tokenizer) | {
            "quantisation": self._loading.quantisation or self._quantisation or _quantisation(self._config),
        }

    def tokenizer(self) -> HfTokenizer:
        """Returns the tokenizer."""
        return self._tokenizer

    def in_chat(self, sample: str) -> HfBackbone:
        """Returns the same backbone whose prompts are turns of the model's own chat template.

        Args:
            sample: A prompt, which the template must leave as it is.

        Raises:
            DataError: If there is no template, or it changes the prompt.
        """
        made = copy.copy(self)
        made.__dict__["_tokenizer"] = self._tokenizer.in_chat(sample)
        return made

    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        """Returns the frozen model in eval mode.

        Args:
            dtype: Number format of the weights.
            device: Where they go.

        Raises:
            DataError: If the weight files lack a parameter of the architecture, or hold one of another shape; if the
                machine cannot hold the weights in the way asked for.
        """
        placed = placement(self._loading, dtype=dtype, device=device)
        folder = self._folder
        if not safetensors_files(folder):
            folder = converted_bins(folder, self._cache_dir / "converted" / self._hash[:16])
        # The loader's own bar knows nothing of ours on the same terminal.
        transformers_logging.disable_progress_bar()
        options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **placed, **_LOCAL}
        try:
            model, report = _load(folder, self._config, options)
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise DataError(f"{self._folder}: the weights cannot be loaded: {error}") from error
        faults = {kind: report.get(kind) for kind in ("missing_keys", "mismatched_keys", "error_msgs")}
        if any(faults.values()):
            found = "; ".join(f"{kind}: {sorted(map(str, keys))[:3]}" for kind, keys in faults.items() if keys)
            raise DataError(f"{self._folder}: weights and {type(model).__name__} do not fit together ({found})")
        if unused := sorted(map(str, report.get("unexpected_keys") or ())):
            logger.warning(_UNUSED, self._folder, len(unused), type(model).__name__, ", ".join(unused[:3]))
        _check_ids(self._tokenizer, model, self._folder)
        frozen: torch.nn.Module = model.requires_grad_(False).eval()
        if self._loading.gradient_checkpointing:
            recompute_layers(frozen)
        if placed:
            check_placement(frozen, label=str(self._folder))
            return frozen
        return frozen.to(device)

    @cached_property
    def _hash(self) -> str:
        return folder_hash(self._folder)

    @cached_property
    def _tokenizer(self) -> HfTokenizer:
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder, **_LOCAL)
        except ImportError as error:
            raise DataError(
                f"{self._folder}: its tokenizer needs a library that is not installed: pip install 'collm[vicuna]' "
                f"({error})"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self._folder}: the tokenizer cannot be loaded: {error}") from error
        return HfTokenizer(tokenizer, answer_space=self._answer_space, label=f"{self._folder}: tokenizer")


def _load(folder: Path, config: Any, options: dict[str, Any]) -> Any:
    """Loads with PyTorch's fused attention, or the model's own where it has no other or caps its attention logits."""
    fused, own = "sdpa", "eager"
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=own, **options)
    try:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=fused, **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=own, **options)


def open_folder(folder: Path, config: ModelFolderConfig, *, context: BuildContext) -> HfBackbone:
    """Opens a model folder as a backbone's settings say; weights load later.

    Args:
        folder: Model folder.
        config: The backbone's settings.
        context: Where the cache is.

    Raises:
        DataError: If the folder lacks a part or needs code of its own.
    """
    return HfBackbone(
        folder,
        cache_dir=context.cache_dir,
        answer_space=config.answer_space,
        loading=Loading(
            four_bit=config.four_bit,
            device_map=config.device_map,
            gradient_checkpointing=config.gradient_checkpointing,
        ),
    )


def describe_model(config: Any, *, tokenizer: HfTokenizer) -> dict[str, Any]:
    """Returns what results say of a causal language model, counted on shapes alone.

    Args:
        config: Hugging Face model config.
        tokenizer: Its tokenizer.

    Returns:
        Architecture, numbers of parameters (tied ones once), layers, widths, heads, answer words and leading ids.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    tables = {id(weight): weight.numel() for weight in _table_weights(model)}
    text_config = config.get_text_config()
    answer = tokenizer.answer
    return {
        "architecture": type(model).__name__,
        "parameters": n_parameters,
        "embedding_parameters": sum(tables.values()),
        "non_embedding_parameters": n_parameters - sum(tables.values()),
        "layers": int(text_config.num_hidden_layers),
        "hidden_size": int(text_config.hidden_size),
        # None where the config says so (GPT-Neo); models without attention (Mamba) have no heads.
        "intermediate_size": int(getattr(text_config, "intermediate_size", None) or 4 * text_config.hidden_size),
        "attention_heads": int(getattr(text_config, "num_attention_heads", None) or 0),
        "answer_words": {answer.positive_word: answer.positive, answer.negative_word: answer.negative},
        "bos_ids": list(tokenizer.bos_ids),
    }


def _table_weights(model: Any) -> list[torch.Tensor]:
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return [table.weight for table in tables if table is not None]


def _read_config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise DataError(
            f"{folder}: config.json is broken, or of no model type that the installed transformers knows; code that "
            f"a folder brings along is never run ({error})"
        ) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise DataError(f"{folder}: a {config.model_type} model is not a causal language model")
    width = getattr(config.get_text_config(), "hidden_size", None)
    # transformers before 5.8 does not check the types of values.
    if not isinstance(width, int):
        raise DataError(f"{folder}: config.json is broken: hidden_size is {width!r}, expected an integer")
    return config


def _quantisation(config: Any) -> str | None:
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    plain = settings if isinstance(settings, dict) else settings.to_dict()
    return str(plain.get("quant_method", "unknown"))


def _check_ids(tokenizer: HfTokenizer, model: Any, folder: Path) -> None:
    n_rows = model.get_input_embeddings().weight.shape[0]
    after = tokenizer.chat.after if tokenizer.chat else ()
    used = [*tokenizer.bos_ids, *after, tokenizer.pad_id, tokenizer.answer.positive, tokenizer.answer.negative]
    if max(used) >= n_rows:
        raise DataError(
            f"{folder}: the tokenizer uses id {max(used)}, but the model has {n_rows} token embeddings; tokenizer and "
            "weights are of different models"
        )
