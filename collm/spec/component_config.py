"""One mapping of the document -> one validated config, with components inside components and located paths."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from collm.component import (
    Component,
    ComponentConfig,
    Kind,
    component_gives,
    component_kind,
    is_address,
    is_location,
    mentions_path,
    models_in,
)
from collm.contracts.component_check import CONFIG_BASES
from collm.errors import Problem, SpecError, UnknownName
from collm.registry import Registry
from collm.spec.fingerprint import dump_config
from collm.spec.model import Profile
from collm.spec.node import Node, Path_, Place, dotted, from_plain
from collm.spec.override import set_at
from collm.spec.problems import problems_of
from collm.spec.profiles import component_defaults, section_defaults


def find_component(
    kind: Kind, node: Node, registry: Registry, path: Path_, problems: list[Problem]
) -> Component | None:
    """Looks up the component that a section names; says what is wrong where it cannot.

    Args:
        kind: Kind of the section.
        node: The section.
        registry: Where names are looked up.
        path: Path of the section.
        problems: Takes what is wrong.
    """
    choices = f"installed: {', '.join(registry.names(kind)) or 'none'}"
    if not isinstance(node.value, Mapping):
        as_name = f"; write {{name: {node.value}}}" if isinstance(node.value, str) else ""
        message = f"got {node.shown()}, must be a mapping with the {kind}'s `name`{as_name}; {choices}"
        problems.append(node.place.problem(message, dotted(path)))
        return None
    name = node.fields.get("name")
    if name is None:
        problems.append(node.where.problem(f"`name` of the {kind} is missing; {choices}", dotted((*path, "name"))))
        return None
    if not isinstance(name.value, str):
        quoted = f' (quote it: "{name.raw}")' if isinstance(name.value, int | float) else ""
        message = f"got {name.shown()}, must be the {kind}'s name{quoted}; {choices}"
        problems.append(name.place.problem(message, dotted((*path, "name"))))
        return None
    try:
        return registry.get(kind, name.value)
    except UnknownName as error:
        problems.append(name.place.problem(error.problems[0].message, dotted((*path, "name"))))
        return None


def fill_section(section: str, model: type[BaseModel], node: Node, profile: Profile, names: Mapping[str, str]) -> Node:
    """Returns a core section with the profile's values where the user gave none; `names`: see `section_names`."""
    return _fill(node, dict(section_defaults(section, model, profile, names)), profile)


def section_names(root: Node) -> dict[str, str]:
    """Returns section -> name of its component, for those that a document names."""
    written = {key: node.fields.get("name") for key, node in root.fields.items()}
    return {key: node.value for key, node in written.items() if node is not None and isinstance(node.value, str)}


def fill_component(
    component: Component, node: Node, registry: Registry, profile: Profile, names: Mapping[str, str]
) -> Node:
    """Returns a component's section with the profile's values where the user gave none, inner components included."""
    node = _fill(node, component_defaults(component, profile, names), profile)
    for key, info in component.config.model_fields.items():
        kind, below = component_kind(info.json_schema_extra), node.fields.get(key)
        if kind is None or below is None or not below.fields:
            continue
        inner = find_component(kind, below, registry, (), [])
        if inner is not None:
            node = node.with_fields({**node.fields, key: fill_component(inner, below, registry, profile, names)})
    return node


def component_config(
    component: Component, settings: Mapping[str, Any], registry: Registry, *, profile: Profile = "recommended"
) -> ComponentConfig:
    """Returns a component's validated config from plain settings, as a spec with these fields would give it.

    Args:
        component: The component.
        settings: Its fields without `name`; components inside are mappings with their own `name`.
        registry: Where components inside are looked up.
        profile: Fills what the settings leave out.

    Raises:
        SpecError: With every problem of the settings.
    """
    place = Place(f"{component.kind} '{component.name}'", origin="settings")
    node = fill_component(component, from_plain({"name": component.name, **settings}, place), registry, profile, {})
    reader = ConfigReader(registry)
    config = reader.read(component.config, node, (component.kind,))
    if reader.problems:
        raise SpecError(reader.problems)
    assert isinstance(config, component.config)
    return config


def _fill(node: Node, values: Mapping[str, Any], profile: Profile) -> Node:
    origin = f"profile {profile}"
    for path, value in values.items():
        parts = path.split(".")
        if node.find(parts) is None and isinstance(node.nearest(parts).value, Mapping):
            node = set_at(node, parts, from_plain(value, Place(origin, folder=node.place.folder, origin=origin)))
    return node


@dataclass
class ConfigReader:
    """Validates sections and collects their problems.

    Attributes:
        registry: Where components inside components are looked up.
        problems: What was found so far.
    """

    registry: Registry
    problems: list[Problem] = field(default_factory=list)

    def read(self, model: type[BaseModel], node: Node, path: Path_) -> Any:
        """Returns the validated config, None where it has problems.

        Values are checked as strict JSON, so quoted numbers, `1.0` for a count, and booleans for numbers are refused.
        """
        n_before = len(self.problems)
        inner: dict[Path_, BaseModel | None] = {}
        data = self._prepare(model, node, path, (), inner)
        try:
            config = model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            found = problems_of(error, model, node, path)
            # The inner component's own class has said what is wrong there, if anything is.
            below = [dotted((*path, *key)) for key, each in inner.items() if each is None]
            self.problems.extend(p for p in found if not any(_is_below(p.path, each) for each in below))
            return None
        if len(self.problems) > n_before:
            return None
        return _with_inner(config, {key: each for key, each in inner.items() if each is not None})

    def _prepare(
        self, model: type[BaseModel], node: Node, path: Path_, own: Path_, inner: dict[Path_, BaseModel | None]
    ) -> Any:
        data: dict[str, Any] = {}
        for key, below in node.fields.items():
            info = model.model_fields.get(key)
            here = (*own, key)
            kind = component_kind(info.json_schema_extra) if info is not None else None
            if info is None:
                data[key] = below.plain()
            elif is_location(info) and mentions_path(info.annotation):
                data[key] = self._located(below, (*path, *here))
            elif kind is not None and below.value is not None:
                gives = component_gives(info.json_schema_extra)
                data[key] = self._component(kind, below, path, here, inner, gives=gives)
            else:
                data[key] = self._below(info.annotation, below, path, here, inner)
        return data if isinstance(node.value, Mapping) else node.plain()

    def _below(self, annotation: Any, node: Node, path: Path_, own: Path_, inner: dict[Path_, BaseModel | None]) -> Any:
        models = models_in(annotation)
        if not models or node.value is None:
            return node.plain()
        if isinstance(node.value, tuple):
            return [self._below(annotation, each, path, (*own, i), inner) for i, each in enumerate(node.value)]
        if _is_mapping_type(annotation):
            return {key: self._below(models[0], each, path, (*own, key), inner) for key, each in node.fields.items()}
        fitting = max(models, key=lambda model: len(node.fields.keys() & model.model_fields.keys()))
        return self._prepare(fitting, node, path, own, inner)

    def _component(
        self,
        kind: Kind,
        node: Node,
        path: Path_,
        own: Path_,
        inner: dict[Path_, BaseModel | None],
        *,
        gives: frozenset[str],
    ) -> Any:
        component = find_component(kind, node, self.registry, (*path, *own), self.problems)
        if component is not None and not gives <= component.gives:
            others = [each.name for each in self.registry.components(kind) if gives <= each.gives]
            message = (
                f"'{component.name}' gives {', '.join(sorted(component.gives)) or 'nothing'}; here "
                f"{' and '.join(sorted(gives))} are needed, which these give: {', '.join(others) or 'none'}"
            )
            self.problems.append(node.nearest(("name",)).place.problem(message, dotted((*path, *own, "name"))))
        config = self.read(component.config, node, (*path, *own)) if component is not None else None
        inner[own] = config
        if config is None:
            return node.plain()
        # The outer class knows only the base class, so it gets that class's fields; the config is put in afterwards.
        known = CONFIG_BASES[kind].model_fields
        return {key: value for key, value in dump_config(config, locations=True).items() if key in known}

    def _located(self, node: Node, path: Path_) -> Any:
        """Resolves the relative paths of a location field against the folder of the file that holds them."""
        if isinstance(node.value, tuple):
            return [self._located(each, path) for each in node.value]
        if isinstance(node.value, Mapping):
            return {key: self._located(each, path) for key, each in node.fields.items()}
        if not isinstance(node.value, str) or not node.value or is_address(node.value):
            return node.plain()
        try:
            # abspath and not resolve(): a link into a store of nameless blobs must keep the name that the user sees.
            return os.path.abspath(node.place.folder / Path(node.value).expanduser())
        except RuntimeError as error:
            self.problems.append(node.place.problem(f"cannot expand '{node.value}': {error}", dotted(path)))
            return node.plain()


def _with_inner(config: BaseModel, inner: Mapping[Path_, BaseModel]) -> BaseModel:
    """Puts the components' own configs where the outer class validated only their base fields."""
    updates: dict[str, Any] = {}
    for path, each in inner.items():
        key = str(path[0])
        current = updates.get(key, getattr(config, key))
        updates[key] = each if len(path) == 1 else _with_inner(current, {path[1:]: each})
    return config.model_copy(update=updates) if updates else config


def _is_below(path: str, parent: str) -> bool:
    return path == parent or path.startswith((parent + ".", parent + "["))


def _is_mapping_type(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return origin is not None and any(_is_mapping_type(part) for part in get_args(annotation) if get_origin(part))
