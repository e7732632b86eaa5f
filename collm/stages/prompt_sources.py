"""The language-model sections of a spec, and its prompts per variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from collm.component import BuildContext
from collm.contracts.backbone import Backbone, BackboneConfig, ChatFrame
from collm.contracts.prompt import PromptConfig, PromptTemplate, Variant
from collm.contracts.tuning import TuningConfig, TuningStrategy
from collm.data.prepared import PreparedData, Rows
from collm.engine.prompt_lists import n_drawn_rows
from collm.engine.prompt_rows import PromptRows, PromptSource
from collm.engine.shares import scored_in_parts
from collm.errors import RunError, SpecError
from collm.model.encoder import EncoderTraits
from collm.model.prefix.run import Probe
from collm.prompt.show import prompt_text
from collm.prompt.template import include_fault, slot_faults
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.spec.sections import HistoryConfig

Array = np.ndarray[Any, Any]
SHORTENED = "shortened_histories"
# Target and history of the prompt that a chat template is tried on.
SAMPLE_TITLES = ("Heat (1995)", ("Alien (1979)", "Toy Story"))


@dataclass(frozen=True)
class LanguageSetup:
    """The language-model sections of a spec and what is built from them, without weights.

    Attributes:
        spec: The whole spec.
        config: Its backbone section.
        tuning: Its tuning section.
        prompt: Its prompt section.
        backbone: The language model without its weights.
        strategy: The tuning strategy.
        template: What prompts say.
    """

    spec: ResolvedSpec
    config: BackboneConfig
    tuning: TuningConfig
    prompt: PromptConfig
    backbone: Backbone
    strategy: TuningStrategy
    template: PromptTemplate

    @classmethod
    def of(cls, spec: ResolvedSpec, registry: Registry, context: BuildContext) -> LanguageSetup:
        """Builds what a spec with a backbone names.

        Raises:
            RunError: If the spec has no backbone.
        """
        config, tuning, prompt = spec.backbone, spec.tuning, spec.prompt
        if config is None or tuning is None or prompt is None:
            raise RunError(f"{spec.name}: the spec has no backbone, so there is no prompt and no language model")
        backbone = registry.get("backbone", config.name).load_factory()(config, context=context)
        strategy = registry.get("tuning", tuning.name).load_factory()(tuning)
        template = registry.get("prompt", prompt.name).load_factory()(prompt).under(spec.history.include)
        faults = slot_faults(template, tuple(spec.all_encoders)) if spec.all_encoders else []
        faults += filter(None, [include_fault(template, spec.history.include)])
        if faults:
            raise SpecError(f"prompt: {'; '.join(faults)}")
        if prompt.chat:
            if getattr(strategy, "n_examples", 0):
                raise SpecError("prompt.chat: answered examples (tuning.examples) have no turns of their own; set one")
            if not hasattr(backbone, "in_chat"):
                raise SpecError(f"prompt.chat: backbone '{config.name}' has no chat template; set it to false")
            backbone = backbone.in_chat(prompt_text(template, "text", *SAMPLE_TITLES))
        return cls(spec, config, tuning, prompt, backbone, strategy, template)

    @property
    def max_tokens(self) -> int:
        """Tokens per prompt at most."""
        return min(self.config.max_prompt_tokens, self.backbone.max_length)

    @property
    def n_examples(self) -> int:
        """Answered questions before every prompt; strategies of other packages may not declare it."""
        return getattr(self.strategy, "n_examples", 0)


class PromptSources:
    """Encodes rows for either variant; what a variant needs is made when it is first used."""

    def __init__(
        self,
        setup: LanguageSetup,
        data: PreparedData,
        *,
        encoders: Callable[[], Mapping[str, EncoderTraits]],
        device: torch.device,
    ) -> None:
        """Takes the language-model sections, and what gives the encoders' traits, asked for hybrid prompts alone."""
        self._setup, self._data = setup, data
        self._encoders, self._device = encoders, device
        self._sources: dict[Variant, PromptSource] = {}

    def source(self, variant: Variant) -> PromptSource:
        """Returns what encodes rows of the spec's own data."""
        if variant not in self._sources:
            self._sources[variant] = self.source_of(self._data, variant)
        return self._sources[variant]

    def source_of(self, data: PreparedData, variant: Variant) -> PromptSource:
        """Returns what encodes rows of other data with the same ids."""
        setup = self._setup
        return PromptSource(
            data,
            setup.template,
            setup.backbone,
            variant=variant,
            max_tokens=setup.max_tokens,
            history=setup.spec.history,
            encoders=self._encoders() if variant == "hybrid" else None,
            device=self._device,
            n_examples=setup.n_examples,
            seed=setup.spec.seed,
            leading_space=setup.prompt.leading_space,
        )

    def wording(self, variant: Variant) -> list[str]:
        """Returns the variant's segments in words, for programs that build prompts from an export."""
        return [repr(segment) for segment in self._setup.template.segments(variant)]

    def _chat(self) -> dict[str, Any] | None:
        """Returns what a chat template makes of prompts, as plain data; None where there is none."""
        tokenizer = self._setup.backbone.tokenizer()
        frame: ChatFrame | None = getattr(tokenizer, "chat", None)
        if frame is None:
            return None
        return asdict(frame) | {"answer": [tokenizer.answer.positive, tokenizer.answer.negative]}

    def payload(self, variant: Variant) -> dict[str, Any]:
        """Returns what decides a variant's prompts, as plain data."""
        setup = self._setup
        return {
            # The segments' types are part of what a template means, so its repr is hashed, not its fields alone.
            "prompt": repr(setup.template.segments(variant)),
            "wording": words_beside(setup.template, variant),
            "leading_space": setup.prompt.leading_space,
            **({} if (chat := self._chat()) is None else {"chat": chat}),
            "examples": [setup.n_examples, setup.spec.seed] if setup.n_examples else None,
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
        return self._scored(self._source, rows)

    def score_pairs(self, view: PreparedData, rows: Rows) -> Array:
        """Returns float32 [n] logits of rows that are not the dataset's own (see `collm.data.pairs`)."""
        return self._scored(self._source.on(view), rows)

    def _scored(self, source: PromptSource, rows: Rows) -> Array:
        def score(part: Rows) -> Array:
            prompts = source.encode(part)
            self._n_shortened += prompts.n_shortened
            return self._score(prompts)

        return scored_in_parts(rows, score)

    def facts(self) -> dict[str, Any]:
        """Returns how many of the rows scored so far have a prompt that leaves out titles, and the proof."""
        return {SHORTENED: self._n_shortened, "probe": self._probe.plain() if self._probe else None}


def words_beside(template: PromptTemplate, variant: Variant) -> dict[str, Any]:
    """Returns the words of a template beside its segments, without those of lists that the variant does not have."""
    unused, lists = {"hybrid", "text", "both"}, template.lists(variant)
    if "disliked" not in lists:
        unused.add("empty_disliked")
    if "rated" not in lists:
        unused |= {"liked_word", "disliked_word"}
    return {name: value for name, value in vars(template).items() if name not in unused}


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


def past_notes(history: HistoryConfig, data: PreparedData) -> Iterator[str]:
    """Yields the sentences on what prompts list beside liked titles.

    Args:
        history: The spec's.
        data: Prepared data.
    """
    if history.include == "both":
        n_drawn = n_drawn_rows(data)
        if history.max_rated is None:
            listed = f"up to {history.max_items} liked and {history.n_disliked} disliked items of the user"
        else:
            listed = f"the last {history.max_rated} items that the user rated, liked and disliked"
        drawn = f" Its {n_drawn:,} rows drawn as negatives are not dislikes and not listed." if n_drawn else ""
        yield (f"Prompts list {listed} (history.include: both; disliked are the dataset's rows with label 0).{drawn}")
    if history.ages:
        yield "Prompts say how long before the row each listed item was rated (history.ages)."
