"""Stages: the tuning steps of a language model, and the model that they leave behind for scoring."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from collm.component import BuildContext
from collm.contracts.backbone import Backbone, Dtype
from collm.contracts.prompt import Variant
from collm.contracts.tuning import Group, TuneStep, TuningStrategy
from collm.data.prepared import PreparedData, Rows
from collm.engine.assemble import Parts, assemble_on_all, save_parts
from collm.engine.language_task import LanguageTask, recommender_logits, selection_rows
from collm.engine.memory import tell_memory
from collm.engine.prompt_rows import PromptSource
from collm.engine.seeding import derive_seed, seed_torch
from collm.engine.sharding import shard_frozen_weights
from collm.engine.train import Observer, train
from collm.model.encoder import EncoderModule
from collm.model.recommender import Probe, Recommender
from collm.registry import Registry
from collm.spec.contents import section_contents
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.stages.fit_encoder import build_encoder, load_encoder
from collm.stages.held_out import encoder_view, held_out_share, rows_of, training_rows
from collm.stages.inner_components import inner_payload
from collm.stages.prompt_sources import SHORTENED, PromptScorer, PromptSources, shortened_note
from collm.stages.stage import StageResult, StageRunner
from collm.stages.versions import version_of

logger = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"
PROBE_ROWS = 4
NOT_PROVED = "The language model's logits were not compared with its own forward pass (backbone.probe: false)."
LOOP_FIELDS = {"batch_size", "micro_batch_tokens", "prefix_cache_gb", "max_rows", "max_valid_rows"}
LOOP_FIELDS |= {"schedule", "warmup_start", "min_learning_rate", "frozen_lora_dropout", "clip_norm"}


class LanguageModelRun:
    """Tunes and scores with the language model of one spec; weights load only where a stage has work to do."""

    def __init__(
        self,
        spec: ResolvedSpec,
        data: PreparedData,
        *,
        data_fingerprint: str,
        fitted: StageResult | None,
        registry: Registry,
        runner: StageRunner,
        context: BuildContext,
        accelerator: Accelerator,
        observer: Observer,
    ) -> None:
        """Takes the spec (with a backbone), the prepared data and the fitted encoder's stage, if there is one."""
        assert spec.backbone is not None and spec.prompt is not None and spec.tuning is not None
        self._spec, self._data, self._fitted = spec, data, fitted
        self._data_fingerprint = data_fingerprint
        self._registry, self._runner, self._context = registry, runner, context
        self._accelerator, self._observer = accelerator, observer
        self._tuning = spec.tuning
        self._strategy: TuningStrategy = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning)
        self._backbone: Backbone = registry.get("backbone", spec.backbone.name).load_factory()(
            spec.backbone, context=context
        )
        self._steps = tuple(self._strategy.plan())
        self._files = section_contents(spec, "backbone", "prompt", "tuning")
        self._held_out = held_out_share(spec, registry)
        self._encoder_data = encoder_view(data, self._held_out)
        self._finished: list[StageResult] = []
        self._prompts = PromptSources(
            spec,
            data,
            self._backbone,
            self._strategy,
            registry=registry,
            new_encoder=self._new_encoder,
            device=accelerator.device,
        )

    def tune(self) -> Iterator[StageResult]:
        """Runs the steps in order, each skipped where its fingerprint is finished."""
        for number, step in enumerate(self._steps, start=1):
            name = f"tune_{number}"
            work = functools.partial(self._work, step, name)
            result = self._runner.run(name, self._payload(step), work, shared=True)
            self._finished.append(result)
            yield result

    def scorer(self) -> PromptScorer:
        """Loads the finished model and returns what scores rows."""
        recommender = self.recommender()
        score = functools.partial(
            recommender_logits,
            recommender,
            max_tokens=self._tuning.micro_batch_tokens,
            processes=self._runner.processes,
        )
        return PromptScorer(self._prompts.source(self._strategy.variant), score, probe=recommender.probe)

    def recommender(self, dtype: Dtype | None = None) -> Recommender:
        """Returns the finished model with the weights of the last step, in evaluation mode.

        Args:
            dtype: Number format of the frozen weights; None = the spec's.
        """
        recommender = self._assemble(self._parts(self._steps[-1].groups if self._steps else {}), dtype)
        return shard_frozen_weights(recommender, self._accelerator, processes=self._runner.processes)

    @property
    def backbone(self) -> Backbone:
        """The language model without its weights."""
        return self._backbone

    def wording(self) -> list[str]:
        """Returns the final prompt's segments in words, for whoever builds prompts from an export."""
        return self._prompts.wording(self._strategy.variant)

    def source(self, data: PreparedData) -> PromptSource:
        """Returns what encodes rows of other data with the same ids as the finished model reads them."""
        return self._prompts.source_of(data, self._strategy.variant)

    def fingerprint_payload(self) -> dict[str, Any]:
        """Returns what decides the scores, as plain data."""
        return self._base_payload(self._strategy.variant) | {
            "steps": [stage.fingerprint for stage in self._finished],
            "encoder": self._encoder_payload() if self._steps and "encoder" in self._steps[-1].groups else None,
            "micro_batch_tokens": self._tuning.micro_batch_tokens,
        }

    def describe(self, scoring: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what results must say of the backbone.

        Args:
            scoring: Facts of the stage that scored with it.
        """
        return self._backbone.describe() | {"probe": scoring.get("probe")}

    def notes(self, scoring: Mapping[str, Any]) -> list[str]:
        """Returns the sentences that every table of this run must state.

        Args:
            scoring: Facts of the stage that scored the rows.
        """
        found = scoring.get("probe")
        proof = Probe(**found).note() if found else NOT_PROVED
        trained = [stage.facts for stage in self._finished]
        shortened = shortened_note(trained, scoring, max_tokens=self._prompts.max_tokens)
        return [*self._tuning_notes(), *filter(None, [proof]), *shortened]

    def _tuning_notes(self) -> list[str]:
        if not self._steps:
            n = self._prompts.n_examples
            shown = f", but shown {n} answered training rows before every question" if n else ""
            return [f"The language model was not tuned{shown}."]
        full = len(self._data.rows("train"))
        counts = [len(self._train_rows(step)) for step in self._steps]
        rows = " and then ".join(f"{n:,}" for n in dict.fromkeys(counts))
        fitted = "encoders and floors were fitted on all"
        if self._held_out:
            fitted = f"the encoder was fitted on the earliest {len(self._encoder_data.rows('train')):,}, floors on all"
        return [f"The language model was tuned on {rows} of {full:,} training rows; {fitted} {full:,}."]

    def _payload(self, step: TuneStep) -> dict[str, Any]:
        uses_encoder = "encoder" in step.groups
        continues = any(plan.start == "previous" for plan in step.groups.values())
        tuning = self._tuning
        return self._base_payload(step.variant) | {
            "version": version_of("tune"),
            "step": dataclasses.asdict(step)
            | {"optimiser": {g: s.model_dump(mode="json") for g, s in step.optimiser.items()}},
            "lora": tuning.lora.model_dump(mode="json"),
            "loop": tuning.model_dump(mode="json", include=LOOP_FIELDS),
            "select": self._spec.select.model_dump(mode="json"),
            "seed": self._spec.seed,
            "encoder": self._encoder_payload() if uses_encoder else None,
            "mapping": self._spec.mapping.model_dump(mode="json") if "projector" in step.groups else None,
            "held_out": self._held_out if rows_of(step) == "held-out" else None,
            "previous": self._finished[-1].fingerprint if continues else None,
        }

    def _base_payload(self, variant: Variant) -> dict[str, Any]:
        spec = self._spec
        assert spec.backbone is not None and spec.prompt is not None
        return {
            "backbone": config_payload(spec.backbone),
            "weights": self._backbone.content_hash(),
            "files": self._files,
            "backbone_plugin": self._registry.code_version("backbone", spec.backbone.name),
            **self._prompts.payload(variant),
            "answer": spec.answer.model_dump(mode="json"),
            "history": spec.history.model_dump(mode="json"),
            "data": self._data_fingerprint,
        }

    def _encoder_payload(self) -> Any:
        """Returns what decides the encoder's values: its fit, or where none is used, its settings and code."""
        if self._fitted is not None:
            return self._fitted.fingerprint
        assert self._spec.encoder is not None
        return {
            "config": config_payload(self._spec.encoder),
            "plugin": self._registry.code_version("encoder", self._spec.encoder.name),
            "inner": inner_payload(self._spec.encoder, self._registry, self._context),
        }

    def _work(self, step: TuneStep, stage: str, folder: Path) -> dict[str, Any]:
        assert self._spec.backbone is not None
        seed = derive_seed(self._spec.seed, step.name)
        seed_torch(seed)
        tell_memory(
            f"{stage} {step.name}",
            self._backbone,
            self._spec.backbone,
            tuning=self._tuning,
            trains_lora="lora" in step.groups and step.groups["lora"].trains,
            device=self._accelerator.device,
        )
        recommender = self._assemble(self._parts(step.groups, step))
        trained: list[Group] = [group for group, plan in step.groups.items() if plan.trains]
        recommender.set_trainable(trained, frozen_lora_dropout=self._tuning.frozen_lora_dropout)
        source = self._prompts.source(step.variant)
        train_prompts, valid_prompts = source.encode(self._train_rows(step)), source.encode(self._valid_rows())
        if step.groups.get("projector") is not None and step.groups["projector"].start == "scratch":
            recommender.calibrate_projector(train_prompts.encoder_batches())
        processes = self._runner.processes
        shard_frozen_weights(recommender, self._accelerator, processes=processes)
        task = LanguageTask(
            recommender,
            step,
            self._tuning,
            title=f"{stage} {step.name}",
            train=train_prompts,
            valid=valid_prompts,
            seed=seed,
            processes=processes,
        )
        if advice := task.advice():
            logger.warning(advice)
        state = train(
            task,
            task.loop_settings(),
            accelerator=self._accelerator,
            checkpoint=folder / CHECKPOINT,
            observer=self._observer,
            processes=processes,
        )
        probe = valid_prompts.batch(np.arange(min(PROBE_ROWS, len(valid_prompts))))
        save_parts(recommender, folder, trained, probe, step=step.name, processes=processes)
        if processes.is_main:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        return {
            "processes": processes.size,
            "probe": recommender.probe.plain() if recommender.probe else None,
            "rows": len(train_prompts),
            "valid_rows": len(valid_prompts),
            SHORTENED: train_prompts.n_shortened,
            "optimiser_steps": state.step,
            "best_step": state.best_step,
            "best_valid_auc": state.best_value,
            "rows_seen": state.rows_seen,
            "train_seconds": round(state.seconds, 2),
            "trained_parameters": {g: sum(p.numel() for p in recommender.parts()[g].values()) for g in trained},
            "curve": state.curve,
        }

    def _train_rows(self, step: TuneStep) -> Rows:
        return training_rows(self._data, step, self._tuning, seed=self._spec.seed)

    def _valid_rows(self) -> Rows:
        return selection_rows(
            self._data, self._spec.select.rows, max_rows=self._tuning.max_valid_rows, seed=self._spec.seed
        )

    def _assemble(self, parts: Parts, dtype: Dtype | None = None) -> Recommender:
        assert self._spec.backbone is not None
        return assemble_on_all(
            parts,
            self._backbone,
            dtype=dtype or self._spec.backbone.dtype,
            readout=self._spec.answer.readout,
            device=self._accelerator.device,
            processes=self._runner.processes,
        )

    def _new_encoder(self) -> EncoderModule:
        assert self._spec.encoder is not None
        component = self._registry.get("encoder", self._spec.encoder.name)
        return build_encoder(component, self._spec.encoder, self._encoder_data, self._spec, self._context)

    def _fitted_encoder(self) -> EncoderModule:
        assert self._spec.encoder is not None and self._fitted is not None
        return load_encoder(
            self._fitted,
            self._spec.encoder,
            self._encoder_data,
            self._spec,
            registry=self._registry,
            context=self._context,
        )

    def _parts(self, groups: Mapping[Group, Any], current: TuneStep | None = None) -> Parts:
        """Says where each group's values come from: files of finished steps, the fitted encoder, or fresh ones."""
        files: dict[Group, Path] = {}
        for step, result in zip(self._steps, self._finished, strict=False):
            if step is current:
                break
            trained = [group for group, plan in step.groups.items() if plan.trains and group in groups]
            files |= {group: result.folder / f"{group}.safetensors" for group in trained}
        if current is not None:
            files = {group: path for group, path in files.items() if groups[group].start == "previous"}
        encoder = None
        if "encoder" in groups:
            fresh = groups["encoder"].start == "scratch"
            encoder = self._new_encoder() if fresh else self._fitted_encoder()
        assert self._spec.backbone is not None
        return Parts(
            lora=self._tuning.lora if "lora" in groups else None,
            encoder=encoder,
            probe=self._spec.backbone.probe,
            mapping=self._spec.mapping if "projector" in groups else None,
            files=files,
            seed=derive_seed(self._spec.seed, "parts"),
        )
