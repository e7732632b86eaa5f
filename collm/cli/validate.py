"""`collm validate`: reads a spec or suite, reports every mistake, and on request the whole resolved spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import JsonOption, OnlyOption, SetOption, SpecArgument, emit, emit_json, say, state_of
from collm.errors import SpecError

if TYPE_CHECKING:
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec


def validate(
    context: typer.Context,
    spec: SpecArgument,
    overrides: SetOption = None,
    only: OnlyOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the whole spec with the source of each value.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a spec or a suite without running it; all mistakes are reported together.

    Example: collm validate experiments/quickstart.yaml --resolved
    """
    try:
        loaded = state_of(context).load(spec, overrides, only)
    except SpecError as error:
        if not as_json:
            raise
        emit_json(
            {"schema": 1, "file": str(spec), "valid": False, "problems": [asdict(each) for each in error.problems]}
        )
        say(str(error))
        raise typer.Exit(error.exit_code) from error
    runs = _runs(loaded)
    if as_json:
        emit_json({"schema": 1, "file": str(spec), "valid": True, "runs": [_as_data(*each) for each in runs]})
    elif resolved:
        emit("\n---\n".join("\n".join(resolved_lines(key, each)) for key, each in runs))
    else:
        _summarise(spec, runs)


def _runs(loaded: ResolvedSpec | Suite) -> list[tuple[str, ResolvedSpec]]:
    from collm.spec.expand import Suite

    if isinstance(loaded, Suite):
        return [(each.key, each.spec) for each in loaded.runs]
    return [(loaded.name, loaded)]


def _as_data(key: str, spec: ResolvedSpec) -> dict[str, Any]:
    return {"run": key, "spec_hash": spec.spec_hash, "spec": spec.plain(), "sources": dict(spec.sources)}


def _summarise(path: Path, runs: list[tuple[str, ResolvedSpec]]) -> None:
    emit(f"{path}: valid, {len(runs)} run{'s' if len(runs) != 1 else ''}")
    width = max(len(key) for key, _ in runs)
    for key, spec in runs:
        emit(f"  {key.ljust(width)}  {spec.spec_hash}  {_parts(spec)}")


def _parts(spec: ResolvedSpec) -> str:
    named = [
        (path.replace("encoders.", "encoder "), config.name)
        for path, kind, config in spec.components()
        if kind != "prompt"
    ]
    return ", ".join([*(f"{label} {name}" for label, name in named), f"seed {spec.seed}"])


def resolved_lines(key: str, spec: ResolvedSpec) -> Iterator[str]:
    """Gives a resolved spec as YAML lines, each value with its source as a comment.

    Args:
        key: Key of the run in its suite, or the spec's name.
        spec: The resolved spec.
    """
    yield f"# run {key}, spec hash {spec.spec_hash}"
    lines = list(_yaml_lines(spec.plain(), spec.sources, prefix="", indent=0))
    width = min(72, max(len(line) for line, _ in lines))
    for line, source in lines:
        yield f"{line.ljust(width)}  # {source}" if source else line


def _yaml_lines(
    section: Mapping[str, Any], sources: Mapping[str, str], *, prefix: str, indent: int
) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        dotted = f"{prefix}{name}"
        margin = "  " * indent
        if isinstance(value, Mapping) and value:
            yield f"{margin}{name}:", ""
            yield from _yaml_lines(value, sources, prefix=f"{dotted}.", indent=indent + 1)
        else:
            yield f"{margin}{name}: {_inline(value)}", sources.get(dotted, "")


def _inline(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def schema(context: typer.Context) -> None:
    """Print the JSON Schema of a spec, for editors: names and fields of all installed components complete.

    Example: collm schema > collm.schema.json
    """
    from collm.spec.schema import json_schema

    emit_json(json_schema(state_of(context).registry()))
