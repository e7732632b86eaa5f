"""`collm plugins`: what is installed, where it comes from, what is broken and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import JsonOption, emit, emit_json, state_of
from collm.cli.plugin import known_kind
from collm.component import KINDS, Component

if TYPE_CHECKING:
    from collm.plugins import PluginStatus
    from collm.registry import Registry


def plugins(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(help=f"Show the components of one kind: {', '.join(KINDS)}.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Argument(help="Show one component and its fields.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List plugins, the components of a kind, or the fields of one component.

    Example: collm plugins encoder mf
    """
    registry = state_of(context).registry()
    if kind is None:
        statuses = [_plugin_data(status, registry) for status in registry.host.statuses]
        emit_json({"schema": 1, "plugins": statuses}) if as_json else _list_plugins(statuses)
        return
    checked = known_kind(kind)
    if name is None:
        found = [_component_data(each, registry) for each in registry.components(checked)]
        emit_json({"schema": 1, "components": found}) if as_json else _list_components(found)
        return
    component = registry.get(checked, name)
    data = _component_data(component, registry) | {"fields": list(_fields(component))}
    emit_json({"schema": 1, **data}) if as_json else _show(data)


def _plugin_data(status: PluginStatus, registry: Registry) -> dict[str, Any]:
    given = [
        {"kind": component.kind, "name": component.name}
        for component, origin in registry.host.components()
        if origin == status
    ]
    return {
        "name": status.name,
        "distribution": status.distribution,
        "version": status.version,
        "module": status.module,
        "ok": status.ok,
        "cause": status.cause,
        "hooks": list(status.hooks),
        "components": given,
    }


def _component_data(component: Component, registry: Registry) -> dict[str, Any]:
    origin = registry.origin(component.kind, component.name)
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "gives": sorted(component.gives),
        "needs": sorted(component.needs),
        "floor": component.floor,
        "fetch": component.fetch is not None,
        "plugin": origin.name,
        "distribution": origin.distribution,
        "version": origin.version,
    }


def _fields(component: Component) -> list[dict[str, Any]]:
    from pydantic_core import PydanticUndefined, to_jsonable_python

    from collm.spec.profiles import component_defaults

    # What the profile fills is a default to the user, as the name of a component inside is.
    filled: dict[str, dict[str, Any]] = {}
    for path, value in component_defaults(component, "recommended", {}).items():
        head, _, rest = path.partition(".")
        if rest:
            filled.setdefault(head, {})[rest] = value
    return [
        {
            "name": name,
            "default": filled.get(name)
            if field.is_required() or field.default is PydanticUndefined
            else to_jsonable_python(field.default),
            "required": field.is_required() and name not in filled,
            "description": field.description or "",
        }
        for name, field in component.config.model_fields.items()
        if name != "name"
    ]


def _list_plugins(statuses: list[dict[str, Any]]) -> None:
    for status in statuses:
        owner = " ".join(part for part in (status["distribution"], status["version"]) if part)
        if status["ok"]:
            given = ", ".join(f"{each['kind']} {each['name']}" for each in status["components"]) or "observers only"
        else:
            given = f"BROKEN: {status['cause']}"
        emit(f"{status['name']}  ({owner})  {given}")


def _list_components(found: list[dict[str, Any]]) -> None:
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        emit(f"{each['name'].ljust(width)}  {each['summary']}")


def _show(data: dict[str, Any]) -> None:
    emit(f"{data['kind']} {data['name']}: {data['summary']}")
    emit(f"from plugin {data['plugin']} ({data['distribution']} {data['version']})")
    for key in ("gives", "needs"):
        if data[key]:
            emit(f"{key}: {', '.join(data[key])}")
    for field in data["fields"]:
        value = "required" if field["required"] else f"default {field['default']}"
        emit(f"  {field['name']}: {field['description']} ({value})")
