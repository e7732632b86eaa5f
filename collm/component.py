"""A component: one named implementation of one kind, described without importing its heavy code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from collm.errors import PluginError

Kind = Literal["dataset", "encoder", "backbone", "tuning", "prompt", "metric", "sampler", "pruner"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ADDED = "x-collm-added"
_ADDRESSES = "x-collm-addresses"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ComponentConfig(BaseModel):
    """Base of every component's settings: unknown fields are refused, values are frozen.

    Every field of a subclass carries a `description` that states its unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    name: str = Field(description="Registered name of the component.")

    def warnings(self) -> tuple[str, ...]:
        """Returns sentences that a user should read before running with these settings; none by default."""
        return ()

    def look(self) -> Iterable[tuple[str, str]]:
        """Returns what is wrong outside of the settings as (field, sentence); none by default.

        Asked by `collm validate` and before a run starts: names and headers of files may be read, no whole files.
        """
        return ()


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
        kind: Kind of the component that may stand there.
        default: None where the field may stay empty; required otherwise.
        description: Description shown in schema and docs.
        gives: What a component must give to stand there.
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


def inner_components(config: BaseModel) -> Iterator[tuple[Kind, ComponentConfig]]:
    """Yields kind and config of every component held in a config's fields, theirs included, in field order."""
    for name, info in type(config).model_fields.items():
        kind = component_kind(info.json_schema_extra)
        for below in _models_held(getattr(config, name)):
            if kind is not None and isinstance(below, ComponentConfig):
                yield kind, below
            yield from inner_components(below)


def _models_held(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _models_held(each)


def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Every pydantic model that a type annotation mentions, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in models_in(part))


@dataclass(frozen=True)
class BuildContext:
    """What a factory may know of the machine and of other components.

    Attributes:
        cache_dir: User cache for downloads and converted weights; may not exist yet.
        find: (kind, name) -> component, as `Registry.get`; None where there is no registry.
        mirror: Base address that `fetch` functions use in place of the published ones; None = the published ones.
    """

    cache_dir: Path
    find: Callable[[Kind, str], Component] | None = None
    mirror: str | None = None

    def component(self, kind: Kind, name: str) -> Component:
        """Returns the component that a field made by `component_field` names, so that a factory can build it.

        Raises:
            UnknownName: If there is no such component.
            PluginError: If the context was made without a registry.
        """
        if self.find is None:
            raise PluginError(
                f"{kind} '{name}' cannot be built inside another component: this context was made without a registry; "
                "make it with BuildContext(cache_dir=..., find=registry.get)"
            )
        return self.find(kind, name)


@dataclass(frozen=True)
class Component:
    """One registered implementation.

    Attributes:
        kind: What it is.
        name: Lower-case name with hyphens, unique within its kind.
        factory: `"package.module:function"`, imported when the component is first built. Signatures by kind stand in
            `collm.contracts`.
        config: Settings class; importing it must not import torch.
        summary: One line for lists and schema.
        needs: What it reads beyond (user, item, label): `history`, `graph`, `text`, ...; of samplers: what a study has.
        gives: Encoders only: a subset of `scores`, `vectors`, `llm-tokens`.
        floor: Encoders only: shown as a floor in every results table.
        ranking_floor: Encoders only: shown as a floor in every table of `evaluate.ranking`.
        measures: Metrics only: `rows` (labelled rows), `lists` (ranked candidates of `evaluate.ranking`), or both.
        profiles: Profile name -> dotted field of `config` -> value, used where the user gives none. The config class's
            own defaults are the `recommended` profile.
        dataset_profiles: Dataset name -> the same as `profiles`, laid over it where the spec's dataset has that name.
        version: Raised when what it computes changes: finished work of another version is not reused. Where a
            distribution other than `collm` is installed editable, its sources count instead.
        fetch: `"package.module:function"` called as `fetch(context: BuildContext) -> Path` by `collm fetch NAME`.
        fetch_fields: Fields of `config` that decide what is fetched. Where there are any, `fetch` is called as
            `fetch(context, config)`, and a user gives them as `collm fetch NAME --set FIELD=VALUE`.
    """

    kind: Kind
    name: str
    factory: str
    config: type[ComponentConfig]
    summary: str
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    floor: bool = False
    ranking_floor: bool = False
    measures: frozenset[str] = frozenset({"rows"})
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_profiles: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    version: int = 1
    fetch: str | None = None
    fetch_fields: tuple[str, ...] = ()

    def load_factory(self) -> Callable[..., Any]:
        """Imports and returns the factory.

        Raises:
            PluginError: If the module cannot be imported or has no such attribute.
        """
        return load_attribute(self.factory, owner=f"{self.kind} '{self.name}'")


def load_attribute(reference: str, *, owner: str) -> Callable[..., Any]:
    """Imports `"module:attribute"`.

    Args:
        reference: Module path, colon, attribute name.
        owner: Who asks, for the message.

    Raises:
        PluginError: If the reference has no colon, the module cannot be imported, or the attribute is missing.
    """
    module_name, colon, attribute = reference.partition(":")
    if not colon:
        raise PluginError(f"{owner}: factory must be 'module:function', got '{reference}'")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PluginError(f"{owner}: cannot import '{module_name}': {error}") from error
    try:
        target: Callable[..., Any] = getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(f"{owner}: module '{module_name}' has no attribute '{attribute}'") from error
    return target
