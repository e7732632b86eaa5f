"""`collm fetch`: gets weights and data that a machine without them needs, once, into the user cache."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer

from collm.cli.context import cache_dir, emit, log_lines, mirror, say, state_of
from collm.component import BuildContext, Component, load_attribute
from collm.errors import UsageError
from collm.registry import Registry


def fetch(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Components to fetch.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field of the component that decides what is fetched. Repeatable.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download and convert what a component needs; without a name, list what can be fetched.

    Downloads are resumed, checked, and kept in the user cache (COLLM_CACHE chooses another folder, COLLM_MIRROR an
    address to use in place of the published ones).

    Example: collm fetch smollm2-135m ml-1m
    """
    state = state_of(context)
    registry = state.registry()
    if not names:
        _list_fetchable(registry, settings or [])
        return
    components = [_fetchable(name, registry) for name in dict.fromkeys(names)]
    calls = [(component, _arguments(component, settings or [], registry)) for component in components]
    build_context = BuildContext(cache_dir=cache_dir(), mirror=mirror())
    for component, arguments in calls:
        say(f"{component.name}: fetching into {build_context.cache_dir}")
        function = load_attribute(str(component.fetch), owner=f"{component.kind} '{component.name}'")
        with log_lines(debug=state.debug):
            found = function(build_context, *arguments)
        emit(f"{component.name}: {found}")


def _list_fetchable(registry: Registry, settings: list[str]) -> None:
    if settings:
        raise UsageError("--set belongs to a component: name it, as in collm fetch NAME --set FIELD=VALUE")
    for component in registry.components():
        if component.fetch is not None:
            fields = f"; --set {', '.join(component.fetch_fields)}" if component.fetch_fields else ""
            emit(f"{component.name}  ({component.kind}{fields}) {component.summary}")


def _arguments(component: Component, settings: list[str], registry: Registry) -> tuple[Any, ...]:
    """Returns what the component's fetch function takes after the context."""
    from collm.spec.component_config import component_config
    from collm.spec.override import parse_override

    given: dict[str, Any] = {}
    for text in settings:
        parts, value = parse_override(text, cwd=Path.cwd())
        field = ".".join(parts)
        if field not in component.fetch_fields:
            allowed = ", ".join(component.fetch_fields) or "none"
            raise UsageError(f"--set: '{field}' does not decide what '{component.name}' fetches; fields: {allowed}")
        given[field] = value.plain()
    return (component_config(component, given, registry),) if component.fetch_fields else ()


def _fetchable(name: str, registry: Registry) -> Component:
    known = {component.name: component for component in registry.components() if component.fetch is not None}
    if name in known:
        return known[name]
    if any(component.name == name for component in registry.components()):
        raise UsageError(f"'{name}' has no files to download; downloadable: {', '.join(sorted(known))}")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UsageError(f"unknown download '{name}'; {hint}downloadable: {', '.join(sorted(known))}")
