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
    from collm.contracts.prompt import Variant
    from collm.data.prepared import PreparedData, Rows
    from collm.registry import Registry
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec
    from collm.stages.language_model import LanguageModelRun


def prompt(
    context: typer.Context,
    spec: SpecArgument,
    row: Annotated[int, typer.Option("--row", help="Source row of the dataset.")],
    overrides: SetOption = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Run of a suite.", show_default="its last one with a backbone"),
    ] = None,
    # The name of --key before 0.2; elsewhere --run is a finished run.
    run: Annotated[str | None, typer.Option("--run", hidden=True)] = None,
    runs_dir: RunsDirOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show the prompts of one row, text-only and full: words, token ids, slots, lengths, label and answer words.

    Example: collm prompt experiments/quickstart.yaml --row 20
    """
    state = state_of(context)
    chosen = _with_backbone(state.load(spec, overrides), key or run)
    shown = show_prompt(chosen, row, registry=state.registry(), runs_dir=runs_dir)
    if as_json:
        emit_json({"schema": 1, **shown})
        return
    for variant, facts in shown.pop("variants").items():
        emit(f"--- {variant} ---")
        emit(facts.pop("text"))
        facts["tokens"] = " ".join(str(number) for number, _ in facts["tokens"])
        emit("".join(f"\n{key}: {value}" for key, value in facts.items()) + "\n")
    emit("\n".join(f"{key}: {value}" for key, value in shown.items()))


def show_prompt(spec: ResolvedSpec, row: int, *, registry: Registry, runs_dir: Path) -> dict[str, Any]:
    """Encodes one row the way tuning and scoring do, and turns it back into text.

    Args:
        spec: A spec with a backbone.
        row: Source row of the dataset.
        registry: Where components come from.
        runs_dir: Where the prepared data lies, or is put.

    Returns:
        Split, user, item, label, answer words, the variant that is scored, and under `variants` what
        `collm.prompt.show.describe_prompt` gives of each that the spec has.

    Raises:
        UsageError: If no split holds that row.
    """
    from collm.prompt.show import describe_prompt

    model = language_model(spec, registry=registry, runs_dir=runs_dir)
    data, setup, sources = model.prepared.data, model.setup, model.prompts
    split, found = _find(data, row)
    variants: tuple[Variant, ...] = ("text", "hybrid") if spec.all_encoders else ("text",)
    tokenizer = setup.backbone.tokenizer()
    answer = tokenizer.answer
    return {
        "split": split,
        "user": data.user_ids[int(found.user[0])],
        "item": data.item_ids[int(found.item[0])],
        "label": int(found.label[0]),
        "answer_words": {answer.positive_word: answer.positive, answer.negative_word: answer.negative},
        "scored_variant": setup.strategy.variant,
        "variants": {
            variant: describe_prompt(sources.source(variant).encode(found).prompts, 0, tokenizer)
            for variant in variants
        },
    }


def language_model(spec: ResolvedSpec, *, registry: Registry, runs_dir: Path) -> LanguageModelRun:
    """Returns the language model of a spec with a backbone, for its prompts: on the processor, no weights loaded.

    Data is prepared, and an encoder whose words appear in the prompt is fitted, as `collm run` does it, unless that was
    done before.
    """
    from accelerate import Accelerator

    from collm.component import BuildContext
    from collm.stages.held_out import fit_encoders
    from collm.stages.language_model import LanguageModelRun
    from collm.stages.prepare_data import prepare_data
    from collm.stages.stage import RunContext, StageRunner

    context = BuildContext(cache_dir=cache_dir(), find=registry.get)
    runner = StageRunner(runs_dir, finished=lambda _: None)
    prepared = prepare_data(spec, registry=registry, runner=runner, context=context)
    accelerator = Accelerator(cpu=True)
    run = RunContext(spec, registry, context, runner, accelerator, observer=lambda *_: None)
    return LanguageModelRun(run, prepared, fitted=fit_encoders(run, prepared, words_only=True))


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


def _with_backbone(loaded: ResolvedSpec | Suite, key: str | None) -> ResolvedSpec:
    from collm.spec.expand import Suite

    if not isinstance(loaded, Suite):
        if key is not None:
            raise UsageError(f"--key {key}: this file is one spec, not a suite")
        if loaded.backbone is None:
            raise UsageError(
                "this spec has no backbone, so there is no prompt to show: name one with --set backbone.name=..."
            )
        return loaded
    candidates = {each.key: each.spec for each in loaded.runs if each.spec.backbone is not None}
    if not candidates:
        raise UsageError("no run of this suite has a backbone, so there is no prompt to show")
    if key is None:
        return list(candidates.values())[-1]
    if key not in candidates:
        raise UsageError(
            f"--key {key}: no run of that key with a backbone in this suite; there are: {', '.join(candidates)}"
        )
    return candidates[key]
