"""Takes a finished run and rows that came later, and makes a run of its own of both."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig
from collm.data.extended import write_extended
from collm.errors import RunError, UsageError
from collm.files import file_digest, write_atomically
from collm.metrics.score_notes import score_notes
from collm.runner import Making, run_spec
from collm.runs.environment import RunOptions
from collm.runs.records import RunOutcome
from collm.runs.store import RunFolder
from collm.spec.fingerprint import fingerprint
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec
from collm.stages.continued import TUNED, settled_config
from collm.stages.fit_encoder import load_encoder
from collm.stages.held_out import encoder_view, held_out_share
from collm.stages.score_tables import PREQUENTIAL, RANKED
from collm.stages.updated import UPDATE, Parent, UpdateSettings, updated_model
from collm.trained.model import TrainedModel
from collm.trained.new_rows import read_new_rows

REQUEST, DATA = "update.json", "data"
# Notes on numbers of the parent that an update does not have.
NOT_CARRIED = ("Floor ", PREQUENTIAL, *RANKED)
WITHOUT_WINDOWS = (
    "The parent is the model that training made: what its prequential evaluation updated before each window is not "
    "part of it."
)
NO_RANKING = "The parent ranked candidates (evaluate.ranking); an update measures the new rows alone."


def update_run(
    model: TrainedModel, rows: Path, folder: Path | None, settings: UpdateSettings, options: RunOptions
) -> RunOutcome:
    """Updates a finished run.

    The work is done in stages beside those of the run: a command that was killed is continued by the same one.

    Args:
        model: The finished run.
        rows: File of the new rows.
        folder: Where the new run lies, beside the parent; None = a name made of the parent, the policy and the rows.
        settings: What trains.
        options: Cache, device, threads; its runs directory must be that of the parent.

    Returns:
        The new run.

    Raises:
        UsageError: If the folder cannot be taken, or the run has no part that the policy trains.
        RunError: If the run cannot be updated.
        DataError: If the rows are malformed.
    """
    require_updatable(model, settings)
    new, said = read_new_rows(rows, model.data, needs_titles=model.language is not None)
    said += [NO_RANKING] if model.spec.evaluate.ranking is not None else []
    request: dict[str, Any] = {
        "parent": model.path.name,
        "stages": dict(model.results.stages),
        "rows": file_digest(rows),
        **asdict(settings),
    }
    digest = fingerprint(request)
    taken = folder if folder is not None else _default_folder(model.path, settings, digest)
    run = RunFolder.at(taken)
    require_free(taken, request, beside=model.path)
    with run.lock():
        if (taken / REQUEST).exists():
            # Another command may have taken the folder meanwhile.
            require_free(taken, request, beside=model.path)
        write_atomically(taken / REQUEST, json.dumps(request, indent=1) + "\n")
        # Other policies on the same rows have the same data, and share what does not depend on the policy.
        content = fingerprint([model.results.stages["prepare_data"], request["rows"]])
        write_extended(model.data, new, taken / DATA, content=content, notes=said)
        if not run.is_done() or run.damage():
            run.write_spec(_spec(model, taken).plain())
    spec = load_spec(taken / "spec.yaml", [], model.run.registry, cwd=taken)
    parent = Parent(
        name=model.path.name,
        data=model.data,
        encoders=model.fitted,
        tuned=tuple(model.language.finished) if model.language is not None else (),
        held_out=held_out_share(model.spec, model.run.registry),
        notes=_carried(model),
    )
    making = Making(
        folder=taken,
        model=functools.partial(updated_model, parent=parent, settings=settings),
        environment={"parent": {"run": model.path.name, "spec_hash": model.results.spec_hash, **request}},
    )
    return run_spec(spec, model.run.registry, options, run=taken.name, making=making)


def require_updatable(model: TrainedModel, settings: UpdateSettings) -> None:
    """Refuses runs whose parts cannot be trained on.

    Raises:
        RunError: If tuning trained the encoder, or it gives token embeddings.
        UsageError: If the run lacks what the policy trains.
    """
    place, policy = model.path, settings.policy
    steps = model.language.steps if model.language is not None else ()
    trained = {group for step in steps for group in step.trained}
    if "encoder" in trained or set(model.fitted) != set(model.spec.all_encoders):
        raise RunError(
            f"{place}: its tuning trained the encoder (tuning: {model.spec.tuning.name if model.spec.tuning else ''}), "
            "whose last weights belong to the prompt; only encoders that are fitted before the tuning can be updated: "
            "use tuning: default"
        )
    for name, config in model.spec.all_encoders.items():
        if "llm-tokens" in model.run.registry.get("encoder", config.name).gives:
            raise RunError(f"{place}: encoder '{name or config.name}' gives token embeddings, which cannot be updated")
    if not model.fitted and policy in ("encoder", "encoder+mapping"):
        raise UsageError(f"--policy {policy}: {place} has no encoder; use frozen or all")
    asked = TUNED[policy]
    if asked and model.language is None:
        raise UsageError(f"--policy {policy}: {place} has no language model; use frozen or encoder")
    if asked and not trained & set(asked):
        had = ", ".join(sorted(trained)) or "nothing"
        rest = "frozen or encoder" if model.fitted else "frozen"
        raise UsageError(f"--policy {policy}: the tuning of {place} trained {had}; use {rest}")


def require_free(folder: Path, request: dict[str, Any], *, beside: Path) -> None:
    """Accepts a folder that does not exist yet, or is of the same update.

    Raises:
        UsageError: If it lies elsewhere than the parent, or is something else.
    """
    if folder.resolve().parent != beside.resolve().parent:
        raise UsageError(
            f"-o {folder}: an update uses stages of its parent, so it must lie beside it: -o "
            f"{beside.parent / folder.name}"
        )
    if not folder.exists():
        return
    try:
        before = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if before is None:
        raise UsageError(f"-o {folder}: exists already and is not an update; choose another name")
    if changed := sorted(key for key in {*before, *request} if before.get(key) != request.get(key)):
        raise UsageError(
            f"-o {folder}: is another update already (other {', '.join(changed)}); choose another name, or remove it "
            f"with `collm runs rm {folder}`"
        )


def _default_folder(parent: Path, settings: UpdateSettings, digest: str) -> Path:
    return parent.with_name(f"{parent.name}-{settings.policy.replace('+', '-')}-{digest[:8]}")


def _spec(model: TrainedModel, folder: Path) -> ResolvedSpec:
    """Returns the parent's spec on the larger data, with the settings given that its rows decided."""
    spec, registry = model.spec, model.run.registry
    dataset = registry.get("dataset", "prepared").config.model_validate(
        {"name": "prepared", "path": (folder / DATA).absolute()}
    )
    assert isinstance(dataset, DatasetConfig)
    view = encoder_view(model.data, held_out_share(spec, registry))
    settled: dict[str, EncoderConfig] = {
        name: settled_config(config, load_encoder(model.run, model.fitted[name], config, view))
        for name, config in spec.all_encoders.items()
    }
    return replace(
        spec,
        name=folder.name,
        dataset=dataset,
        encoder=settled.get(""),
        encoders={name: config for name, config in settled.items() if name},
        evaluate=spec.evaluate.measuring().model_copy(update={"splits": ("test",)}),
    )


def _carried(model: TrainedModel) -> tuple[str, ...]:
    """Returns what the tables of the parent state of its model."""
    scores = pl.read_parquet(model.path / "scores.parquet", glob=False)
    left_out = {*model.data.notes, *_said_of_update(model), *score_notes(scores)}
    kept = [each for each in model.results.notes if each not in left_out and not each.startswith(NOT_CARRIED)]
    if model.spec.evaluate.policy != "frozen":
        kept.append(WITHOUT_WINDOWS)
    if (before := model.results.facts.get(UPDATE)) is not None:
        of = before.model_dump()
        kept.insert(0, f"The parent is itself an update ({of['policy']}), of {of['parent']}.")
    return tuple(kept)


def _said_of_update(model: TrainedModel) -> list[str]:
    """Returns the sentences of the update that the parent itself is."""
    facts = model.results.facts.get(UPDATE)
    return list(facts.model_dump().get("said", ())) if facts is not None else []
