"""Fields of settings that mean more than their value: places of files, later additions, components inside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

Kind = Literal["dataset", "encoder", "backbone", "tuning", "prompt", "metric", "sampler", "pruner"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ADDED = "x-collm-added"
_ADDRESSES = "x-collm-addresses"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def location_field(default: Any = None, *, description: str, files: Sequence[str] = (), addresses: bool = False) -> Any:
    """A pydantic field that says where something lies, not what it is.

    Such a field is resolved against the YAML file that holds it. Its path never enters a fingerprint; the contents of
    the file or folder do. A field whose type mentions `Path` counts as one however it was made.

    Args:
        default: Value when the user gives none.
        description: Description shown in schema and docs.
        files: Which files of a folder decide results, as patterns, e.g. `*.safetensors`; empty = all that lie in it.
        addresses: Whether it may hold an address or a pattern of names (type `Path | str`), which the component itself
            looks at and, by content, hashes.
    """
    extra: dict[str, Any] = {"x-collm-location": True}
    if addresses:
        extra[_ADDRESSES] = True
    if files:
        extra["x-collm-files"] = list(files)
    return Field(default=default, description=description, json_schema_extra=extra)


def added_field(default: Any, *, description: str, **bounds: Any) -> Any:
    """A pydantic field that its class did not always have: with its default, it is not part of any fingerprint.

    So finished work of specs from before the field, and of those that leave it as it is, stays theirs.

    Args:
        default: What was done before there was the field.
        description: Description shown in schema and docs.
        bounds: Bounds of the value, as pydantic's `Field` takes them.
    """
    return Field(default=default, description=description, json_schema_extra={_ADDED: True}, **bounds)


def is_added(info: FieldInfo) -> bool:
    """Whether a pydantic field was made by `added_field`."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(_ADDED))


def is_location(info: FieldInfo) -> bool:
    """Whether a pydantic field says where something lies: made by `location_field`, or of a type with `Path` in it."""
    extra = info.json_schema_extra
    return (isinstance(extra, dict) and bool(extra.get("x-collm-location"))) or mentions_path(info.annotation)


def is_address(text: object) -> bool:
    """Whether a text is an address such as `https://...` or `s3://...`, and not a path."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern of names: it holds `*`, `?` or `[`, and there is nothing of that very name."""
    return any(character in str(path) for character in "*?[") and not path.exists()


def mentions_path(annotation: Any) -> bool:
    """Whether a type annotation mentions a path, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return True
    return any(mentions_path(part) for part in get_args(annotation))


@dataclass(frozen=True)
class Location:
    """One place that a config names.

    Attributes:
        field: Dotted path of the field within the config, with a number or key where it holds several.
        path: The place.
        files: Patterns of the files of a folder that count; empty = all.
        owner: Kind of the component whose own field it is.
        is_own: Whether it is an address or a pattern, which the component itself looks at and hashes.
    """

    field: str
    path: Path
    files: tuple[str, ...]
    owner: Kind
    is_own: bool = False


def locations(config: BaseModel, kind: Kind, prefix: str = "") -> Iterator[Location]:
    """Yields every place that a component's config names, those of the components inside it included.

    Args:
        config: The config, or a part of one.
        kind: Kind of the component.
        prefix: Dotted path of the config, with a dot at its end.
    """
    for name, info in type(config).model_fields.items():
        value, at = getattr(config, name), f"{prefix}{name}"
        if is_location(info):
            extra: Any = info.json_schema_extra
            more = extra if isinstance(extra, dict) else {}
            files, may_be_own = tuple(more.get("x-collm-files", ())), bool(more.get(_ADDRESSES))
            for field, place in _paths(value, at):
                is_own = may_be_own and (is_address(place) or is_pattern(Path(place)))
                yield Location(field, Path(place), files, kind, is_own)
        else:
            yield from _inner_locations(value, component_kind(info.json_schema_extra) or kind, at)


def _paths(value: Any, at: str) -> Iterator[tuple[str, str | PurePath]]:
    if isinstance(value, str | PurePath) and str(value):
        yield at, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _paths(each, f"{at}.{key}")
    elif isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        for number, each in enumerate(sorted(value) if isinstance(value, Set) else value):
            yield from _paths(each, f"{at}[{number}]")


def _inner_locations(value: Any, kind: Kind, at: str) -> Iterator[Location]:
    if isinstance(value, BaseModel):
        yield from locations(value, kind, f"{at}.")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _inner_locations(each, kind, f"{at}.{key}")
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _inner_locations(each, kind, f"{at}[{number}]")


def component_field(kind: Kind, default: Any = ..., *, description: str, gives: frozenset[str] = frozenset()) -> Any:
    """A pydantic field that holds another component, e.g. `text_backbone: BackboneConfig`.

    The annotation is the kind's base config class (or that class | None); the spec layer looks the `name` up in the
    registry and puts the named component's own config there. Where a profile of the outer component fills
    `<field>.name`, the user may leave the name out. The factory builds the component with `BuildContext.component`.

    Args:
        kind: Kind of the component that may appear there.
        default: None where the field may stay empty; required otherwise.
        description: Description shown in schema and docs.
        gives: What a component must give to appear there.
    """
    extra: dict[str, Any] = {"x-collm-component": kind}
    if gives:
        extra["x-collm-gives"] = sorted(gives)
    return Field(default=default, description=description, json_schema_extra=extra)


def component_kind(extra: Any) -> Kind | None:
    """The kind that `component_field` wrote into a pydantic field's `json_schema_extra`; None for other fields."""
    return extra.get("x-collm-component") if isinstance(extra, dict) else None


def component_gives(extra: Any) -> frozenset[str]:
    """What `component_field` wrote that a component must give; empty for other fields."""
    return frozenset(extra.get("x-collm-gives", ())) if isinstance(extra, dict) else frozenset()


def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Every pydantic model that a type annotation mentions, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in models_in(part))
