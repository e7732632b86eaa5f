"""The prompts of a spec, per variant: one place where template, tokenizer, limits and examples come together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from collm.contracts.backbone import Backbone
from collm.contracts.prompt import PromptTemplate, Variant
from collm.contracts.tuning import TuningStrategy
from collm.data.prepared import PreparedData, Rows
from collm.engine.prompt_rows import PromptRows, PromptSource
from collm.model.encoder import EncoderModule
from collm.model.recommender import Probe
from collm.registry import Registry
from collm.spec.model import ResolvedSpec

Array = np.ndarray[Any, Any]
SHORTENED = "shortened_histories"


class PromptSources:
    """Encodes rows for either variant; what a variant needs is made when it is first asked for."""

    def __init__(
        self,
        spec: ResolvedSpec,
        data: PreparedData,
        backbone: Backbone,
        strategy: TuningStrategy,
        *,
        registry: Registry,
        new_encoder: Callable[[], EncoderModule],
        device: torch.device,
    ) -> None:
        """Takes a spec with a backbone, and what builds its encoder: vectors per slot and histories are read off it."""
        assert spec.prompt is not None and spec.backbone is not None
        self._spec, self._data, self._backbone = spec, data, backbone
        self._new_encoder, self._device = new_encoder, device
        self._leading_space = spec.prompt.leading_space
        self._template: PromptTemplate = registry.get("prompt", spec.prompt.name).load_factory()(spec.prompt)
        self.max_tokens = min(spec.backbone.max_prompt_tokens, backbone.max_length)
        # Strategies of other packages may know nothing of examples.
        self.n_examples: int = getattr(strategy, "n_examples", 0)
        self._sources: dict[Variant, PromptSource] = {}

    def source(self, variant: Variant) -> PromptSource:
        """Returns what encodes rows of the spec's own data."""
        if variant not in self._sources:
            self._sources[variant] = self.source_of(self._data, variant)
        return self._sources[variant]

    def source_of(self, data: PreparedData, variant: Variant) -> PromptSource:
        """Returns what encodes rows of other data with the same ids."""
        return PromptSource(
            data,
            self._template,
            self._backbone,
            variant=variant,
            max_tokens=self.max_tokens,
            history_items=self._spec.history.max_items,
            encoder=self._new_encoder() if variant == "hybrid" else None,
            device=self._device,
            n_examples=self.n_examples,
            seed=self._spec.seed,
            leading_space=self._leading_space,
        )

    def wording(self, variant: Variant) -> list[str]:
        """Returns the variant's segments in words, for whoever builds prompts from an export."""
        return [repr(segment) for segment in self._template.segments(variant)]

    def payload(self, variant: Variant) -> dict[str, Any]:
        """Returns what decides a variant's prompts, as plain data."""
        return {
            # The segments' types are part of what a template means, so its repr is hashed, not its fields alone.
            "prompt": repr(self._template.segments(variant)),
            "wording": {k: v for k, v in vars(self._template).items() if k not in ("hybrid", "text")},
            "leading_space": self._leading_space,
            "examples": [self.n_examples, self._spec.seed] if self.n_examples else None,
        }


class PromptScorer:
    """Scores rows by their prompts, and counts those whose history did not fit."""

    def __init__(
        self, source: PromptSource, score: Callable[[PromptRows], Array], *, probe: Probe | None = None
    ) -> None:
        """Takes what encodes rows, what scores them then, and how the model was proved."""
        self._source, self._score, self._probe = source, score, probe
        self._n_shortened = 0

    def __call__(self, rows: Rows) -> Array:
        """Returns float32 [n] logits."""
        prompts = self._source.encode(rows)
        self._n_shortened += prompts.n_shortened
        return self._score(prompts)

    def facts(self) -> dict[str, Any]:
        """Returns how many of the rows scored so far have a prompt that leaves out titles, and the proof."""
        return {SHORTENED: self._n_shortened, "probe": self._probe.plain() if self._probe else None}


def shortened_note(
    trained: Sequence[Mapping[str, Any]], scoring: Mapping[str, Any], *, max_tokens: int
) -> tuple[str, ...]:
    """Returns the sentence on histories that did not fit into prompts, or nothing.

    Args:
        trained: Facts of the tuning steps.
        scoring: Facts of the stage that scored the rows.
        max_tokens: Tokens per prompt at most.
    """
    n_trained = max((int(facts.get(SHORTENED, 0)) for facts in trained), default=0)
    counts = {"rows scored": int(scoring.get(SHORTENED, 0)), "rows trained on": n_trained}
    shortened = [f"of {n:,} {name}" for name, n in counts.items() if n]
    if not shortened:
        return ()
    return (
        f"The histories {' and '.join(shortened)} were shortened: with all titles a prompt would have more than "
        f"{max_tokens:,} tokens, so the oldest are left out.",
    )
