"""YAML text -> located tree. Plain data only: no custom tags, no merge keys, no value that YAML 1.1 reinterprets.

Dates and `1:30` stay text, `1e-3` is a number, `010` is refused; duplicate keys are refused. All problems at once.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from collm.errors import Problem, SpecError
from collm.spec.node import Node, Place, Scalar, dotted

_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_MAX_NODES = 20_000
_TOO_LARGE = 2**64
_HASHED_WORD = re.compile(r"[ \t]+(#[^\s#]\S*)")
_SHOWN_DIGITS = 40


class SpecLoader(yaml.SafeLoader):
    """Composes nodes with marks; its rules for plain scalars are those of YAML 1.2 plus `yes`, `no`, `on`, `off`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, _pattern, _first in (
    ("bool", r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    SpecLoader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def read_file(path: Path, *, shown: str | None = None) -> Node:
    """Reads a YAML file.

    Args:
        path: The file.
        shown: How messages name it; None = `path` as given.

    Raises:
        SpecError: If it is missing, not UTF-8, not YAML, empty, or holds something plain data does not have.
    """
    shown = str(path) if shown is None else shown
    place = Place(shown, folder=path.absolute().parent)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError([place.problem(f"no such file{_nearest_file(path)}")]) from None
    except IsADirectoryError:
        raise SpecError([place.problem("is a folder; a YAML file is needed")]) from None
    except OSError as error:
        raise SpecError([place.problem(f"cannot be read: {error.strerror or error}")]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text: byte 0x{content[error.start]:02x}; save the file as UTF-8"
        raise SpecError([replace(place, line=line).problem(message)]) from None
    return read_text(text, place)


def read_text(text: str, place: Place) -> Node:
    """Reads YAML text.

    Args:
        text: One document.
        place: File and folder; lines and columns are added.

    Raises:
        SpecError: If it is not YAML, empty, or holds something plain data does not have.
    """
    loader = None
    try:
        loader = SpecLoader(text)
        tree = loader.get_single_node()
        if tree is None:
            raise SpecError([place.problem("is empty")])
        builder = _Builder(loader, place, text)
        node = builder.build(tree, ())
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax_problem(error, place)]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(
            [replace(place, line=line).problem(f"holds a character that YAML forbids: {error.reason}")]
        ) from None
    except RecursionError:
        raise SpecError([place.problem("is nested too deeply")]) from None
    finally:
        if loader is not None:
            loader.dispose()
    if builder.problems:
        raise SpecError(builder.problems)
    return node


class _Builder:
    """Turns composed YAML nodes into `Node`s and collects what is not allowed there."""

    def __init__(self, loader: SpecLoader, place: Place, text: str) -> None:
        self.loader = loader
        self.text = text
        self.place = place
        self.problems: list[Problem] = []
        self.open: set[int] = set()
        self.n_nodes = 0

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Node:
        self.n_nodes += 1
        if id(node) in self.open or self.n_nodes > _MAX_NODES:
            what = "refers to itself" if id(node) in self.open else f"expands to more than {_MAX_NODES} values"
            raise SpecError([self._at(node).problem(what, dotted(path))])
        self.open.add(id(node))
        try:
            return self._build(node, path)
        finally:
            self.open.discard(id(node))

    def _build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Node:
        place = self._at(node)
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node, path), place, raw=node.value)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._complain(node, path, f"the tag '{_short(node.tag)}' is not allowed; write plain data")
        if isinstance(node, yaml.SequenceNode):
            return Node(tuple(self.build(each, (*path, i)) for i, each in enumerate(node.value)), place)
        return Node(self._mapping(node, path), place)

    def _mapping(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            value = self.build(value_node, (*path, key))
            if key in fields:
                first = fields[key].where
                self._complain(
                    key_node, (*path, key), f"the key '{key}' is given twice; it is first given in line {first.line}"
                )
                continue
            fields[key] = replace(value, key_place=self._at(key_node))
        return fields

    def _key(self, node: yaml.Node, path: tuple[str | int, ...]) -> str | None:
        if node.tag == _TAG + "merge":
            self._complain(node, path, "merge keys (<<) are not read; write the fields out")
        elif not isinstance(node, yaml.ScalarNode):
            self._complain(node, path, "a key must be text, got a list or mapping")
        elif node.tag != _TAG + "str":
            self._complain(
                node,
                path,
                f"a key must be text, but YAML reads {node.value or 'an empty key'} as "
                f'{_kind(node.tag)}: quote it ("{node.value}")',
            )
        else:
            return str(node.value)
        return None

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> Scalar:
        kind, text = _short(node.tag), node.value
        try:
            if kind == "str":
                self._check_words_behind(node, path)
                return str(text)
            if kind == "null":
                return None
            if kind == "bool":
                return _BOOLEANS[text.lower()]
            if kind == "int":
                return self._integer(node, path)
            if kind == "float" and math.isfinite(float(text)):
                return float(text)
        except (ValueError, KeyError):
            pass
        if kind in ("bool", "int", "float"):
            text = text if len(text) <= _SHOWN_DIGITS else f"{text[:_SHOWN_DIGITS]}..."
            self._complain(node, path, f"'{text}' is not a finite {_kind(node.tag)} of a size that can be used here")
        elif kind == "merge":
            return str(text)
        else:
            self._complain(node, path, f"the tag '{kind}' is not allowed; write plain data")
        return None

    def _check_words_behind(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> None:
        """Refuses unquoted words that go on with `#Answer:` or the like, which YAML drops as a comment."""
        cut = _HASHED_WORD.match(self.text, node.end_mark.index)
        if node.style is None and " " in node.value and cut:
            self._complain(
                node,
                path,
                f"YAML drops '{cut[1]}' behind these words as a comment: quote the text, or where it is a comment, "
                "write a space after its #",
            )

    def _integer(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> int:
        text = node.value
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
            bare = digits.lstrip("0") or "0"
            self._complain(
                node, path, f'{text} has a leading zero (octal in YAML 1.1): write {bare}, or quote it ("{text}")'
            )
        value = int(text, 0) if digits[:2] in ("0x", "0o") else int(text)
        if abs(value) >= _TOO_LARGE:
            # Neither a count nor a seed is that large, and as a decimal number it would not be exact.
            raise ValueError
        return value

    def _at(self, node: yaml.Node) -> Place:
        mark = node.start_mark
        return replace(self.place, line=mark.line + 1, column=mark.column + 1)

    def _complain(self, node: yaml.Node, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(self._at(node).problem(message, dotted(path)))


def _syntax_problem(error: yaml.MarkedYAMLError, place: Place) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = " ".join(part for part in (error.context, error.problem) if part) or "is not YAML"
    if "'\\t'" in message or "\\t" in message:
        message += "; indent with spaces, not tabs"
    elif "single document" in message:
        message = "holds more than one YAML document; remove the second '---'"
    elif "mapping values are not allowed" in message:
        message += "; quote text that holds ': '"
    if mark is not None:
        place = replace(place, line=mark.line + 1, column=mark.column + 1)
    return place.problem(f"is not valid YAML: {message}")


def _short(tag: Any) -> str:
    return str(tag).removeprefix(_TAG)


def _kind(tag: Hashable) -> str:
    return {"bool": "boolean", "int": "number", "float": "number", "null": "null"}.get(_short(tag), _short(tag))


def _nearest_file(path: Path) -> str:
    try:
        names = [each.name for each in path.absolute().parent.iterdir() if each.suffix in (".yaml", ".yml")]
    except OSError:
        return f"; the folder '{path.parent}' does not exist either"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean '{path.with_name(close[0])}'?" if close else ""
