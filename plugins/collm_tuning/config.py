"""Settings of the tuning strategies."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from collm.contracts.tuning import AdapterStepConfig, Loss, StepConfig, TuningConfig

# Settings that only steps read, of those that no profile sets.
READ_BY_STEPS = ("max_rows", "max_valid_rows", "batch_size", "lora")


class StrategyConfig(TuningConfig):
    """What all strategies here have; their steps' settings are fields."""

    @model_validator(mode="after")
    def _share_is_read(self) -> Self:
        steps = [each for name in type(self).model_fields if isinstance(each := getattr(self, name), StepConfig)]
        usual = type(self).model_fields["held_out_share"].default
        if self.held_out_share != usual and not any(step.rows == "held-out" for step in steps):
            advice = "remove held_out_share" + (", or set rows: held-out in a step" if steps else "")
            raise ValueError(
                f"held_out_share is {self.held_out_share:g}, which steps with rows: held-out alone read, and there is "
                f"none; {advice}"
            )
        return self


class UntunedConfig(StrategyConfig):
    """No step at all."""

    examples: int = Field(
        default=0,
        ge=0,
        description="Answered questions about training rows, half of them liked, before every prompt; the same ones "
        "for all prompts, those of the same users included.",
    )

    @field_validator("loss")
    @classmethod
    def _without_steps(cls, value: Loss) -> Loss:
        if value != "bce":
            raise ValueError("the strategy none has no step, so no loss is computed; remove it, or tune (text-only)")
        return value

    def warnings(self) -> tuple[str, ...]:
        """Returns a sentence on settings that only steps read."""
        fields = type(self).model_fields
        unread = [
            name for name in READ_BY_STEPS if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        if not unread:
            return ()
        return (f"The strategy none has no step, so these settings have no effect: tuning.{', tuning.'.join(unread)}.",)


class TextOnlyConfig(StrategyConfig):
    """One step on the text-only prompt."""

    text: AdapterStepConfig = Field(default=AdapterStepConfig(), description="LoRA on the text-only prompt.")


class TwoStepConfig(TextOnlyConfig):
    """Text first, then the mapping."""

    collaborative: StepConfig = Field(default=StepConfig(), description="The mapping on the full prompt.")


class TwoStepWithEncoderConfig(TwoStepConfig):
    """Text first, then the mapping together with the encoder."""

    encoder: StepConfig = Field(
        default=StepConfig(),
        description="The encoder in the second step; only learning_rate and weight_decay are read.",
    )


class JointConfig(TextOnlyConfig):
    """LoRA and mapping in one step."""

    collaborative: StepConfig = Field(
        default=StepConfig(), description="The mapping; only learning_rate and weight_decay are read."
    )


class WordsOnceConfig(StrategyConfig):
    """LoRA on the full prompt, whose slots take words."""

    collaborative: AdapterStepConfig = Field(
        default=AdapterStepConfig(), description="LoRA on the full prompt, from the start."
    )


class WordsConfig(TextOnlyConfig):
    """Text first, then LoRA goes on with the full prompt, whose slots take words."""

    collaborative: StepConfig = Field(
        default=StepConfig(), description="LoRA on the full prompt, from where the first step left it."
    )
