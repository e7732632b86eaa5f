"""Contract of a backbone: the language model that reads the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from collm.component import ComponentConfig, added_field
from collm.contracts.model_folder import (
    CHAT_FILES,
    card_licence,
    check_model_folder,
    has_chat_template,
    weight_names,
    weight_shapes,
)
from collm.errors import DataError

if TYPE_CHECKING:
    import torch

# The words that the tokenizers of Hugging Face models are asked for, the positive one first.
ANSWER_WORDS = ("Yes", "No")

Dtype = Literal["bfloat16", "float16", "float32"]
DeviceMap = Literal["auto", "balanced", "sequential"]


class BackboneConfig(ComponentConfig):
    """Fields that every backbone has."""

    dtype: Dtype = Field(
        default="bfloat16",
        description="Number format of the frozen weights and activations. In float16 the smallest gradients of a "
        "training step become 0, because no loss scaling is used; bfloat16 and float32 keep them.",
    )
    probe: bool = Field(
        default=True,
        description="Compare the logits of a few prompts with the model's own forward pass when it is loaded. Where "
        "sharing prefixes changes them, prompts are computed one by one; where they differ anyway, the run stops.",
    )
    max_prompt_tokens: int = Field(
        default=1024, ge=32, description="Tokens per prompt at most; history is shortened first."
    )
    compile: bool = added_field(
        False,
        description="Compile norms and feed-forward parts with torch.compile for training steps: on a processor they "
        "take 1% to 8% less time, the first one up to a minute more. Needs a C++ compiler there.",
    )

    def modules(self) -> frozenset[str] | None:
        """Returns the dotted names of the modules that hold weights, None where that takes loading the model."""
        return None

    def fetched_folder(self) -> tuple[str, str] | None:
        """Returns where the cache keeps the weights that a `path` would name, and the command that fetches them.

        None where `path` is given, or nothing of the kind is needed.
        """
        return None

    def weight_shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Returns the shapes of all weights by dotted name, None where that takes loading the model."""
        return None

    def base_name(self) -> str:
        """Returns what an adapter's config calls this model: a hub name, a folder, or the backbone's own name."""
        return self.name

    def licence(self) -> str:
        """Returns the hub's name of the weights' licence, e.g. apache-2.0; empty where it is not known here."""
        return ""

    def chat_fault(self) -> str:
        """Says why prompts cannot be asked in a chat template, empty where they can or that takes the tokenizer."""
        return f"backbone '{self.name}' has no chat template"

    def answer_words(self) -> tuple[str, str] | None:
        """Returns the positive and the negative word that scores are read from, None where that takes a tokenizer."""
        return None


class ModelFolderConfig(BackboneConfig):
    """Fields of every backbone that is a Hugging Face model folder."""

    answer_space: bool | None = Field(
        default=None,
        description="Whether the answer words carry a leading space (' Yes'); null = yes, unless the tokenizer cannot "
        "tell them apart then. The reference reads the plain word for Qwen (fact 3): false.",
    )
    four_bit: bool = Field(
        default=False,
        description="Load the frozen decoder weights in 4 bits (NF4); needs a CUDA device and bitsandbytes.",
    )
    device_map: DeviceMap | None = Field(
        default=None,
        description="Spread the decoder layers of one process over its CUDA devices, as Accelerate places them; null = "
        "all on one device.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only the inputs of decoder layers in training and compute the rest again: about a third more "
        "time, a fraction of the memory, the same gradients.",
    )

    def look(self) -> Iterable[tuple[str, str]]:
        """Returns what is wrong with the folder in `path`, where one is given."""
        folder: Path | None = getattr(self, "path", None)
        if folder is not None:
            try:
                check_model_folder(folder)
            except DataError as error:
                yield "path", str(error)

    def chat_fault(self) -> str:
        """Says so where the folder has no chat template."""
        folder: Path | None = getattr(self, "path", None)
        return f"{folder}: has no chat template ({CHAT_FILES[0]})" if folder and not has_chat_template(folder) else ""

    def answer_words(self) -> tuple[str, str] | None:
        """Returns the words that every tokenizer of a model folder is asked for."""
        return ANSWER_WORDS

    def modules(self) -> frozenset[str] | None:
        """Returns the names of the folder's modules, None without a folder."""
        folder: Path | None = getattr(self, "path", None)
        names = None if folder is None else weight_names(folder)
        return None if names is None else frozenset(name.rpartition(".")[0] for name in names)

    def weight_shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Returns the shapes of the folder's weights by name, None without a folder."""
        folder: Path | None = getattr(self, "path", None)
        return None if folder is None else weight_shapes(folder)

    def licence(self) -> str:
        """Returns what the folder's model card says."""
        folder: Path | None = getattr(self, "path", None)
        return "" if folder is None else card_licence(folder)

    def base_name(self) -> str:
        """Returns the hub's name of the model where the settings have it, else its folder."""
        return str(getattr(self, "checkpoint", None) or getattr(self, "path", None) or self.name)


@dataclass(frozen=True)
class AnswerIds:
    """The two words that an answer is read from.

    Attributes:
        positive_word: Text of the positive answer as this tokenizer continues the prompt with it, e.g. " Yes".
        negative_word: The same for "No".
        positive: Token id of its first token.
        negative: Token id of its first token; differs from `positive`.
    """

    positive_word: str
    negative_word: str
    positive: int
    negative: int


@dataclass(frozen=True)
class ChatFrame:
    """What a chat template puts around a prompt.

    Attributes:
        before: Ids before the prompt, begin-of-sequence included.
        opening: Space before the prompt's first word that is encoded with it; mostly empty.
        after: Ids behind the prompt; the answer follows.
    """

    before: tuple[int, ...]
    opening: str
    after: tuple[int, ...]


class PromptTokenizer(Protocol):
    """The text side of a backbone: small, loads without the weights.

    A tokenizer that asks in a chat template has an attribute `chat`, a `ChatFrame` whose `before` is its `bos_ids`.
    """

    @property
    def bos_ids(self) -> tuple[int, ...]:
        """Ids put before every prompt, () where the model has none (fact 4)."""
        ...

    @property
    def pad_id(self) -> int:
        """Id that fills padded positions; never attended to."""
        ...

    @property
    def answer(self) -> AnswerIds:
        """Answer words and ids (fact 3)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns ids of plain text: no special token is added, and none is recognised inside the text."""
        ...

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns `encode` of each text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the ids, for showing."""
        ...


class Backbone(Protocol):
    """What a backbone factory returns.

    Factory: `build(config, *, context: BuildContext) -> Backbone`; it loads no weights. A backbone with a chat template
    also has `in_chat(sample: str) -> Backbone`, the same one whose tokenizer puts prompts such as the sample into it.

    Attributes:
        hidden_size: Width of the token embeddings.
        max_length: Longest sequence that the model takes, in tokens.
        lora_targets: Names of the modules that LoRA adapts by default.
    """

    hidden_size: int
    max_length: int
    lora_targets: tuple[str, ...]

    def content_hash(self) -> str:
        """Returns a hex digest of weights and tokenizer files; never of paths."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what results must say: architecture, parameter counts, how the weights were made."""
        ...

    def tokenizer(self) -> PromptTokenizer:
        """Returns the tokenizer."""
        ...

    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        """Returns the frozen Hugging Face causal language model in eval mode.

        Its `get_input_embeddings()`, `get_output_embeddings()` and `base_model` (decoder stack) are used.
        """
        ...
