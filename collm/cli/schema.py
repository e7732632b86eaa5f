"""`collm schema`: the JSON Schema of a spec over all installed components."""

from __future__ import annotations

import typer

from collm.cli.context import emit_json, state_of


def schema(context: typer.Context) -> None:
    """Print the JSON Schema of a spec, for editors: names and fields of all installed components complete.

    Example: collm schema > collm.schema.json
    """
    from collm.spec.schema import json_schema

    emit_json(json_schema(state_of(context).registry()))
