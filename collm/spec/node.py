"""A YAML document as a tree that remembers where each value was written. Trees are never changed, only rebuilt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collm.errors import Problem
from collm.visible import without_passwords

Scalar = str | int | float | bool | None
Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where a key or value was written.

    Attributes:
        file: File name as the user gave it, `--set`, or `profile NAME`.
        line: 1-based; None where there is none.
        column: 1-based; None where there is none.
        folder: Folder that relative locations written there resolve against.
        origin: What `validate --resolved` shows as the source of the value: `user`, `--set` or `profile NAME`.
    """

    file: str
    line: int | None = None
    column: int | None = None
    folder: Path = Path()
    origin: str = "user"

    def problem(self, message: str, path: str = "") -> Problem:
        """Returns a problem at this place."""
        return Problem(message, path=path, file=self.file, line=self.line, column=self.column)


@dataclass(frozen=True)
class Node:
    """One value.

    Attributes:
        value: A scalar, a tuple of nodes, or a mapping of text to nodes.
        place: Where the value starts.
        key_place: Where its key is written; None for list items and the document itself.
        raw: A scalar as it was written.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    place: Place
    key_place: Place | None = None
    raw: str = field(default="", compare=False)

    @property
    def fields(self) -> Mapping[str, Node]:
        """Entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def where(self) -> Place:
        """Place of the key where there is one, else of the value."""
        return self.key_place or self.place

    def child(self, part: str | int) -> Node | None:
        """Returns the entry or list item, None where there is none."""
        if isinstance(self.value, Mapping):
            return self.value.get(part) if isinstance(part, str) else None
        if isinstance(self.value, tuple) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def find(self, parts: Sequence[str | int]) -> Node | None:
        """Returns the node at a path, None where there is none."""
        node: Node | None = self
        for part in parts:
            node = node.child(part) if node is not None else None
        return node

    def nearest(self, parts: Sequence[str | int]) -> Node:
        """Returns the deepest node that exists on a path."""
        node = self
        for part in parts:
            below = node.child(part)
            if below is None:
                break
            node = below
        return node

    def plain(self) -> Any:
        """Returns the value as plain dicts, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def with_fields(self, fields: Mapping[str, Node]) -> Node:
        """Returns this mapping with other entries."""
        return replace(self, value=dict(fields))

    def shown(self) -> str:
        """Returns the value as a message shows it."""
        if isinstance(self.value, Mapping):
            return "a mapping" if self.value else "an empty mapping"
        if isinstance(self.value, tuple):
            return "a list" if self.value else "an empty list"
        if self.value is None:
            return "nothing (null)"
        if isinstance(self.value, bool):
            return f"the boolean {str(self.value).lower()}"
        if isinstance(self.value, str):
            # Before it is cut: without its end an address would not be seen as one.
            text = without_passwords(self.value)
            return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"
        return f"the number {self.raw or self.value}"


def from_plain(value: Any, place: Place) -> Node:
    """Returns a tree of dicts with text keys, lists and scalars, all nodes of which have one place."""
    if isinstance(value, Mapping):
        return Node({str(key): replace(from_plain(each, place), key_place=place) for key, each in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node(tuple(from_plain(each, place) for each in value), place)
    return Node(value, place, raw=str(value))


def dotted(parts: Sequence[str | int]) -> str:
    """Returns `a.b[0].c` for a path."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def leaves(node: Node, prefix: Path_ = ()) -> Iterator[tuple[Path_, Node]]:
    """Yields every value that is not a mapping with entries, with its path; a list counts as one value."""
    if node.fields:
        for key, below in node.fields.items():
            yield from leaves(below, (*prefix, key))
    else:
        yield prefix, node
