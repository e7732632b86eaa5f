"""The paper's tuning strategies as data (section 4.2 and Table 5): they differ in nothing but their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collm.contracts.prompt import Variant
from collm.contracts.tuning import Group, GroupPlan, Start, StepConfig, TuneStep
from collm_tuning.config import (
    JointConfig,
    TextOnlyConfig,
    TwoStepConfig,
    TwoStepWithEncoderConfig,
    UntunedConfig,
    WordsConfig,
    WordsOnceConfig,
)


@dataclass(frozen=True)
class Strategy:
    """A strategy whose plan is known in full when it is built."""

    needs_encoder: bool
    variant: Variant
    steps: tuple[TuneStep, ...]
    n_examples: int = 0

    def plan(self) -> tuple[TuneStep, ...]:
        """Returns the steps in order."""
        return self.steps


def untuned(config: UntunedConfig) -> Strategy:
    """In-context learning: the model as it is, asked with the text prompt."""
    return Strategy(needs_encoder=False, variant="text", steps=(), n_examples=config.examples)


def text_only(config: TextOnlyConfig) -> Strategy:
    """TALLRec: LoRA on the text-only prompt."""
    return Strategy(needs_encoder=False, variant="text", steps=(_text_step(config.text),))


def default(config: TwoStepConfig) -> Strategy:
    """The paper's default: LoRA on text, then only the mapping."""
    return _two_steps(
        config,
        {
            "lora": GroupPlan(trains=False, start="previous"),
            "projector": GroupPlan(trains=True, start="scratch"),
            "encoder": GroupPlan(trains=False, start="pretrained"),
        },
        {"projector": config.collaborative},
    )


def t1(config: TwoStepWithEncoderConfig) -> Strategy:
    """Step two trains mapping and encoder, from the fitted encoder."""
    return _with_encoder(config, GroupPlan(trains=True, start="pretrained"))


def t2(config: TwoStepWithEncoderConfig) -> Strategy:
    """Step two trains mapping and encoder, both from scratch."""
    return _with_encoder(config, GroupPlan(trains=True, start="scratch"))


def t3(config: JointConfig) -> Strategy:
    """One step trains LoRA and mapping together; the fitted encoder stays as it is."""
    step = TuneStep(
        name="joint",
        variant="hybrid",
        groups={
            "lora": GroupPlan(trains=True, start="scratch"),
            "projector": GroupPlan(trains=True, start="scratch"),
            "encoder": GroupPlan(trains=False, start="pretrained"),
        },
        optimiser={"lora": config.text, "projector": config.collaborative},
    )
    return Strategy(needs_encoder=True, variant="hybrid", steps=(step,))


def words(config: WordsConfig) -> Strategy:
    """BinLLM's two steps: LoRA on text, then on with the prompt that holds the encoder's words."""
    return Strategy(
        needs_encoder=True,
        variant="hybrid",
        steps=(_text_step(config.text), _words_step(config.collaborative, start="previous")),
    )


def words_once(config: WordsOnceConfig) -> Strategy:
    """BinLLM in one step: LoRA on the prompt that holds the encoder's words."""
    return Strategy(needs_encoder=True, variant="hybrid", steps=(_words_step(config.collaborative, start="scratch"),))


def _words_step(settings: StepConfig, *, start: Start) -> TuneStep:
    return TuneStep(
        name="words",
        variant="hybrid",
        groups={"lora": GroupPlan(trains=True, start=start)},
        optimiser={"lora": settings},
    )


def _text_step(settings: StepConfig) -> TuneStep:
    return TuneStep(
        name="text",
        variant="text",
        groups={"lora": GroupPlan(trains=True, start="scratch")},
        optimiser={"lora": settings},
    )


def _two_steps(
    config: TwoStepConfig, groups: Mapping[Group, GroupPlan], optimiser: Mapping[Group, StepConfig]
) -> Strategy:
    second = TuneStep(name="collaborative", variant="hybrid", groups=groups, optimiser=optimiser)
    return Strategy(needs_encoder=True, variant="hybrid", steps=(_text_step(config.text), second))


def _with_encoder(config: TwoStepWithEncoderConfig, encoder: GroupPlan) -> Strategy:
    return _two_steps(
        config,
        {
            "lora": GroupPlan(trains=False, start="previous"),
            "projector": GroupPlan(trains=True, start="scratch"),
            "encoder": encoder,
        },
        {"projector": config.collaborative, "encoder": config.encoder},
    )
