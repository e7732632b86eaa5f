"""The model that a spec asks for: fitted, tuned, scored; and what its stages leave for the results."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collm.contracts.encoder import EncoderConfig, of_encoder
from collm.data.windows import Window
from collm.errors import RunError
from collm.stages.evaluate import Evaluated, evaluate_model
from collm.stages.fit_encoder import encoder_notes, encoder_scorer, fit_encoder
from collm.stages.held_out import fit_encoders
from collm.stages.language_model import LanguageModelRun
from collm.stages.prepare_data import PreparedStage
from collm.stages.prequential import WindowScores, score_windows
from collm.stages.ranking import FittedEncoder, Reranker
from collm.stages.stage import RunContext, StageResult
from collm.stages.tune import tune
from collm.stages.window_models import UpdatedRecommender


@dataclass
class Ledger:
    """What the stages of a run leave for `results.json` and `environment.json`.

    Attributes:
        stages: Name -> fingerprint.
        timing: Name -> cost.
        reused: Name -> what made a stage that was finished before.
        contents: What files and weights hold, hashed.
        facts: Stage, `encoder` or `backbone` -> facts.
        notes: Sentences that every table must state.
    """

    stages: dict[str, str] = field(default_factory=dict)
    timing: dict[str, dict[str, Any]] = field(default_factory=dict)
    reused: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, stage: StageResult, key: str = "") -> None:
        """Adds a stage under its name, or under a key."""
        name = key or stage.name
        self.stages[name] = stage.fingerprint
        if stage.reused:
            self.reused[name] = stage.made
        self.timing[name] = stage.timing()

    def add_scoring(self, evaluated: Evaluated) -> None:
        """Adds the time of scoring and measuring."""
        self.timing["evaluate"] = evaluated.timing()
        if evaluated.scoring.reused:
            self.reused["evaluate"] = evaluated.scoring.made


@dataclass(frozen=True)
class OwnModel:
    """The run's own model: its scores, and how it ranks candidate lists."""

    evaluated: Evaluated
    ranker: FittedEncoder | Reranker
    windows: WindowScores | None = None


def own_model(run: RunContext, prepared: PreparedStage, ledger: Ledger, windows: Sequence[Window] = ()) -> OwnModel:
    """Fits, tunes and scores what the spec names.

    Args:
        run: The run.
        prepared: Prepared data.
        ledger: Takes what the stages leave.
        windows: Windows of prequential evaluation; none = every row is scored by the model that training makes.

    Raises:
        RunError: If it names neither an encoder nor a backbone.
    """
    spec = run.spec
    if spec.backbone is not None:
        found = _language_model(run, prepared, ledger, windows)
    elif spec.encoder is not None:
        fitted, evaluated = score_encoder(run, spec.encoder, prepared)
        ledger.add(fitted)
        ledger.facts["encoder"] = fitted.stated()
        ledger.notes.extend(encoder_notes(fitted.facts, scores=True))
        found = OwnModel(evaluated, FittedEncoder(spec.encoder, fitted, prepared.data))
        if windows:
            found = _by_windows(run, prepared, windows, found, UpdatedRecommender(run, prepared, {"": fitted}, None))
    else:
        raise RunError(f"{spec.name}: a spec needs an `encoder`, a `backbone`, or both")
    ledger.add_scoring(found.evaluated)
    return found


def score_encoder(run: RunContext, config: EncoderConfig, prepared: PreparedStage) -> tuple[StageResult, Evaluated]:
    """Fits and scores an encoder or floor on the whole training split."""
    data = prepared.data
    fitted = fit_encoder(run, config, data, upstream=prepared.stage.fingerprint)

    scorer = functools.partial(encoder_scorer, run, fitted, config, data)
    evaluated = evaluate_model(run, data, scorer, model={"encoder": fitted.fingerprint}, label=config.name)
    return fitted, evaluated


def _by_windows(
    run: RunContext, prepared: PreparedStage, windows: Sequence[Window], base: OwnModel, updated: UpdatedRecommender
) -> OwnModel:
    """Returns the model with the scores of its updates."""
    found = score_windows(run, prepared.data, windows, base.evaluated, updated)
    return OwnModel(found.evaluated, base.ranker, found)


def _language_model(run: RunContext, prepared: PreparedStage, ledger: Ledger, windows: Sequence[Window]) -> OwnModel:
    fitted = fit_encoders(run, prepared)
    for name, stage in fitted.items():
        ledger.add(stage, of_encoder(stage.name, name))
        ledger.facts[of_encoder("encoder", name)] = stage.stated()
        of = f"Encoder {name}: " if name else ""
        ledger.notes.extend(f"{of}{said}" for said in encoder_notes(stage.facts))
    model = LanguageModelRun(run, prepared, fitted=fitted)
    for number, stage in enumerate(tune(model), start=1):
        ledger.add(stage)
        ledger.facts[stage.name] = {"number": number, **stage.stated()}
        ledger.notes.extend(each for each in encoder_notes(stage.facts) if each not in ledger.notes)
    # Weights load once for rows and lists, and only where either lacks scores.
    scorer, payload = functools.cache(model.scorer), model.fingerprint_payload()
    evaluated = evaluate_model(run, prepared.data, scorer, model=payload, shared=True)
    ledger.facts["backbone"] = model.describe(evaluated.scoring.facts)
    ledger.contents["backbone"] = model.setup.backbone.content_hash()
    ledger.notes.extend(model.notes(evaluated.scoring.facts))
    found = OwnModel(evaluated, Reranker.of(run, prepared.data, fitted, scorer=scorer, payload=payload))
    if not windows:
        return found
    return _by_windows(run, prepared, windows, found, UpdatedRecommender(run, prepared, fitted, model))
