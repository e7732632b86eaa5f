"""The model of a run that takes a finished one and rows that came later: scored before it learns from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.contracts.encoder import EncoderConfig, Sizes, of_encoder
from collm.data.extended import rows_seen
from collm.data.prepared import PreparedData
from collm.engine.checkpoint import load_tensors
from collm.spec.sections import Policy
from collm.stages.continued import PLAIN, REBUILT, SOLVED, TRAINED, TUNED, Length, continue_encoder
from collm.stages.evaluate import Evaluated, evaluate_model
from collm.stages.fit_encoder import STAGE, WEIGHTS, encoder_notes, encoder_scorer, trained_view
from collm.stages.folded import FOLDED, Fitted, folded_encoder, grown_encoder
from collm.stages.held_out import encoder_view
from collm.stages.language_model import LanguageModelRun
from collm.stages.prepare_data import PreparedStage
from collm.stages.ranking import FittedEncoder, Reranker
from collm.stages.retuned import retuned_steps
from collm.stages.run_model import Ledger, OwnModel
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

EncoderWork = Callable[[RunContext, Fitted, PreparedData, Path], Mapping[str, Any]]
# Name of what results state of an update, among their facts.
UPDATE = "update"
SCORED_BEFORE = (
    "Test rows are the {n:,} new interactions, scored before the update: by the parent {parent}, to which new users "
    "and items are unknown; no number describes the model after it. Floors are fitted on the training split, which now "
    "holds the parent's test rows."
)
# What a stage did to an encoder -> sentence.
DONE: Mapping[str, str] = {
    FOLDED: "folded in ids without a row in training before (users: {folded_users:,}, items: {folded_items:,}): their "
    "own rows trained for {fold_in_steps} steps on {fold_in_rows:,} rows, and no other weight changed",
    TRAINED: "trained on from its last weights, {epochs} passes over {train_rows:,} rows: all that have been seen, the "
    "new ones among them; nothing was held out, so nothing selected",
    SOLVED: "was solved again on all {train_rows:,} rows that have been seen",
    REBUILT: "was read from its files again",
}


@dataclass(frozen=True)
class Parent:
    """The finished run that is updated.

    Attributes:
        name: Name of its folder.
        data: Its prepared data.
        encoders: Name -> stage that fitted the encoder.
        tuned: Stages of its tuning steps, in order.
        held_out: Share of its training rows that its encoders did not see.
        notes: Sentences that its tables state, but those of its data.
    """

    name: str
    data: PreparedData
    encoders: Mapping[str, StageResult]
    tuned: Sequence[StageResult]
    held_out: float
    notes: Sequence[str]


@dataclass(frozen=True)
class UpdateSettings:
    """What an update trains, and how long.

    Attributes:
        policy: `frozen`: new ids are folded in; `encoder`: the encoder trains on; `encoder+mapping`, `all`: the mapping
            after it, and LoRA.
        epochs: Passes of the encoder over all rows.
        tuning_epochs: Passes of the mapping and LoRA.
    """

    policy: Policy
    epochs: int
    tuning_epochs: float


def updated_model(
    run: RunContext, prepared: PreparedStage, ledger: Ledger, *, parent: Parent, settings: UpdateSettings
) -> OwnModel:
    """Scores the new rows with the parent, then folds them in and trains what the policy says.

    Args:
        run: The run; its spec's encoders have the settings that the parent's rows decided.
        prepared: The parent's data with the new rows as test split.
        ledger: Takes stages, facts and notes.
        parent: The finished run.
        settings: What trains.

    Returns:
        Scores of the new rows before the update.
    """
    return _Update(run, prepared, ledger, parent, settings).work()


class _Update:
    def __init__(
        self, run: RunContext, prepared: PreparedStage, ledger: Ledger, parent: Parent, settings: UpdateSettings
    ) -> None:
        self.run, self.prepared, self.ledger = run, prepared, ledger
        self.parent, self.settings = parent, settings
        self.data = prepared.data
        self.seen = rows_seen(self.data)
        self.fitted = {name: self._fitted(name, config) for name, config in run.spec.all_encoders.items()}

    def work(self) -> OwnModel:
        grown = {name: self._stage(name, "grown", grown_encoder) for name in self.fitted}
        tuned = [self.run.stages.taken(each.name, each.fingerprint) for each in self.parent.tuned]
        own = self._scored(grown, tuned)
        steps = {name: [self._folded(name)] for name in self.fitted}
        if self.settings.policy != "frozen":
            for name, done in steps.items():
                done.append(self._continued(name, done[-1]))
        retuned: list[StageResult] = []
        if groups := TUNED[self.settings.policy]:
            length = Length(epochs=self.settings.tuning_epochs)
            encoders = {name: done[-1] for name, done in steps.items()}
            after = retuned_steps(self._language(encoders, tuned), groups, self.seen, length)
            retuned, tuned = [each for each in after if each not in tuned], after
        self._state(steps, tuned, retuned)
        return own

    def _fitted(self, name: str, config: EncoderConfig) -> Fitted:
        """Returns the parent's encoder; its rows have the same places in the larger table."""
        stage, data = self.parent.encoders[name], self.parent.data
        rows = trained_view(stage.folder, encoder_view(data, self.parent.held_out)).rows("train")
        state, _ = load_tensors(stage.folder / WEIGHTS)
        return Fitted(config, state, Sizes(data.n_users, data.n_items), self.data.rows_at(rows.index))

    def _payload(self, name: str, what: str, more: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what decides the weights of a stage; settings, code and files are the parent stage's."""
        config = self.run.spec.all_encoders[name]
        return {
            "what": what,
            "parent": self.parent.encoders[name].fingerprint,
            "data": self.prepared.stage.fingerprint,
            "history": self.run.spec.history.max_items,
            "seed": self.run.spec.seed,
            "plugin": self.run.code("encoder", config),
            "version": version_of("update"),
            **more,
        }

    def _stage(self, name: str, what: str, work: EncoderWork) -> StageResult:
        fitted = self.fitted[name]
        do = functools.partial(work, self.run, fitted, self.data)
        return self.run.stages.run(STAGE, self._payload(name, what, {}), do, label=f"{fitted.config.name}, {what}")

    def _folded(self, name: str) -> StageResult:
        def work(run: RunContext, fitted: Fitted, data: PreparedData, folder: Path) -> dict[str, Any]:
            return folded_encoder(run, fitted, data, self.seen, folder)

        return self._stage(name, "folded in", work)

    def _continued(self, name: str, start: StageResult) -> StageResult:
        config, epochs = self.fitted[name].config, self.settings.epochs

        def work(folder: Path) -> dict[str, Any]:
            state, _ = load_tensors(start.folder / WEIGHTS)
            return continue_encoder(
                self.run, config, self.data, self.seen, start=state, epochs=epochs, folder=folder
            ).facts

        payload = self._payload(name, "continued", {"start": start.fingerprint, "epochs": epochs})
        return self.run.stages.run(STAGE, payload, work, label=f"{config.name}, continued")

    def _language(self, encoders: Mapping[str, StageResult], tuned: Sequence[StageResult]) -> LanguageModelRun:
        model = LanguageModelRun(self.run, self.prepared, fitted=encoders)
        model.finished.extend(tuned)
        return model

    def _scored(self, encoders: Mapping[str, StageResult], tuned: Sequence[StageResult]) -> OwnModel:
        """Scores the test rows, which are the new ones."""
        if self.run.spec.backbone is None:
            return self._scored_by_encoder(encoders[""])
        model = self._language(encoders, tuned)
        scorer, payload = functools.cache(model.scorer), model.fingerprint_payload()
        evaluated = evaluate_model(self.run, self.data, scorer, model=payload, shared=True)
        self.ledger.facts["backbone"] = model.describe(evaluated.scoring.facts)
        self.ledger.contents["backbone"] = model.setup.backbone.content_hash()
        self.ledger.add_scoring(evaluated)
        return OwnModel(evaluated, Reranker.of(self.run, self.data, encoders, scorer=scorer, payload=payload))

    def _scored_by_encoder(self, stage: StageResult) -> OwnModel:
        config = self.fitted[""].config

        scorer = functools.partial(encoder_scorer, self.run, stage, config, self.data)
        model = {"encoder": stage.fingerprint}
        evaluated: Evaluated = evaluate_model(self.run, self.data, scorer, model=model, label=config.name)
        self.ledger.add_scoring(evaluated)
        return OwnModel(evaluated, FittedEncoder(config, stage, self.data))

    def _state(
        self, steps: Mapping[str, Sequence[StageResult]], tuned: Sequence[StageResult], retuned: Sequence[StageResult]
    ) -> None:
        """Leaves stages, facts and notes for the results; times are those of the update's own work."""
        ledger, parent, settings = self.ledger, self.parent, self.settings
        encoders = {name: done[-1] for name, done in steps.items()}
        made = [*(stage for done in steps.values() for stage in done), *retuned]
        for name, stage in encoders.items():
            key = of_encoder(stage.name, name)
            ledger.add(stage, key)
            ledger.timing[key] = _summed(steps[name])
            ledger.facts[of_encoder("encoder", name)] = stage.stated()
        for number, stage in enumerate(tuned, start=1):
            ledger.add(stage)
            if stage not in retuned:
                del ledger.timing[stage.name]
            ledger.facts[stage.name] = {"number": number, **stage.stated()}
        users = self.data.n_users - parent.data.n_users
        items = self.data.n_items - parent.data.n_items
        said = self._notes(encoders, made, users, items)
        ledger.facts[UPDATE] = {
            "parent": parent.name,
            "parent_stages": {
                **{of_encoder(STAGE, name): stage.fingerprint for name, stage in parent.encoders.items()},
                **{stage.name: stage.fingerprint for stage in parent.tuned},
            },
            "policy": settings.policy,
            "seconds": round(sum(stage.work_seconds for stage in made), 3),
            "new_rows": len(self.data.rows("test")),
            "new_users": users,
            "new_items": items,
            "rows_seen": len(self.seen),
            "said": said,
        }
        mark = "Before the update: "
        others = [each for each in parent.notes if each not in said]
        carried = [each if each.startswith(mark) else f"{mark}{each}" for each in others]
        ledger.notes.extend([*said, *carried])

    def _notes(
        self, encoders: Mapping[str, StageResult], made: Sequence[StageResult], users: int, items: int
    ) -> list[str]:
        settings, parent = self.settings, self.parent
        said = [SCORED_BEFORE.format(n=len(self.data.rows("test")), parent=parent.name)]
        said.append(f"The update ({settings.policy}) brought {users:,} new users and {items:,} new items.")
        for name, stage in encoders.items():
            who = f"Encoder {name}" if name else "The encoder"
            said.append(f"{who} {DONE[stage.facts['continued']].format(epochs=settings.epochs, **stage.facts)}.")
        if groups := TUNED[settings.policy]:
            facts = next(each.facts for each in made if each.name != STAGE)
            named = " and ".join(PLAIN[group] for group in groups if group in facts["continued"])
            n_seen, n_rows = len(self.seen), facts["rows"]
            which = f"all {n_seen:,} of these rows" if n_rows == n_seen else f"{n_rows:,} of these {n_seen:,} rows"
            drawn = "" if n_rows == n_seen else ", drawn as tuning.max_rows says"
            said.append(f"Then {named} trained on {which}{drawn}: {settings.tuning_epochs:g} passes.")
        if parent.held_out:
            said.append("The parent's encoder had not seen the rows that its tuning had to itself; now it has.")
        for stage in encoders.values():
            said += encoder_notes(stage.facts, scores=self.run.spec.backbone is None)
        return said


def _summed(stages: Sequence[StageResult]) -> dict[str, Any]:
    """Returns the entry under `timing` of stages that follow one another and go by one name."""
    return {
        "kind": stages[0].kind,
        "seconds": round(sum(stage.seconds for stage in stages), 3),
        "reused": all(stage.reused for stage in stages),
        "work_seconds": round(sum(stage.work_seconds for stage in stages), 3),
    }
