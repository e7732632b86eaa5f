"""`collm fetch`: gets weights and data that a machine without them needs, once, into the user cache."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from collm.cli.context import cache_dir, emit, say, state_of
from collm.component import BuildContext, Component, load_attribute
from collm.errors import UsageError
from collm.registry import Registry


def fetch(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Components to fetch.", show_default=False)
    ] = None,
) -> None:
    """Download and convert what a component needs; without a name, list what can be fetched.

    Files are checked against their sha256 and kept in the user cache (COLLM_CACHE chooses another folder).

    Example: collm fetch smollm2-135m movielens-small
    """
    registry = state_of(context).registry()
    if not names:
        for component in registry.components():
            if component.fetch is not None:
                emit(f"{component.name}  ({component.kind}) {component.summary}")
        return
    build_context = BuildContext(cache_dir=cache_dir())
    for component in [_fetchable(name, registry) for name in names]:
        say(f"{component.name}: fetching into {build_context.cache_dir}")
        function = load_attribute(str(component.fetch), owner=f"{component.kind} '{component.name}'")
        emit(f"{component.name}: {function(build_context)}")


def _fetchable(name: str, registry: Registry) -> Component:
    known = {component.name: component for component in registry.components() if component.fetch is not None}
    if name in known:
        return known[name]
    if any(component.name == name for component in registry.components()):
        raise UsageError(f"'{name}' needs nothing fetched; what can be fetched: {', '.join(sorted(known))}")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UsageError(f"nothing to fetch is called '{name}'; {hint}what can be fetched: {', '.join(sorted(known))}")
