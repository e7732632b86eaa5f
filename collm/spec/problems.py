"""pydantic's errors -> located problems in the user's terms."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from collm.component import models_in
from collm.errors import Problem
from collm.spec.node import Node, Path_, Place, dotted

_EXPECTED = {
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "string_type": "must be text",
    "path_type": "must be text (a path)",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "none_required": "must be null",
    "finite_number": "must be a finite number",
}
_TEXT_TYPES = {"string_type", "path_type", "literal_error", "enum", "date_type", "date_from_datetime_parsing"}


def nearest(name: str, allowed: Sequence[str]) -> str:
    """Returns `did you mean 'x'? ` or nothing, for the end of a message's first sentence."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown_key(key: str, allowed: Sequence[str], *, what: str = "field") -> str:
    """Returns the message for an unknown key."""
    hint = nearest(key, allowed)
    return f"unknown {what} '{key}'{hint or ';'} allowed: {', '.join(sorted(allowed))}"


def problems_of(error: ValidationError, model: type[BaseModel], node: Node, prefix: Path_) -> list[Problem]:
    """Translates every error of one validation; errors of the branches of one union become one problem.

    Args:
        error: What pydantic raised.
        model: The class that was validated.
        node: The tree that its data came from.
        prefix: Path of `node` inside the document.
    """
    found: dict[tuple[str, Place], list[str]] = {}
    details = error.errors(include_url=False, include_context=True)
    for detail in details:
        if detail["type"] == "too_short" and any(_is_inside(other, detail) for other in details):
            continue  # short only because its items were refused
        path, place, message = _translate(detail, model, node, prefix)
        messages = found.setdefault((dotted((*prefix, *path)), place), [])
        if message not in messages:
            messages.append(message)
    return [place.problem(_joined(messages), path) for (path, place), messages in found.items()]


def _is_inside(other: ErrorDetails, detail: ErrorDetails) -> bool:
    return len(other["loc"]) > len(detail["loc"]) and other["loc"][: len(detail["loc"])] == detail["loc"]


def _joined(messages: Sequence[str]) -> str:
    first, *rest = messages
    start = first.partition(", ")[0] + ", "
    return first + "".join(f", or {message.removeprefix(start)}" for message in rest)


def _translate(detail: ErrorDetails, model: type[BaseModel], node: Node, prefix: Path_) -> tuple[Path_, Place, str]:
    path = _path_in(node, detail["loc"], detail["type"])
    at = node.nearest(path)
    if detail["type"] == "extra_forbidden":
        parent = node.nearest(path[:-1])
        return path, at.where, _unknown_field(path, prefix, parent, _models_at(model, path[:-1]))
    if detail["type"] == "missing":
        return path, at.where, _missing(str(path[-1]), _models_at(model, path[:-1]))
    return path, at.place, _wrong_value(detail, at if node.find(path) is not None else None)


def _path_in(node: Node, loc: tuple[int | str, ...], kind: str) -> Path_:
    """The part of pydantic's location that exists in the document; names of union branches fall out."""
    path: list[str | int] = []
    at: Node | None = node
    for index, part in enumerate(loc):
        below = at.child(part) if at is not None else None
        last = index == len(loc) - 1
        if below is not None or (last and kind == "missing"):
            path.append(part)
            at = below
        elif last and at is not None and at.fields and isinstance(part, str) and part.isidentifier():
            path.append(part)  # a default that its own class refuses
    return tuple(path)


def _models_at(model: type[BaseModel], path: Path_) -> list[type[BaseModel]]:
    models = [model]
    for part in path:
        if isinstance(part, str):
            fields = [each.model_fields[part] for each in models if part in each.model_fields]
            models = [below for field in fields for below in models_in(field.annotation)] or models
    return models


def _unknown_field(path: Path_, prefix: Path_, parent: Node, models: Sequence[type[BaseModel]]) -> str:
    key, section = str(path[-1]), dotted((*prefix, *path[:-1]))
    allowed = sorted({name for model in models for name in model.model_fields})
    message = unknown_key(key, allowed)
    deeper = [path for model in models for path in _nested(model) if path.rpartition(".")[2] == key]
    if deeper:
        message = f"unknown field '{key}' here; did you mean '{deeper[0]}'? allowed: {', '.join(allowed)}"
    if "." in key:
        message += "; a dotted name is for --set only, nest the fields in YAML"
    name, field = parent.fields.get("name"), parent.fields.get(key)
    if name is not None and field is not None and name.place.file != field.place.file and name.place.origin == "--set":
        message += (
            f". --set {section}.name={name.value} keeps the fields of the file; to replace the whole section write "
            f"--set '{section}={{name: {name.value}}}'"
        )
    return message


def _nested(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        for below in models_in(field.annotation):
            for inner in below.model_fields:
                yield f"{prefix}{name}.{inner}"


def _missing(key: str, models: Sequence[type[BaseModel]]) -> str:
    described = [model.model_fields[key].description for model in models if key in model.model_fields]
    return f"required field is missing: {described[0]}" if described and described[0] else "required field is missing"


def _wrong_value(detail: ErrorDetails, at: Node | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    message = _EXPECTED.get(kind) or _rule(detail["msg"])
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        message = f"must be one of: {', '.join(choices) or context.get('expected', '')}"
        if at is not None and isinstance(at.value, str):
            message += nearest(at.value, choices)
    if at is None:
        return f"the default does not fit: {message}"
    return f"got {at.shown()}, {message}{_advice(kind, at)}"


def _rule(message: str) -> str:
    for start in ("Value error, ", "Assertion failed, "):
        if message.startswith(start):
            return message.removeprefix(start)
    message = re.sub(r"^\w+ should", "must", message)
    return message[:1].lower() + message[1:]


def _advice(kind: str, at: Node) -> str:
    value: Any = at.value
    if kind in _TEXT_TYPES and isinstance(value, bool):
        return f'; YAML reads {at.raw} as a boolean: quote it ("{at.raw}")'
    if kind in ("string_type", "path_type") and isinstance(value, int | float):
        return f'; to have it as text, quote it ("{at.raw}")'
    if kind in ("int_type", "int_from_float") and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if (
        kind in ("int_type", "float_type")
        and isinstance(value, str)
        and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value)
    ):
        return "; remove the quotes"
    if kind == "bool_type" and value in ("true", "false"):
        return "; remove the quotes"
    return ""
