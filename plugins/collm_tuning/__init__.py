"""Tuning strategies: default, t1, t2, t3, text-only (TALLRec), none (in-context learning), words (BinLLM)."""

from __future__ import annotations

from collm.component import Component
from collm.contracts.tuning import TuningConfig
from collm.hookspecs import hookimpl
from collm_tuning.config import (
    JointConfig,
    TextOnlyConfig,
    TwoStepConfig,
    TwoStepWithEncoderConfig,
    UntunedConfig,
    WordsConfig,
    WordsOnceConfig,
)

ENCODER = frozenset({"encoder"})


def _strategy(name: str, function: str, config: type[TuningConfig], summary: str, needs: frozenset[str]) -> Component:
    return Component(
        kind="tuning",
        name=name,
        factory=f"collm_tuning.strategies:{function}",
        config=config,
        summary=summary,
        needs=needs,
    )


@hookimpl
def register_tuning_strategies() -> list[Component]:
    """Returns the strategies."""
    return [
        _strategy("none", "untuned", UntunedConfig, "The untuned model asked with the text prompt (ICL).", frozenset()),
        _strategy("text-only", "text_only", TextOnlyConfig, "LoRA on the text-only prompt (TALLRec).", frozenset()),
        _strategy("default", "default", TwoStepConfig, "LoRA on text, then the mapping alone (CoLLM).", ENCODER),
        _strategy("t1", "t1", TwoStepWithEncoderConfig, "LoRA on text, then mapping and fitted encoder.", ENCODER),
        _strategy(
            "t2", "t2", TwoStepWithEncoderConfig, "LoRA on text, then mapping and encoder from scratch.", ENCODER
        ),
        _strategy("t3", "t3", JointConfig, "LoRA and mapping together, in one step.", ENCODER),
        _strategy(
            "words", "words", WordsConfig, "LoRA on text, then on the prompt with an encoder's words (BinLLM).", ENCODER
        ),
        _strategy(
            "words-once", "words_once", WordsOnceConfig, "LoRA on the prompt with an encoder's words alone.", ENCODER
        ),
    ]
