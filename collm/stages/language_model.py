"""The language model of one run: what it is built from, how it scores, and what results say of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collm.component import Kind
from collm.contracts.backbone import Dtype
from collm.contracts.encoder import EncoderConfig
from collm.contracts.prompt import Variant
from collm.contracts.tuning import Group, TuneStep
from collm.data.prepared import PreparedData
from collm.engine.assemble import RecommenderSpec, assemble_on_all, shard_frozen_weights
from collm.engine.device import derive_seed
from collm.engine.language_task import recommender_logits, selection_rows
from collm.engine.prompt_rows import PromptSource
from collm.errors import RunError
from collm.model.adapter import save_adapter
from collm.model.encoder import EncoderModule, EncoderTraits
from collm.model.prefix.run import Probe
from collm.model.recommender import Recommender
from collm.spec.contents import config_contents, section_contents
from collm.spec.fingerprint import config_payload
from collm.stages.fit_encoder import build_encoder, inner_payload, load_encoder
from collm.stages.held_out import encoder_view, fit_note, held_out_share, training_rows, unread_settings
from collm.stages.prepare_data import PreparedStage
from collm.stages.prompt_sources import LanguageSetup, PromptScorer, PromptSources, past_notes, shortened_note
from collm.stages.stage import RunContext, StageResult

NOT_PROVED = "The language model's logits were not compared with its own forward pass (backbone.probe: false)."

FROM_ADAPTER = (
    "LoRA began from an adapter that was given (tuning.text.start); what that was trained on, rows of this test "
    "period included, is not known here."
)


@dataclass
class EncoderSource:
    """The encoder of a language-model run.

    Attributes:
        run: Supplies seed and registry.
        config: The encoder's settings.
        data: The data as the encoder is fitted on it.
        fitted: The stage that fitted it; None where no step starts from a fitted encoder.
    """

    run: RunContext
    config: EncoderConfig
    data: PreparedData
    fitted: StageResult | None
    _traits: EncoderTraits | None = field(default=None, init=False)

    @property
    def gives_words(self) -> bool:
        """Whether its slots take words, so that it is not part of the model."""
        return "words" in self.run.registry.get("encoder", self.config.name).gives

    def fresh(self) -> EncoderModule:
        """Returns the encoder with initial weights."""
        component = self.run.registry.get("encoder", self.config.name)
        return self._known(build_encoder(component, self.config, self.data, self.run.spec, self.run.build))

    def pretrained(self) -> EncoderModule:
        """Returns the encoder with fitted weights."""
        if self.fitted is None:
            raise RunError(f"encoder '{self.config.name}': a step starts from the fitted encoder, which was not fitted")
        return self._known(load_encoder(self.run, self.fitted, self.config, self.data))

    def traits(self) -> EncoderTraits:
        """Returns the traits of the encoder; it is built only where it has not been before."""
        if self._traits is None:
            self._known(self.pretrained() if self.gives_words else self.fresh())
        assert self._traits is not None
        return self._traits

    def payload(self) -> Any:
        """Returns what decides the encoder's values: its fit, or where it was not fitted, its settings and code."""
        if self.fitted is not None:
            return self.fitted.fingerprint
        payload: dict[str, Any] = {
            "config": config_payload(self.config),
            "plugin": self.run.code("encoder", self.config),
            "inner": inner_payload(self.config, self.run.registry, self.run.build),
        }
        # Files of components inside that are not encoders are part of `inner`.
        own: tuple[Kind, ...] = ("encoder",)
        files = config_contents(self.config, "encoder", owners=own)
        return payload | ({"files": files} if files else {})

    def _known(self, encoder: EncoderModule) -> EncoderModule:
        if self._traits is None or self._traits.words is None:
            self._traits = EncoderTraits.of(encoder, mapping_tokens=self.run.spec.mapping.tokens)
        return encoder


class LanguageModelRun:
    """The language model of one spec with its finished tuning steps; weights load where they are needed.

    Attributes:
        setup: Language-model sections and what is built from them.
        steps: The strategy's steps.
        finished: Stages of the steps that are finished, in order; `collm.stages.tune.tune` adds them.
        encoders: Name -> encoder of the run; the empty name where there is one.
        prompts: Encodes rows.
    """

    def __init__(self, run: RunContext, prepared: PreparedStage, *, fitted: Mapping[str, StageResult]) -> None:
        """Takes a run whose spec has a backbone, its prepared data, and name -> stage of the fitted encoders."""
        self.run, self.prepared = run, prepared
        self.setup = LanguageSetup.of(run.spec, run.registry, run.build)
        self.steps: tuple[TuneStep, ...] = tuple(self.setup.strategy.plan())
        self.finished: list[StageResult] = []
        self.held_out = held_out_share(run.spec, run.registry)
        self._files = section_contents(run.spec, "backbone", "prompt", "tuning")
        self._encoder_data = encoder_view(prepared.data, self.held_out)
        self.encoders = {
            name: EncoderSource(run, config, self._encoder_data, fitted.get(name))
            for name, config in run.spec.all_encoders.items()
        }
        self.prompts = PromptSources(
            self.setup,
            prepared.data,
            encoders=lambda: {name: source.traits() for name, source in self.encoders.items()},
            device=run.accelerator.device,
        )

    def scorer(self) -> PromptScorer:
        """Loads the finished model and returns what scores rows."""
        recommender = self.recommender()
        score = functools.partial(
            recommender_logits,
            recommender,
            max_tokens=self.setup.tuning.micro_batch_tokens,
            processes=self.run.stages.processes,
        )
        return PromptScorer(self.prompts.source(self.setup.strategy.variant), score, probe=recommender.probe)

    def recommender(self, dtype: Dtype | None = None) -> Recommender:
        """Returns the finished model with the weights of the last step, in evaluation mode.

        Args:
            dtype: Number format of the frozen weights; None = the spec's.
        """
        recommender = self.assemble(self.parts(self.steps[-1].groups if self.steps else {}), dtype)
        return shard_frozen_weights(recommender, self.run.accelerator, processes=self.run.stages.processes)

    def assemble(self, parts: RecommenderSpec, dtype: Dtype | None = None) -> Recommender:
        """Loads the language model in every process and puts the parts around it."""
        return assemble_on_all(
            parts,
            self.setup.backbone,
            dtype=dtype or self.setup.config.dtype,
            readout=self.run.spec.answer.readout,
            device=self.run.accelerator.device,
            processes=self.run.stages.processes,
        )

    def parts(self, groups: Mapping[Group, Any], current: TuneStep | None = None) -> RecommenderSpec:
        """Returns where each group's values come from: files of finished steps, the fitted encoder, or fresh ones.

        Args:
            groups: Groups of the model -> their plan.
            current: The step that starts from them; None = the finished model.
        """
        files: dict[Group, Path] = {}
        for step, result in zip(self.steps, self.finished, strict=False):
            if step is current:
                break
            trained = [group for group in step.trained if group in groups]
            files |= {group: result.folder / f"{group}.safetensors" for group in trained}
        if current is not None:
            files = {group: path for group, path in files.items() if groups[group].start == "previous"}
        adapter = None
        if current is not None and "lora" in groups and groups["lora"].start == "scratch":
            adapter = getattr(current.optimiser.get("lora"), "start", None)
        encoders: dict[str, EncoderModule] = {}
        if "encoder" in groups:
            start = groups["encoder"].start
            sources = {name: source for name, source in self.encoders.items() if not source.gives_words}
            encoders = {
                # One that tuning trained from scratch has no other weights than those of its steps' files.
                name: each.fresh()
                if start == "scratch" or (start == "previous" and each.fitted is None)
                else each.pretrained()
                for name, each in sources.items()
            }
        return RecommenderSpec(
            lora=self.setup.tuning.lora if "lora" in groups else None,
            encoders=encoders,
            probe=self.setup.config.probe,
            mapping=self.run.spec.mapping if "projector" in groups else None,
            files=files,
            adapter=adapter,
            seed=derive_seed(self.run.spec.seed, "parts"),
            compiles=current is not None and self.setup.config.compile,
        )

    def wording(self) -> list[str]:
        """Returns the final prompt's segments in words, for programs that build prompts from an export."""
        return self.prompts.wording(self.setup.strategy.variant)

    def save_adapter(self, recommender: Recommender, folder: Path) -> None:
        """Writes the adapters of this run's language model as a PEFT folder."""
        backbone = self.setup.backbone
        save_adapter(
            recommender.lm, folder, base_name=self.setup.config.base_name(), base_weights=backbone.content_hash()
        )

    def source(self, data: PreparedData) -> PromptSource:
        """Returns what encodes rows of other data with the same ids as the finished model reads them."""
        return self.prompts.source_of(data, self.setup.strategy.variant)

    def base_payload(self, variant: Variant) -> dict[str, Any]:
        """Returns what decides the numbers of every step and of scoring, as plain data."""
        spec, setup = self.run.spec, self.setup
        return {
            "backbone": config_payload(setup.config),
            "weights": setup.backbone.content_hash(),
            "files": self._files,
            "backbone_plugin": self.run.code("backbone", setup.config),
            **self.prompts.payload(variant),
            "answer": spec.answer.model_dump(mode="json"),
            "history": spec.history.payload(),
            "data": self.prepared.stage.fingerprint,
        }

    def encoder_payload(self, step: TuneStep) -> Any:
        """Returns what decides the values of the encoders that a step reads; None where it reads none."""
        read = {
            name: source.payload()
            for name, source in self.encoders.items()
            if (step.variant == "hybrid" if source.gives_words else "encoder" in step.groups)
        }
        return read.get("", read or None)

    def fingerprint_payload(self) -> dict[str, Any]:
        """Returns what decides the scores, as plain data."""
        return self.base_payload(self.setup.strategy.variant) | {
            "steps": [stage.fingerprint for stage in self.finished],
            "encoder": self.encoder_payload(self.steps[-1]) if self.steps else None,
            "micro_batch_tokens": self.setup.tuning.micro_batch_tokens,
        }

    def describe(self, scoring: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what results must say of the backbone.

        Args:
            scoring: Facts of the stage that scored with it.
        """
        return self.setup.backbone.describe() | {"probe": scoring.get("probe")}

    def notes(self, scoring: Mapping[str, Any]) -> list[str]:
        """Returns the sentences that every table of this run must state.

        Args:
            scoring: Facts of the stage that scored the rows.
        """
        found = scoring.get("probe")
        proof = Probe(**found).note() if found else NOT_PROVED
        trained = [stage.facts for stage in self.finished]
        shortened = shortened_note(trained, scoring, max_tokens=self.setup.max_tokens)
        listed = past_notes(self.run.spec.history, self.prepared.data)
        return [*self._tuning_notes(), *listed, *filter(None, [proof]), *shortened]

    def _unused_mapping(self) -> Iterator[str]:
        """Says so where settings of the mapping are given and nothing is mapped."""
        given = sorted(
            path
            for path, source in self.run.spec.sources.items()
            if path.startswith("mapping.") and source in ("user", "--set")
        )
        gives = [self.run.registry.get("encoder", each.config.name).gives for each in self.encoders.values()]
        if given and not any("vectors" in each for each in gives):
            names = ", ".join(source.config.name for source in self.encoders.values()) or "no encoder"
            yield f"Nothing is mapped ({names} gives no vectors), so {', '.join(given)} has no effect."

    def _tuning_notes(self) -> Iterator[str]:
        if not self.steps:
            n = self.setup.n_examples
            shown = f", but shown {n} answered training rows before every question" if n else ""
            yield f"The language model was not tuned{shown}."
            return
        yield from self._unused_mapping()
        yield from filter(None, map(unread_settings, self.steps))
        if any(getattr(settings, "start", None) for step in self.steps for settings in step.optimiser.values()):
            yield FROM_ADAPTER
        data, seed = self.prepared.data, self.run.spec.seed
        full = len(data.rows("train"))
        counts = [len(training_rows(data, step, self.setup.tuning, seed=seed)) for step in self.steps]
        named = [f"{n:,}" for n in counts]
        if self.setup.tuning.loss != "bce":
            named = [
                f"the {each.facts['rows']:,} positives among {n}" for each, n in zip(self.finished, named, strict=True)
            ]
        rows = " and then ".join(dict.fromkeys(named))
        fitted = fit_note(
            {name: source.fitted is not None for name, source in self.encoders.items()},
            trained={group for step in self.steps for group in step.trained},
            n_rows=full,
            n_seen=len(self._encoder_data.rows("train")),
        )
        yield f"The language model was tuned on {rows} of {full:,} training rows; {fitted}."
        most, n_valid = self.setup.tuning.max_valid_rows, len(data.rows("valid"))
        n_read = len(selection_rows(data, self.run.spec.select.rows, max_rows=most, seed=seed))
        if n_read < n_valid:
            yield f"The best weights were selected on {n_read:,} of {n_valid:,} validation rows."
