"""Models that are updated before each window of prequential evaluation: encoders, and groups of a language model."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collm.contracts.encoder import EncoderConfig
from collm.contracts.tuning import TuneStep
from collm.data.windows import Window
from collm.engine.checkpoint import load_tensors
from collm.errors import SpecError
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.sections import Policy
from collm.stages.continued import (
    PLAIN,
    REBUILT,
    SOLVED,
    TRAINED,
    TUNED,
    Length,
    continue_encoder,
    rows_digest,
    settled_config,
)
from collm.stages.evaluate import Scorer
from collm.stages.fit_encoder import WEIGHTS, build_encoder, encoder_scorer, inner_payload
from collm.stages.held_out import encoder_view, held_out_share
from collm.stages.language_model import LanguageModelRun
from collm.stages.prepare_data import PreparedStage
from collm.stages.prompt_sources import LanguageSetup
from collm.stages.retuned import retuned_groups, retuned_steps
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

# What updates do to an encoder -> clause.
ENCODER_CLAUSES: Mapping[str, str] = {
    TRAINED: "is trained on from its last weights on all rows seen",
    SOLVED: "is solved again on all rows seen",
    REBUILT: "is built again on all rows seen",
}


class UpdatedEncoders:
    """The encoders of a run, trained on from window to window.

    Attributes:
        stages: Name -> stage of the last weights.
    """

    def __init__(self, run: RunContext, prepared: PreparedStage, fitted: Mapping[str, StageResult]) -> None:
        """Takes the run, its data, and name -> stage of the fitted encoders."""
        self._run, self._prepared = run, prepared
        self.stages = dict(fitted)

    @functools.cached_property
    def configs(self) -> dict[str, EncoderConfig]:
        """Name -> settings, with those given that the training rows decided."""
        run, found = self._run, {}
        view = encoder_view(self._prepared.data, held_out_share(run.spec, run.registry))
        for name, config in run.spec.all_encoders.items():
            built = build_encoder(run.registry.get("encoder", config.name), config, view, run.spec, run.build)
            found[name] = settled_config(config, built)
        return found

    def update(self, window: Window) -> float:
        """Trains every encoder on the rows seen before a window; returns the seconds of that work."""
        seconds = 0.0
        for name, config in self.configs.items():
            self.stages[name] = self._continued(name, config, window)
            seconds += self.stages[name].work_seconds
        return seconds

    def scorer(self) -> Scorer:
        """Returns what scores rows, where the encoder is the recommender."""
        return encoder_scorer(self._run, self.stages[""], self.configs[""], self._prepared.data)

    def said(self) -> Iterator[tuple[str, bool]]:
        """Yields a clause on each encoder's last update, and whether it trained."""
        for name, stage in self.stages.items():
            done = stage.facts["continued"]
            yield f"{f'encoder {name}' if name else 'the encoder'} {ENCODER_CLAUSES[done]}", done == TRAINED

    def payload(self) -> dict[str, Any]:
        """Returns what decides the encoders' values."""
        return {"encoder": {name: stage.fingerprint for name, stage in self.stages.items()}}

    def _continued(self, name: str, config: EncoderConfig, window: Window) -> StageResult:
        run, data, before = self._run, self._prepared.data, self.stages[name]
        payload = {
            "continues": before.fingerprint,
            "config": config_payload(config),
            "rows": rows_digest(window.seen),
            "epochs": run.spec.evaluate.update_epochs,
            "history": run.spec.history.max_items,
            "seed": run.spec.seed,
            "data": self._prepared.stage.fingerprint,
            "plugin": run.code("encoder", config),
            "inner": inner_payload(config, run.registry, run.build),
            "files": config_contents(config, "encoder"),
            "version": [version_of("fit_encoder"), version_of("continue")],
        }

        def work(folder: Path) -> dict[str, Any]:
            start, _ = load_tensors(before.folder / WEIGHTS)
            epochs = run.spec.evaluate.update_epochs
            found = continue_encoder(run, config, data, window.seen, start=start, epochs=epochs, folder=folder)
            return found.facts

        return run.stages.run("fit_encoder", payload, work, label=f"{config.name}, window {window.number}")


class UpdatedRecommender:
    """A run's recommender under a policy: an encoder, or a language model with its encoders."""

    def __init__(
        self, run: RunContext, prepared: PreparedStage, fitted: Mapping[str, StageResult], base: LanguageModelRun | None
    ) -> None:
        """Takes the run, its data, name -> stage of the fitted encoders, and the language model that training made."""
        self._run, self._prepared = run, prepared
        self._encoders = UpdatedEncoders(run, prepared, fitted)
        self._tuned = None if base is None else list(base.finished)
        self._steps: Sequence[TuneStep] = () if base is None else base.steps
        self._current: LanguageModelRun | None = None

    def update(self, policy: Policy, window: Window) -> float:
        """Updates what the policy names before a window; returns the seconds of that work."""
        seconds, self._current = self._encoders.update(window), None
        if self._tuned is None or not (groups := TUNED[policy]):
            return seconds
        length = Length(epochs=self._run.spec.evaluate.update_epochs)
        made = retuned_steps(self._model(), groups, window.new, length)
        seconds += sum(stage.work_seconds for stage in made if stage not in self._tuned)
        self._tuned, self._current = made, None
        return seconds

    def said(self, policy: Policy) -> str:
        """Returns what the updates under a policy did, in words; call it after one."""
        config = self._run.spec.evaluate
        clauses = list(self._encoders.said())
        if self._steps and (groups := retuned_groups(self._steps, TUNED[policy])):
            named, rows = " and ".join(PLAIN[group] for group in groups), "rows new since the last update"
            are = "is trained on from its" if len(groups) == 1 else "are trained on from their"
            most = self._run.spec.tuning and self._run.spec.tuning.max_rows
            rows += f" (tuning.max_rows: {most:,} of them at most)" if most else ""
            clauses.append((f"{named} {are} last weights on {rows}", True))
        n_passes = "one pass" if config.update_epochs == 1 else f"{config.update_epochs} passes"
        passes = [f"{n_passes}, without selection"] if any(trains for _, trains in clauses) else []
        return ", ".join([*(clause for clause, _ in clauses), *passes])

    def scorer(self) -> Scorer:
        """Loads the last weights and returns what scores rows."""
        return self._encoders.scorer() if self._tuned is None else self._model().scorer()

    def payload(self) -> dict[str, Any]:
        """Returns what decides the scores, as plain data."""
        return self._encoders.payload() if self._tuned is None else self._model().fingerprint_payload()

    def _model(self) -> LanguageModelRun:
        """Returns the language model with the last weights: a new one after an update, as it keeps encoders' words."""
        if self._current is not None:
            return self._current
        self._current = model = LanguageModelRun(self._run, self._prepared, fitted=self._encoders.stages)
        model.finished.extend(self._tuned or ())
        for name, config in self._encoders.configs.items():
            model.encoders[name].config = config
        return model


def check_policy(run: RunContext) -> None:
    """Refuses a policy whose updates the tuning would not read.

    Raises:
        SpecError: If tuning trains the encoder itself, or trained no group that the policy trains on.
    """
    spec = run.spec
    if spec.backbone is None or spec.evaluate.policy == "frozen":
        return
    setup, policy = LanguageSetup.of(spec, run.registry, run.build), spec.evaluate.policy
    trained = {group for step in setup.strategy.plan() for group in step.trained}
    name = setup.tuning.name
    if "encoder" in trained:
        raise SpecError(
            f"evaluate.policy {policy}: tuning '{name}' trains the encoder itself, so weights from a refit would "
            "not be read; choose another strategy, or policy frozen"
        )
    if TUNED[policy] and not trained.intersection(TUNED[policy]):
        raise SpecError(
            f"evaluate.policy {policy}: tuning '{name}' trains {', '.join(sorted(trained)) or 'nothing'}; the policy "
            f"trains on {' and '.join(TUNED[policy])}"
        )
