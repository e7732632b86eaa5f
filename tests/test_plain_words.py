"""Messages, docstrings and docs keep to plain English (CONTRIBUTING.md, "Words"), as far as a pattern can find it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
# Whole numbers and comparisons may follow "is no".
DEGREES = "longer|more|less|later|earlier|better|worse|larger|smaller|shorter|other|different|such"
IDIOMS = r"(?! ?-in)(?! (?:for|in for|out|alone|back|still|in the way)\b)"
# Pattern -> what to write.
RULES = {
    rf"(?<!here )\b(?:is|are|was|were) no (?!(?:{DEGREES})\b)[a-z]\w*": "is not a ..., are not ...",
    rf"\b(?:stands?|standing|stood)\b{IDIOMS}": "is, appears, comes before, follows",
    r"\bmend(?!:)(?:s|ed|ing)?\b": "fix",  # a key of `collm doctor --json` keeps its name
    r"\blikewise\b": "the same, also",
    r"\b(?:whoever|nobody)\b": "anyone who, another process; no one, nothing",
    r"\bbelongs? into\b": "belongs in",
    r"\btells? of\b": "describes, concerns",
    r"\btold\b": "says, is given; differs (significantly) from",
    r"\bcomes? along\b": "built-in",
    r"\bis there (?:already|\d+ times)\b": "already exists, found ... files named",
    r"\bmelts?\b": "tokenizes differently",
    r"\btakes? no \w+ out\b": "matches no",
    r"\bfor the sake of\b": "so that",
    r"\bin good order\b": "so that another one can continue it",
    r"\btakes? leave of\b": "closes",
    r"\bone door to\b": "reads",
}


def texts() -> Iterator[tuple[str, str]]:
    """Yields place and text of all that a user or a developer reads."""
    for root in ("collm", "plugins"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value
    readmes = [str(path.relative_to(ROOT)) for path in (ROOT / "plugins").rglob("README.md")]
    for name in (*PAGES, *sorted(readmes)):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def faults(text: str) -> list[str]:
    """Returns the phrases of a text that have a plainer form, each with it."""
    plain = re.sub(r"\s+", " ", text)
    return [
        f"'{plain[max(0, found.start() - 20) : found.end() + 20]}': write {better}"
        for pattern, better in RULES.items()
        for found in re.finditer(pattern, plain, re.IGNORECASE)
    ]


def test_texts_are_plain() -> None:
    found = [f"{place}: {fault}" for place, text in texts() for fault in faults(text)]
    assert not found, "\n".join(["see 'Words' in CONTRIBUTING.md", *found])


@pytest.mark.parametrize(
    "text",
    [
        "x.yaml is no suite",
        "these are no\ncandidates",
        "a key stands twice",
        "what stands before the slot",
        "how to mend it",
        "Likewise for items",
        "it belongs into base",
        "the fact that tells of it",
        "the two cannot be told apart",
    ],
)
def test_rules_find_what_they_are_for(text: str) -> None:
    assert len(faults(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "there is no such file",
        "There are no numbers of their own",
        "is no longer supported",
        "are no better than chance",
        "row 0 stands for padding",
        "tiny stand-ins for data",
        "fact 3 tells the ids apart",
        "amended",
    ],
)
def test_rules_leave_ordinary_sentences_alone(text: str) -> None:
    assert faults(text) == []
