"""Checks a prompt template and cuts it into the pieces of text that are tokenised one by one."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import get_args

from collm.contracts.prompt import (
    ContextSlot,
    Include,
    ItemSlot,
    PromptTemplate,
    Segment,
    Shows,
    Slot,
    TargetTitle,
    Text,
    TitleList,
    TitleSlots,
    UserSlot,
    Variant,
)
from collm.errors import SpecError

_SINGLE_SPACE = re.compile(r"(?<!\s) (?!\s)")
# Slots that appear once in a prompt, unlike those of the history.
_SINGLE = UserSlot | ItemSlot | ContextSlot
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class FixedPiece:
    """Words that appear in every prompt."""

    text: str


@dataclass(frozen=True)
class HistoryPieces:
    """A list of titles, one piece each; `left` belongs to the first one's text, `right` to the last one's.

    A slot of the name `slot` follows each title, where it is not empty. `shows` says which titles are listed.
    """

    left: str
    right: str
    slot: str = ""
    shows: Shows = "liked"


@dataclass(frozen=True)
class TargetPiece:
    """The target title with the words that it is tokenised with."""

    left: str
    right: str


@dataclass(frozen=True)
class WordsPiece:
    """A slot that takes words of an encoder, with the words that they are tokenised with."""

    name: str
    left: str
    right: str


@dataclass(frozen=True)
class SlotPiece:
    """Positions that take vectors."""

    name: str


Piece = FixedPiece | HistoryPieces | TargetPiece | WordsPiece | SlotPiece


def template_faults(template: PromptTemplate) -> list[str]:
    """Returns everything that is wrong with a template, one sentence each; empty where nothing is."""
    listed = (*template.hybrid, *(template.text or ()))
    strangers = [segment for segment in listed if not isinstance(segment, Segment)]
    if strangers:
        return [f"{stranger!r} is not a prompt segment" for stranger in strangers]
    faults = [
        f"{variant} variant: {fault}"
        for variant in get_args(Variant)
        for fault in _variant_faults(template.segments(variant), variant)
    ]
    for role, word in (("positive", template.positive), ("negative", template.negative)):
        if not word or word != word.strip():
            faults.append(f"the {role} answer must be a word without spaces around it, got {word!r}")
    if template.positive == template.negative:
        faults.append(f"the two answer words must differ, got {template.positive!r} twice")
    for name in ("liked_word", "disliked_word"):
        if not (word := getattr(template, name)) or word != clean_title(word).strip():
            faults.append(f"{name} must be words on one line without spaces around them, got {word!r}")
    if template.both is not None:
        faults += [f"under history.include: both, {fault}" for fault in template_faults(template.both)]
    return faults


def include_fault(template: PromptTemplate, include: Include) -> str:
    """Says how the lists of a template do not fit `history.include`, empty where they do.

    Args:
        template: What is said under it (`PromptTemplate.under`).
        include: The spec's `history.include`.
    """
    lists = {variant: set(template.lists(variant)) for variant in get_args(Variant)}
    if include == "liked":
        if any(shown & {"disliked", "rated"} for shown in lists.values()):
            return "lists disliked items, which history.include: liked leaves out; set history.include: both"
        return ""
    lacking = [variant for variant, shown in lists.items() if not ("rated" in shown or shown >= {"liked", "disliked"})]
    if not lacking:
        return ""
    return (
        f"has no place for liked and disliked items in its {' and '.join(lacking)} variant, but history.include is "
        "both; put {history} and {disliked}, or {rated}, into a custom template outside of [[...]], use the prompt "
        "tallrec or a domain's with wording: paper, or set history.include: liked"
    )


def check_template(template: PromptTemplate) -> None:
    """Accepts a sound template.

    Raises:
        SpecError: With every fault of an unsound one.
    """
    faults = template_faults(template)
    if faults:
        raise SpecError("prompt template: " + "; ".join(faults))


def answer_fault(template: PromptTemplate, words: tuple[str, str]) -> str:
    """Says how a template asks for other words than a backbone reads, empty where they are the same.

    Args:
        template: The template.
        words: The backbone's positive and negative word, without spaces.
    """
    asked = (template.positive, template.negative)
    if asked == words:
        return ""
    return (
        f"asks for '{asked[0]}' or '{asked[1]}', but this backbone reads '{words[0]}' and '{words[1]}'; "
        "use the same words"
    )


def clean_title(title: str) -> str:
    """Returns a title as it appears in a prompt: one line of valid text.

    Line breaks and other control characters become spaces, and in such a title runs of spaces become one. Halves of
    surrogate pairs, which no tokenizer takes, become question marks. Nothing else changes: quotes, field tags and the
    names of special tokens are text like any other.
    """
    if _CONTROL.search(title):
        title = " ".join(_CONTROL.sub(" ", title).split())
    return title.encode("utf-8", "replace").decode("utf-8")


def cut(segments: Sequence[Segment], words: Collection[str] = ()) -> tuple[Piece, ...]:
    """Cuts a prompt into pieces that are tokenised one by one.

    The rule, everywhere the same: a cut comes before a single space. A title thus keeps the space and the opening mark
    before it and the marks up to the next space, e.g. ` "Heat (1995)",`. So pieces give the ids that the whole text
    gives, while what two prompts share as text they share as ids. The proof: byte-level tokenizers split a text before
    such a space, whatever appears around it, and `HfTokenizer` takes only tokenizers that have no token with a space
    behind another character, so no merge reaches over the cut. Of several spaces in a row the two kinds of tokenizers
    make different tokens, so there is no cut among them. Where no such space comes between two fields or beside a
    slot, the cut is at the field. A vector takes the place of a word with its space: one space before its slot is
    dropped. A slot that takes words is text like a title.

    Args:
        segments: Segments of one variant.
        words: Names of the slots that take words in place of vectors.

    Returns:
        The pieces in order, without empty ones.
    """
    fields, texts = _alternate(segments)
    vectors = [isinstance(field, _SINGLE) and field.name not in words for field in fields]
    rights, middles, lefts = [""] * len(texts), list(texts), [""] * len(texts)
    for place, text in enumerate(texts):
        rest = text
        if place > 0 and not vectors[place - 1] and not isinstance(fields[place - 1], TitleSlots):
            at = next((found.start() for found in _SINGLE_SPACE.finditer(rest)), -1)
            rights[place], rest = (rest, "") if at < 0 else (rest[:at], rest[at:])
        if place < len(fields):
            if vectors[place]:
                rest = rest.removesuffix(" ")
            else:
                at = max([found.start() for found in _SINGLE_SPACE.finditer(rest)], default=0)
                rest, lefts[place] = rest[:at], rest[at:]
        middles[place] = rest
    pieces: list[Piece] = []
    for place, middle in enumerate(middles):
        if middle:
            pieces.append(FixedPiece(middle))
        if place < len(fields):
            pieces.append(_field_piece(fields[place], lefts[place], rights[place + 1], vector=vectors[place]))
    return tuple(pieces)


def split_join(join: str) -> tuple[str, str]:
    """Returns the parts of a title separator that belong to the title before and to the title after it."""
    at = max([found.start() for found in _SINGLE_SPACE.finditer(join)], default=join.rfind(" "))
    return (join, "") if at < 0 else (join[:at], join[at:])


def _variant_faults(segments: Sequence[Segment], variant: Variant) -> list[str]:
    def count(kind: type) -> int:
        return sum(isinstance(segment, kind) for segment in segments)

    faults = []
    if count(TargetTitle) != 1:
        faults.append(f"needs exactly one target title, got {count(TargetTitle)}")
    listed = Counter(segment.shows for segment in segments if isinstance(segment, TitleList | TitleSlots))
    for shows, n_lists in listed.items():
        if n_lists > 1:
            name = "history" if shows == "liked" else shows
            faults.append(f"takes one list of {name} titles at most, got {n_lists}")
    if "rated" in listed and len(listed) > 1:
        faults.append("has a list of rated titles, which holds the liked and the disliked ones; leave out the others")
    if variant == "text" and any(isinstance(segment, TitleSlots) for segment in segments):
        faults.append("must have no slots in its history; list the titles alone")
    for side, kind in (("user", UserSlot), ("item", ItemSlot)):
        if variant == "hybrid" and not count(kind):
            faults.append(f"needs at least one {side} slot, got 0")
    for segment in segments if variant == "text" else ():
        if isinstance(segment, _SINGLE):
            faults.append(
                f"must have no {segment.name} slot; mark it collaborative, or leave it out of the text segments"
            )
    repeated = Counter(segment.name for segment in segments if isinstance(segment, Slot))
    faults += [f"takes the slot {name} once, got {n}" for name, n in repeated.items() if n > 1 and variant == "hybrid"]
    last = segments[-1] if segments else None
    if not isinstance(last, Text) or not last.text or last.text != last.text.rstrip():
        faults.append("must end in words without a space after them: the next token is the answer")
    return faults


def _alternate(segments: Sequence[Segment]) -> tuple[list[Segment], list[str]]:
    """Returns the n fields and the n + 1 stretches of words around them."""
    fields: list[Segment] = []
    texts = [""]
    for segment in segments:
        if isinstance(segment, Text):
            texts[-1] += segment.text
        else:
            fields.append(segment)
            texts.append("")
    return fields, texts


def _field_piece(field: Segment, left: str, right: str, *, vector: bool) -> Piece:
    if isinstance(field, TitleList | TitleSlots):
        return HistoryPieces(left, right, slot=field.name if isinstance(field, Slot) else "", shows=field.shows)
    match field:
        case TargetTitle():
            return TargetPiece(left, right)
        case Slot(name=name):
            return SlotPiece(name) if vector else WordsPiece(name, left, right)
        case _:
            raise AssertionError("text is not a field")


def slot_faults(template: PromptTemplate, encoders: Collection[str]) -> list[str]:
    """Returns how the slots of a template do not fit the encoders of a spec, one sentence each.

    Args:
        template: The template.
        encoders: Names of the spec's `encoders`; one empty name where it has a single `encoder`, none for text only.
    """
    slots = template.slots() if encoders else ()
    if tuple(encoders) == ("",):
        return [
            f"the slot {{{slot.field}}} names an encoder, but the spec has one `encoder`; write "
            f"{{{slot.field.rpartition('.')[0]}}}, or name encoders in `encoders`"
            for slot in slots
            if slot.encoder
        ]
    names = ", ".join(encoders)
    faults = []
    for slot in slots:
        if slot.encoder not in encoders:
            said = f"names encoder '{slot.encoder}'" if slot.encoder else "names no encoder"
            example = (*difflib.get_close_matches(slot.encoder, encoders, n=1), *encoders)[0]
            base = slot.field.partition(".")[0]
            faults.append(f"the slot {{{slot.field}}} {said}; `encoders` has {names}: write e.g. {{{base}.{example}}}")
    used = {slot.encoder for slot in slots}
    faults += [
        f"no slot takes encoder '{name}'; add e.g. {{item.{name}}}, or remove it from `encoders`"
        for name in encoders
        if name not in used
    ]
    return faults
