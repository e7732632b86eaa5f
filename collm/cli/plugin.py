"""`collm plugin`: start a plugin of your own, and check one that is installed against its contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import CliState, JsonOption, cache_dir, emit, emit_json, say, state_of
from collm.component import KINDS, Component, Kind
from collm.errors import PluginError, UnknownName, UsageError

if TYPE_CHECKING:
    from collm.testing.plugin_check import CheckResult

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

KindArgument = Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.", show_default=False)]


@app.callback()
def plugin() -> None:
    """Write a plugin package of your own, or check an installed plugin against the contract of its kind.

    Example: collm plugin new encoder my-model
    """


@app.command("new")
def new(
    context: typer.Context,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(help="Name of the component, e.g. my-model.", show_default=False)],
) -> None:
    """Write a complete, installable package into ./collm-NAME: code, settings, tests and README.

    Example: collm plugin new encoder my-model
    """
    from collm.scaffold.new_plugin import write_plugin

    written = write_plugin(known_kind(kind), name, registry=state_of(context).registry(), parent=Path())
    for path in written:
        emit(str(path))
    folder = written[0].parts[0]
    say(f"next: pip install -e './{folder}[dev]' && collm plugin check {known_kind(kind)} {name}")


@app.command("check")
def check(
    context: typer.Context,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(help="Name of an installed component.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a field of the component, e.g. `embedding_size=8` or `path=data`. Repeatable.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the contract of its kind on an installed component; exit code 3 where a promise is broken.

    Needs no pytest. The checks are those of the suites in collm.testing, on tiny data.

    Example: collm plugin check encoder mf
    """
    from collm.spec.component_config import component_config
    from collm.testing.plugin_check import check_component

    state = state_of(context)
    component = _component(state, known_kind(kind), name)
    settings = _settings(overrides or [])
    required = [name for name, field in component.config.model_fields.items() if name != "name" and field.is_required()]
    if settings or required:
        # What the user gave or left out is the user's mistake, not a broken promise of the plugin.
        component_config(component, settings, state.registry())
    results = check_component(component, registry=state.registry(), settings=settings, cache_dir=cache_dir())
    if as_json:
        emit_json(_as_data(component, state, results))
    else:
        _show(component, state, results)
    if state.debug:
        for each in results:
            if each.traceback:
                say(each.traceback)
    if not all(each.ok for each in results):
        raise typer.Exit(PluginError.exit_code)


def known_kind(kind: str) -> Kind:
    """Returns a kind given in the singular or plural.

    Raises:
        UsageError: If there is no such kind.
    """
    for known in KINDS:
        if kind in (known, f"{known}s"):
            return known
    raise UsageError(f"unknown kind '{kind}'; kinds: {', '.join(KINDS)}")


def _component(state: CliState, kind: Kind, name: str) -> Component:
    """Finds the component; a plugin that is called like it and did not load is a failed check, not an unknown name."""
    registry = state.registry()
    try:
        return registry.get(kind, name)
    except UnknownName as error:
        broken = registry.broken_plugins(name)
        if not broken:
            raise
        causes = "; ".join(f"{status.label()} did not load: {status.cause}" for status in broken)
        raise PluginError(f"{kind} '{name}': {causes}") from error


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Reads `field=value` texts as a spec's `--set` does; relative locations start at the working directory."""
    from collm.spec.node import Node, Place
    from collm.spec.override import apply_overrides

    root = apply_overrides(Node({}, Place("--set")), overrides, cwd=Path.cwd())
    settings: dict[str, Any] = root.plain()
    return settings


def _as_data(component: Component, state: CliState, results: Sequence[CheckResult]) -> dict[str, Any]:
    origin = state.registry().origin(component.kind, component.name)
    return {
        "schema": 1,
        "kind": component.kind,
        "name": component.name,
        "plugin": origin.name,
        "distribution": origin.distribution,
        "version": origin.version,
        "ok": all(each.ok for each in results),
        "checks": [
            {"name": each.name, "promise": each.promise, "ok": each.ok, "fault": each.fault} for each in results
        ],
    }


def _show(component: Component, state: CliState, results: Sequence[CheckResult]) -> None:
    origin = state.registry().origin(component.kind, component.name)
    n_kept = sum(each.ok for each in results)
    emit(f"{component.kind} {component.name}, {origin.label()}: {n_kept} of {len(results)} checks pass")
    shown: dict[str, str] = {}
    for each in results:
        emit(f"{'ok  ' if each.ok else 'FAIL'}  {each.promise}")
        if not each.ok:
            again = shown.get(each.fault)
            emit(f"      {f'the same fault as in {again}' if again else f'{each.name}: {each.fault}'}")
            shown.setdefault(each.fault, each.name)
