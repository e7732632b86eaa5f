"""A component: one named implementation of one kind, described without importing its heavy code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from collm.config_fields import (
    KINDS,
    Kind,
    Location,
    added_field,
    component_field,
    component_gives,
    component_kind,
    is_added,
    is_address,
    is_location,
    is_pattern,
    location_field,
    locations,
    mentions_path,
    models_in,
)
from collm.errors import PluginError

__all__ = [
    "BuildContext",
    "Component",
    "ComponentConfig",
    "KINDS",
    "Kind",
    "Location",
    "added_field",
    "component_field",
    "component_gives",
    "component_kind",
    "inner_components",
    "is_added",
    "is_address",
    "is_location",
    "is_pattern",
    "load_attribute",
    "location_field",
    "locations",
    "mentions_path",
    "models_in",
]


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
        factory: `"package.module:function"`, imported when the component is first built. Signatures by kind appear in
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
