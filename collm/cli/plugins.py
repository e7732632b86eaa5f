"""`collm plugins`: what is installed, where it comes from, what is broken and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import CliState, JsonOption, RunsDirOption, cache_dir, emit, emit_json, say, state_of
from collm.cli.data_source import choose_run, prepare
from collm.component import KINDS, Component, Kind
from collm.errors import PluginError, UnknownName, UsageError

if TYPE_CHECKING:
    from collm.contracts.encoder import EncoderData
    from collm.plugins import PluginStatus
    from collm.registry import Registry
    from collm.testing.plugin_check import CheckResult

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
KindArgument = Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.", show_default=False)]


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
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            metavar="SPEC",
            help="Check an encoder on rows, ids and attributes of a spec's dataset in place of invented ones; where "
            "the spec's encoder is this one, with its settings.",
            show_default=False,
        ),
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Run the contract of its kind on an installed component; exit code 3 where a promise is broken.

    Needs no pytest. The checks are those of the suites in collm.testing, on tiny data, or on rows of your own
    (`--dataset`), which an encoder needs that reads files of vectors by id.

    Example: collm plugin check encoder mf
    """
    from collm.spec.component_config import component_config
    from collm.testing.plugin_check import check_component

    state = state_of(context)
    component = _component(state, known_kind(kind), name)
    data, settings = (None, {}) if dataset is None else _rows_and_settings(state, component, dataset, runs_dir)
    settings = _settings(overrides or [], settings)
    # What the user gave or left out is the user's mistake, not a broken promise of the plugin.
    component_config(component, settings, state.registry())
    results = check_component(component, registry=state.registry(), settings=settings, cache_dir=cache_dir(), data=data)
    if as_json:
        emit_json(_as_data(component, state, results))
    else:
        _show_checks(component, state, results)
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


def _rows_and_settings(
    state: CliState, component: Component, path: Path, runs_dir: Path
) -> tuple[EncoderData, dict[str, Any]]:
    """Returns rows of a spec's dataset, and the settings of its encoder where it is this component."""
    if component.kind != "encoder":
        raise UsageError(
            f"--dataset: rows of a dataset are for checks of encoders; '{component.name}' is a {component.kind}"
        )
    from collm.spec.fingerprint import dump_config
    from collm.testing.fakes import encoder_data_of

    spec, _ = choose_run(state.load(path, []), None)
    data, _ = prepare(spec, state.registry(), runs_dir)
    rows = encoder_data_of(data, history_items=spec.history.max_items)
    say(f"checked on {len(rows.train.user)} training rows of dataset '{spec.dataset.name}'")
    named = [config for config in spec.all_encoders.values() if config.name == component.name]
    if not named:
        return rows, {}
    settings = dump_config(named[0], locations=True)
    return rows, {field: value for field, value in settings.items() if field != "name"}


def _settings(overrides: Sequence[str], base: Mapping[str, Any]) -> dict[str, Any]:
    """Puts `field=value` texts over settings as `--set` does; relative locations start at the working directory."""
    from collm.spec.node import Place, from_plain
    from collm.spec.override import apply_overrides

    root = apply_overrides(from_plain(dict(base), Place("--set")), overrides, cwd=Path.cwd())
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


def _show_checks(component: Component, state: CliState, results: Sequence[CheckResult]) -> None:
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
