"""The cutting rule and the checks of a template."""

from __future__ import annotations

import dataclasses

import pytest

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.errors import SpecError
from collm.prompt.template import (
    FixedPiece,
    HistoryPieces,
    SlotPiece,
    TargetPiece,
    check_template,
    clean_title,
    cut,
    split_join,
    template_faults,
)

HYBRID = (
    Text("Liked: "),
    HistoryTitles(),
    Text("."),
    Text(" Taste ", collaborative=True),
    UserSlot(),
    Text(".", collaborative=True),
    Text(" New: "),
    TargetTitle(),
    Text(" with ", collaborative=True),
    ItemSlot(),
    Text("? Answer:"),
)
TEMPLATE = PromptTemplate(hybrid=HYBRID)


def test_cuts_stand_before_spaces_and_at_slots() -> None:
    assert cut(TEMPLATE.segments("hybrid")) == (
        FixedPiece("Liked:"),
        HistoryPieces(" ", "."),
        FixedPiece(" Taste"),
        SlotPiece("user"),
        FixedPiece(". New:"),
        TargetPiece(" ", ""),
        FixedPiece(" with"),
        SlotPiece("item"),
        FixedPiece("? Answer:"),
    )


def test_text_variant_joins_what_the_collaborative_parts_separated() -> None:
    assert cut(TEMPLATE.segments("text")) == (
        FixedPiece("Liked:"),
        HistoryPieces(" ", "."),
        FixedPiece(" New:"),
        TargetPiece(" ", "?"),
        FixedPiece(" Answer:"),
    )


@pytest.mark.parametrize(
    ("segments", "pieces"),
    [
        ((TargetTitle(), Text("?")), (TargetPiece("", "?"),)),
        (
            (Text("see (ab"), TargetTitle(), Text("c) d")),
            (FixedPiece("see"), TargetPiece(" (ab", "c)"), FixedPiece(" d")),
        ),
        ((HistoryTitles(), Text("|"), TargetTitle(), Text("x")), (HistoryPieces("", "|"), TargetPiece("", "x"))),
        ((HistoryTitles(), Text(" "), TargetTitle(), Text("x")), (HistoryPieces("", ""), TargetPiece(" ", "x"))),
        ((TargetTitle(), Text(" "), ItemSlot(), Text("x")), (TargetPiece("", ""), SlotPiece("item"), FixedPiece("x"))),
        ((UserSlot(), ItemSlot(), Text("x")), (SlotPiece("user"), SlotPiece("item"), FixedPiece("x"))),
        ((Text("a  "), TargetTitle(), Text("\n#A")), (TargetPiece("a  ", "\n#A"),)),
        (
            (Text("a  b c "), TargetTitle(), Text("?  d e")),
            (FixedPiece("a  b c"), TargetPiece(" ", "?  d"), FixedPiece(" e")),
        ),
    ],
)
def test_cuts_of_odd_templates(segments: tuple, pieces: tuple) -> None:
    assert cut(segments) == pieces


@pytest.mark.parametrize(
    ("join", "parts"), [(", ", (",", " ")), (" | ", (" |", " ")), (";", (";", "")), ("", ("", "")), ("  ", (" ", " "))]
)
def test_split_join(join: str, parts: tuple[str, str]) -> None:
    assert split_join(join) == parts


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("Heat (1995)", "Heat (1995)"),
        (" two  spaces ", " two  spaces "),
        ("a\r\nb\tc", "a b c"),
        ("line\u2028break\x00 \x85end", "line break end"),
        ('"quoted" <UserID> {item} <|im_end|> </s>', '"quoted" <UserID> {item} <|im_end|> </s>'),
        ("half \ud83d pair", "half ? pair"),
        ("", ""),
    ],
)
def test_clean_title(title: str, clean: str) -> None:
    assert clean_title(title) == clean


def test_sound_template_has_no_fault() -> None:
    assert template_faults(TEMPLATE) == []
    check_template(TEMPLATE)


def without(kind: type) -> tuple:
    return tuple(segment for segment in HYBRID if not isinstance(segment, kind))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"hybrid": without(TargetTitle)}, "hybrid variant: needs exactly one target title, got 0"),
        ({"hybrid": (*HYBRID[:1], HistoryTitles(), *HYBRID[1:])}, "one list of history titles at most, got 2"),
        ({"hybrid": without(UserSlot)}, "hybrid variant: needs at least one user slot, got 0"),
        ({"hybrid": (ItemSlot(), *HYBRID)}, "hybrid variant: takes the slot item once, got 2"),
        ({"hybrid": (UserSlot(collaborative=False), *without(UserSlot))}, "text variant: must have no user slot"),
        ({"hybrid": (*HYBRID, Text(" "))}, "hybrid variant: must end in words"),
        ({"hybrid": HYBRID[:-1]}, "hybrid variant: must end in words"),
        ({"hybrid": ()}, "hybrid variant: must end in words"),
        ({"text": (TargetTitle(), ItemSlot(), Text("?"))}, "text variant: must have no item slot"),
        ({"hybrid": ("words", *HYBRID)}, "'words' is not a prompt segment"),
        ({"positive": " Yes"}, "the positive answer must be a word"),
        ({"negative": "Yes"}, "the two answer words must differ"),
    ],
)
def test_faults_are_named(changes: dict, fault: str) -> None:
    template = dataclasses.replace(TEMPLATE, **changes)
    assert any(fault in each for each in template_faults(template))
    with pytest.raises(SpecError, match="prompt template: "):
        check_template(template)
