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
from collm.contracts.data import SPLITS
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.data.prepared import PreparedData, Rows
    from collm.registry import Registry
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
    shown = show_prompt(chosen, row, registry=state.registry(), runs_dir=runs_dir)
    if as_json:
        emit_json({"schema": 1, **shown})
        return
    emit(shown["text"])
    emit("")
    for key, value in shown.items():
        if key not in ("text", "tokens"):
            emit(f"{key}: {value}")


def show_prompt(spec: ResolvedSpec, row: int, *, registry: Registry, runs_dir: Path) -> dict[str, Any]:
    """Encodes one row the way tuning and scoring do, and turns it back into text.

    Args:
        spec: A spec with a backbone.
        row: Source row of the dataset.
        registry: Where components come from.
        runs_dir: Where the prepared data lies, or is put.

    Returns:
        What `collm.prompt.show.describe_prompt` gives, with split, user, item, label and answer words.

    Raises:
        UsageError: If no split holds that row.
    """
    from collm.component import BuildContext
    from collm.prompt.encode import PromptEncoder
    from collm.prompt.show import describe_prompt
    from collm.stages.prepare_data import prepare_data
    from collm.stages.stage import StageRunner

    assert spec.backbone is not None and spec.prompt is not None and spec.tuning is not None
    build_context = BuildContext(cache_dir=cache_dir(), find=registry.get)
    runner = StageRunner(runs_dir, finished=lambda _: None)
    _, data = prepare_data(spec, registry=registry, runner=runner, context=build_context)
    split, found = _find(data, row)
    strategy = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning)
    template = registry.get("prompt", spec.prompt.name).load_factory()(spec.prompt)
    backbone = registry.get("backbone", spec.backbone.name).load_factory()(spec.backbone, context=build_context)
    tokenizer = backbone.tokenizer()
    max_tokens = min(spec.backbone.max_prompt_tokens, backbone.max_length)
    histories = data.history(found, spec.history.max_items)
    encoder = PromptEncoder(template, tokenizer, data.titles, max_tokens=max_tokens)
    encoded = encoder.encode(found.item, histories, strategy.variant)
    answer = tokenizer.answer
    return describe_prompt(encoded, 0, tokenizer) | {
        "split": split,
        "variant": strategy.variant,
        "user": data.user_ids[int(found.user[0])],
        "item": data.item_ids[int(found.item[0])],
        "label": int(found.label[0]),
        "answer_words": {answer.positive_word: answer.positive, answer.negative_word: answer.negative},
    }


def _find(data: PreparedData, row: int) -> tuple[str, Rows]:
    import numpy as np

    for split in SPLITS:
        rows = data.rows(split)
        at = np.flatnonzero(rows.row == row)
        if len(at):
            return split, rows.take(at[:1])
    example = data.rows("test").row
    raise UsageError(
        f"--row {row}: no row of train, valid or test has this source row (after `dataset.limit`); "
        f"test has for example {', '.join(str(int(each)) for each in example[:3])}"
    )


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
