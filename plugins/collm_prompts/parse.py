"""Reads a prompt written as one string: fields in braces, collaborative parts in double square brackets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping

from collm.contracts.prompt import (
    ContextSlot,
    DislikedItems,
    DislikedTitles,
    HistoryItems,
    HistoryTitles,
    ItemSlot,
    RatedItems,
    RatedTitles,
    Segment,
    TargetTitle,
    Text,
    TitleSlots,
    UserSlot,
)

WORDS: Mapping[str, Callable[[bool], Segment]] = {
    "history": HistoryTitles,
    "disliked": DislikedTitles,
    "rated": RatedTitles,
    "target": TargetTitle,
}
# Behind a point they may name one of several encoders: {user.cf}.
SLOTS: Mapping[str, Callable[[bool, str], TitleSlots | UserSlot | ItemSlot | ContextSlot]] = {
    "history+item": HistoryItems,
    "disliked+item": DislikedItems,
    "rated+item": RatedItems,
    "user": UserSlot,
    "item": ItemSlot,
    "context": ContextSlot,
}
BEHIND_TITLES = ("history+item", "disliked+item", "rated+item")
FIELDS = ("history", "disliked", "rated", *BEHIND_TITLES, "target", "user", "item", "context")
_MARK = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}]*\}|[{}]")
_AROUND = 12


def parse_template(text: str) -> tuple[Segment, ...]:
    """Returns the segments of a prompt.

    Args:
        text: Words with `{history}` or `{history+item}`, `{disliked}`, `{rated}`, `{target}`, `{user}`, `{item}`,
            `{context}`, slots also as `{user.NAME}` for one of several encoders; `[[` and `]]` around collaborative
            parts; `{{` and `}}` for braces. Slots appear inside `[[...]]`, so that the text-only variant leaves out
            their words too; the slots of `{history+item}` leave no words behind.

    Raises:
        ValueError: If a brace or bracket does not pair, a field is unknown, or a slot appears outside of `[[...]]`.
    """
    segments: list[Segment] = []
    words = ""
    inside = False
    for at, part in _parts(text):
        if part in ("{{", "}}"):
            words += part[0]
            continue
        if not _MARK.fullmatch(part):
            words += part
            continue
        if words:
            segments.append(Text(words, collaborative=inside))
            words = ""
        if part in ("[[", "]]"):
            if inside == (part == "[["):
                raise ValueError(_fault(text, at, f"'{part}' without its pair; [[...]] parts cannot be nested"))
            inside = part == "[["
        else:
            segments.append(_field(text, at, part, inside))
    if inside:
        raise ValueError(_fault(text, text.rfind("[["), "'[[' is never closed by ']]'"))
    if words:
        segments.append(Text(words))
    return tuple(segments)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yields marks and the words between them, each with its position."""
    end = 0
    for match in _MARK.finditer(text):
        if match.start() > end:
            yield end, text[end : match.start()]
        yield match.start(), match.group()
        end = match.end()
    if end < len(text):
        yield end, text[end:]


def _field(text: str, at: int, part: str, inside: bool) -> Segment:
    if part in ("{", "}"):
        raise ValueError(_fault(text, at, f"a single '{part}'; write '{part * 2}' for a brace in the text"))
    name, point, encoder = part[1:-1].partition(".")
    if name in WORDS and not point:
        return WORDS[name](inside)
    if name not in SLOTS or (point and not encoder):
        close = difflib.get_close_matches(name.strip().lower(), FIELDS, n=1)
        hint = f"did you mean '{{{close[0]}{point}{encoder}}}'? " if close and close[0] != name else ""
        if name in WORDS:
            hint = f"titles have no encoder, write '{{{name}}}'; "
        known = ", ".join("{" + field + "}" for field in FIELDS)
        raise ValueError(
            _fault(
                text,
                at,
                f"unknown field '{part}'; {hint}fields: {known}, slots with an encoder's name as {{user.NAME}}",
            )
        )
    if name not in BEHIND_TITLES and not inside:
        raise ValueError(
            _fault(text, at, f"'{part}' must be inside [[...]], with the words that the text-only prompt leaves out")
        )
    return SLOTS[name](inside, encoder)


def _fault(text: str, at: int, message: str) -> str:
    shown = text[max(0, at - _AROUND) : at + _AROUND].replace("\n", "\\n")
    return f"character {at + 1} (near '{shown}'): {message}"
