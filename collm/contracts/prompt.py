"""Contract of a prompt: a template made of typed segments, so that no text can ever move a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from pydantic import Field, model_validator

from collm.component import ComponentConfig, added_field

Variant = Literal["text", "hybrid"]
# What of a user's past a prompt lists: liked items alone, or disliked ones too (`history.include`).
Include = Literal["liked", "both"]
# What one list of titles holds; `rated` has both in one list, each with its label in words.
Shows = Literal["liked", "disliked", "rated"]
# Kinds of slots whose content may differ between rows of one user and history.
SLOTS_PER_ROW = frozenset({"item", "context"})
# Kind of slots behind titles -> which titles.
TITLE_SLOTS: Mapping[str, Shows] = {"history": "liked", "disliked": "disliked", "rated": "rated"}


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
    """The titles of the history, which are liked ones, quoted and joined as the template says."""

    collaborative: bool = False

    shows: ClassVar[Shows] = "liked"


@dataclass(frozen=True)
class DislikedTitles:
    """The titles of disliked items, in the form of the history; for `history.include: both`."""

    collaborative: bool = False

    shows: ClassVar[Shows] = "disliked"


@dataclass(frozen=True)
class RatedTitles:
    """Liked and disliked titles in one list in the order of time, each with its label in words."""

    collaborative: bool = False

    shows: ClassVar[Shows] = "rated"


@dataclass(frozen=True)
class TargetTitle:
    """The title of the target item."""

    collaborative: bool = False


@dataclass(frozen=True, repr=False)
class Slot:
    """Base of the segments that an encoder fills.

    Attributes:
        collaborative: Whether the text-only variant leaves it out.
        encoder: Which of the spec's `encoders` fills it; empty = the spec has one `encoder`.
    """

    collaborative: bool = True
    encoder: str = ""

    kind: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """What the slot is called in templates and batches: its kind, and behind a point its encoder."""
        return f"{self.kind}.{self.encoder}" if self.encoder else self.kind

    @property
    def field(self) -> str:
        """How the slot is written in the template of a spec, without its braces."""
        return self.name.replace(self.kind, f"{self.kind}+item", 1) if self.kind in TITLE_SLOTS else self.name

    def __repr__(self) -> str:
        # The repr is part of fingerprints: without an encoder's name it is that of versions with one encoder.
        encoder = f", encoder={self.encoder!r}" if self.encoder else ""
        return f"{type(self).__name__}(collaborative={self.collaborative}{encoder})"


@dataclass(frozen=True, repr=False)
class UserSlot(Slot):
    """Where the user's vectors or words enter."""

    kind = "user"


@dataclass(frozen=True, repr=False)
class ItemSlot(Slot):
    """Where the target item's vectors or words enter."""

    kind = "item"


@dataclass(frozen=True, repr=False)
class ContextSlot(Slot):
    """Where the context vectors of the row enter, for an encoder that gives them (`EncodedPair.context`)."""

    kind = "context"


@dataclass(frozen=True, repr=False)
class HistoryItems(Slot):
    """The titles of the history, each followed by a slot for its item's mapped vector.

    The text-only variant has the titles alone. An item's vector is the one that the encoder gives without user and
    history.
    """

    collaborative: bool = False

    kind = "history"
    shows: ClassVar[Shows] = "liked"


@dataclass(frozen=True, repr=False)
class DislikedItems(Slot):
    """The titles of disliked items, each followed by a slot for its item's mapped vector, as `HistoryItems`."""

    collaborative: bool = False

    kind = "disliked"
    shows: ClassVar[Shows] = "disliked"


@dataclass(frozen=True, repr=False)
class RatedItems(Slot):
    """Liked and disliked titles in one list, each with its label in words and then a slot, as `HistoryItems`."""

    collaborative: bool = False

    kind = "rated"
    shows: ClassVar[Shows] = "rated"


TitleList = HistoryTitles | DislikedTitles | RatedTitles
TitleSlots = HistoryItems | DislikedItems | RatedItems
Segment = Text | TitleList | TitleSlots | TargetTitle | UserSlot | ItemSlot | ContextSlot
_TITLES_ALONE: Mapping[Shows, type[HistoryTitles] | type[DislikedTitles] | type[RatedTitles]] = {
    "liked": HistoryTitles,
    "disliked": DislikedTitles,
    "rated": RatedTitles,
}


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
        empty_history: Used where there is no history title (fact 9).
        strip_history_titles: Whether surrounding spaces of history titles are removed; target titles always are
            (fact 8).
        quote_target: Whether the target title is quoted too.
        slot_join: Put between the token embeddings of one slot that has several (the published code joins them by
            points); empty = nothing.
        positive: The positive answer word, without a leading space.
        negative: The negative answer word.
        both: What is said under `history.include: both`, where it is not this template; None = this one.
        empty_disliked: Used where there is no disliked title.
        liked_word: Behind a liked title in a list of both, in brackets.
        disliked_word: Behind a disliked one.
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
    both: PromptTemplate | None = None
    empty_disliked: str = "none"
    liked_word: str = "liked"
    disliked_word: str = "disliked"

    def under(self, include: Include) -> PromptTemplate:
        """Returns what is said under a `history.include`."""
        return self.both if include == "both" and self.both is not None else self

    def segments(self, variant: Variant) -> tuple[Segment, ...]:
        """Returns the segments of a variant."""
        if variant == "hybrid":
            return self.hybrid
        if self.text is not None:
            return self.text
        kept = (segment for segment in self.hybrid if not segment.collaborative)
        return tuple(_TITLES_ALONE[segment.shows]() if isinstance(segment, TitleSlots) else segment for segment in kept)

    def lists(self, variant: Variant) -> tuple[Shows, ...]:
        """Returns which lists of titles a variant has, in order."""
        segments = self.segments(variant)
        return tuple(segment.shows for segment in segments if isinstance(segment, TitleList | TitleSlots))

    def slots(self) -> tuple[Slot, ...]:
        """Returns the slots of the full variant, in order."""
        return tuple(segment for segment in self.hybrid if isinstance(segment, Slot))


class PromptFactory(Protocol):
    """Factory of a prompt component."""

    def __call__(self, config: PromptConfig) -> PromptTemplate:
        """Builds the template."""
        ...
