"""Changes to a located tree: `--set path=value`, and the overrides of a suite's runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collm.arguments import wrong_argument
from collm.errors import Problem, SpecError, UsageError
from collm.spec.node import Node, Place, dotted
from collm.spec.read import read_text

SET = "--set"
_PART = re.compile(r"[^.\[\]\s]+")


def apply_overrides(root: Node, overrides: Sequence[str], *, cwd: Path) -> Node:
    """Applies `path=value` texts in order; a later one wins.

    The value is YAML: `encoder.fit.epochs=3`, `evaluate.metrics=[auc]`, `encoder={name: din}` (replaces the section),
    `backbone=null` (removes the section).

    Args:
        root: The document.
        overrides: The texts.
        cwd: Folder that relative locations in them resolve against.

    Raises:
        SpecError: If a text has no `=`, its path is malformed or leads into a scalar, or its value is not YAML.
    """
    problems: list[Problem] = []
    for text in overrides:
        try:
            parts, value = parse_override(text, cwd=cwd)
            root = set_at(root, parts, value)
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return root


def parse_override(text: str, *, cwd: Path) -> tuple[tuple[str, ...], Node]:
    """Splits and reads one `path=value`.

    Raises:
        SpecError: As `apply_overrides`.
    """
    place = Place(SET, folder=cwd, origin=SET)
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals:
        raise SpecError([place.problem(f"'{text}' has no '='; write path=value, e.g. encoder.fit.epochs=3")])
    parts = split_path(path)
    if parts is None:
        raise SpecError([place.problem(f"'{path}' is not a dotted path such as encoder.fit.epochs")])
    if not value.strip():
        raise SpecError(
            [place.problem(f"has no value; write {path}=null for none, {path}='\"\"' for empty text", path)]
        )
    try:
        node = read_text(value, place)
    except SpecError as error:
        message = "; ".join(problem.message for problem in error.problems)
        raise SpecError([place.problem(f"'{value}': {message}", path)]) from None
    return parts, _at_one_place(node, place)


def override_texts(overrides: Mapping[str, Any]) -> list[str]:
    """Writes overrides of a Python call as `--set` takes them.

    Args:
        overrides: Dotted path -> value.

    Raises:
        UsageError: If they are not a mapping, or a path or value cannot be written so.
    """
    if not isinstance(overrides, Mapping):
        allowed = "a mapping from dotted path to value, e.g. {'encoder.fit.epochs': 5}"
        raise wrong_argument("overrides", overrides, allowed)
    return [_override_text(field, value) for field, value in overrides.items()]


def _override_text(field: str, value: Any) -> str:
    if not isinstance(field, str) or "=" in field:
        raise wrong_argument("overrides", field, "a dotted path without '=', e.g. 'encoder.fit.epochs'")
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)  # JSON is YAML
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"overrides: {field}: {value!r} cannot be written as YAML ({error}); give text, numbers, booleans, None, "
            "lists or mappings of these"
        ) from error
    return f"{field}={text}"


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def split_path(path: str) -> tuple[str, ...] | None:
    """Splits `a.b.0`; None where a part is empty or holds spaces or brackets."""
    parts = tuple(path.split("."))
    return parts if all(_PART.fullmatch(part) for part in parts) else None


def set_at(root: Node, parts: Sequence[str], value: Node) -> Node:
    """Returns the tree with one value replaced; mappings on the way are created, list items are named by index.

    Raises:
        SpecError: If the path leads into a scalar or outside a list.
    """
    return _set(root, parts, value, 0)


def _set(node: Node, parts: Sequence[str], value: Node, depth: int) -> Node:
    if depth == len(parts):
        return replace(value, key_place=value.where)
    key, shown = parts[depth], dotted(parts[:depth])
    if isinstance(node.value, tuple):
        if not key.isdigit() or int(key) >= len(node.value):
            message = f"is a list of {len(node.value)}; name an item by its index from 0, or set the whole list"
            raise SpecError([value.place.problem(message, shown)])
        items = list(node.value)
        items[int(key)] = _set(items[int(key)], parts, value, depth + 1)
        return replace(node, value=tuple(items))
    if node.value is not None and not isinstance(node.value, Mapping):
        raise SpecError([value.place.problem(f"is {node.shown()} and has no field '{key}'", shown)])
    below = node.fields.get(key, Node(None, value.place, key_place=value.place))
    return node.with_fields({**node.fields, key: _set(below, parts, value, depth + 1)})


def merge(base: Node, over: Node) -> Node:
    """Returns `base` with the entries of `over` put in.

    Mappings merge at every depth; one whose `name` changes is another component and replaces the old one whole, so no
    field of the old component stays behind. Anything else replaces.
    """
    if not isinstance(base.value, Mapping) or not isinstance(over.value, Mapping) or _renames(base, over):
        return over
    fields = dict(base.fields)
    for key, below in over.fields.items():
        fields[key] = merge(fields[key], below) if key in fields else below
    return replace(base, value=fields, key_place=over.key_place or base.key_place)


def _renames(base: Node, over: Node) -> bool:
    new, old = over.fields.get("name"), base.fields.get("name")
    return new is not None and old is not None and over.key_place is not None and new.value != old.value


def _at_one_place(node: Node, place: Place) -> Node:
    """Drops the lines within an override's own text, which mean nothing to a reader."""
    value = node.value
    if isinstance(value, Mapping):
        value = {key: replace(_at_one_place(each, place), key_place=place) for key, each in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_at_one_place(each, place) for each in value)
    return replace(node, value=value, place=place)
