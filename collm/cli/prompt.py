"""`collm prompt`: shows what the language model reads for one row, with its slots and answer words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import (
    JsonOption,
    RunsDirOption,
    SetOption,
    SpecArgument,
    cache_dir,
    emit,
    emit_json,
    state_of,
)
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec


def prompt(
    context: typer.Context,
    spec: SpecArgument,
    row: Annotated[int, typer.Option("--row", help="Source row of the dataset.")],
    overrides: SetOption = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Run of a suite; default: its last one with a backbone.", show_default=False),
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show the prompt of one row: text, slots, tokens, label and the words that the answer is read from.

    Example: collm prompt experiments/quickstart.yaml --row 20
    """
    state = state_of(context)
    chosen = _with_backbone(state.load(spec, overrides), run)
    from collm.stages.show_prompt import show_prompt

    shown: dict[str, Any] = show_prompt(
        chosen, row, registry=state.registry(), runs_dir=runs_dir, cache_dir=cache_dir()
    )
    if as_json:
        emit_json({"schema": 1, **shown})
        return
    emit(shown["text"])
    emit("")
    for key, value in shown.items():
        if key not in ("text", "ids"):
            emit(f"{key}: {value}")


def _with_backbone(loaded: ResolvedSpec | Suite, run: str | None) -> ResolvedSpec:
    from collm.spec.expand import Suite

    if not isinstance(loaded, Suite):
        if loaded.backbone is None:
            raise UsageError("this spec has no backbone, so nothing is prompted: name one with --set backbone.name=...")
        return loaded
    candidates = {each.key: each.spec for each in loaded.runs if each.spec.backbone is not None}
    if not candidates:
        raise UsageError("no run of this suite has a backbone, so nothing is prompted")
    if run is None:
        return list(candidates.values())[-1]
    if run not in candidates:
        raise UsageError(f"no run '{run}' with a backbone in this suite; there are: {', '.join(candidates)}")
    return candidates[run]
