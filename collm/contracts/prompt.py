"""Contract of a prompt: a template made of typed segments, so that no text can ever move a slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field, model_validator

from collm.component import ComponentConfig, added_field

Variant = Literal["text", "hybrid"]


class PromptConfig(ComponentConfig):
    """Base of prompt settings."""

    leading_space: bool = Field(
        default=False,
        description="Begin the prompt with the space that a SentencePiece tokenizer puts before a text ('▁#' and not "
        "'#'), as Hugging Face and the published code do; no effect on other tokenizers. Pieces inside the prompt are "
        "encoded as the middle of a text either way.",
    )
    chat: bool = added_field(
        False,
        description="Ask the question as a user's turn in the model's own chat template, with the answer where the "
        "assistant's turn begins. Templates that print the date get 26 July 2024; templates with a thinking mode are "
        "rendered with it off.",
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> PromptConfig:
        if self.chat and self.leading_space:
            raise ValueError("chat and leading_space exclude each other: the chat template decides what comes first")
        return self


@dataclass(frozen=True)
class Text:
    """Fixed words."""

    text: str
    collaborative: bool = False


@dataclass(frozen=True)
class HistoryTitles:
    """The titles of the history, quoted and joined as the template says."""

    collaborative: bool = False


@dataclass(frozen=True)
class HistoryItems:
    """The titles of the history, each followed by a slot for its item's mapped vector.

    The text-only variant has the titles alone. An item's vector is the one that the encoder gives without user and
    history.
    """

    collaborative: bool = False


@dataclass(frozen=True)
class TargetTitle:
    """The title of the target item."""

    collaborative: bool = False


@dataclass(frozen=True)
class UserSlot:
    """Where the mapped user vector enters."""

    collaborative: bool = True


@dataclass(frozen=True)
class ItemSlot:
    """Where the mapped item vector enters."""

    collaborative: bool = True


Segment = Text | HistoryTitles | HistoryItems | TargetTitle | UserSlot | ItemSlot


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt as data.

    Attributes:
        hybrid: All segments in order. Those marked `collaborative` (the paper's underlined part) are left out of the
            text-only variant.
        text: The text-only variant where it is not `hybrid` minus the collaborative segments (the reference's stage-1
            wording differs beyond the underlined part, fact 6); None = derived.
        title_open: Put before each history title, e.g. a double quote (fact 8).
        title_close: Put after each history title.
        title_join: Put between history titles.
        empty_history: Stands where there is no history title (fact 9).
        strip_history_titles: Whether surrounding spaces of history titles are removed; target titles always are
            (fact 8).
        quote_target: Whether the target title is quoted too.
        slot_join: Put between the token embeddings of one slot that has several (the published code joins them by
            points); empty = nothing.
        positive: The positive answer word, without a leading space.
        negative: The negative answer word.
    """

    hybrid: tuple[Segment, ...]
    text: tuple[Segment, ...] | None = None
    title_open: str = '"'
    title_close: str = '"'
    title_join: str = ", "
    empty_history: str = "none"
    strip_history_titles: bool = True
    quote_target: bool = True
    slot_join: str = ""
    positive: str = "Yes"
    negative: str = "No"

    def segments(self, variant: Variant) -> tuple[Segment, ...]:
        """Returns the segments of a variant."""
        if variant == "hybrid":
            return self.hybrid
        if self.text is not None:
            return self.text
        kept = (segment for segment in self.hybrid if not segment.collaborative)
        return tuple(HistoryTitles() if isinstance(segment, HistoryItems) else segment for segment in kept)


class PromptFactory(Protocol):
    """Factory of a prompt component."""

    def __call__(self, config: PromptConfig) -> PromptTemplate:
        """Builds the template."""
        ...
