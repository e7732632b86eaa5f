"""What enters a fingerprint: fields that came later count only where they are used, places never."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from collm.component import added_field, location_field
from collm.contracts.prompt import PromptConfig
from collm.contracts.tuning import AdapterStepConfig, LoraConfig, StepConfig, TuningConfig
from collm.spec.fingerprint import config_payload, dump_config, fingerprint


class Inner(BaseModel):
    size: int = Field(default=3, description="Old.")
    kind: str = added_field("plain", description="New.", min_length=1)


class Outer(BaseModel):
    inner: Inner = Field(default=Inner(), description="Old.")
    start: Path | None = location_field(None, description="Place.")


def test_an_added_field_counts_only_where_it_is_used() -> None:
    assert config_payload(Outer()) == {"inner": {"size": 3}}
    assert config_payload(Outer(inner=Inner(kind="plain"), start=Path("x"))) == {"inner": {"size": 3}}
    assert config_payload(Outer(inner=Inner(kind="new"))) == {"inner": {"size": 3, "kind": "new"}}
    assert dump_config(Outer(), locations=True) == {"inner": {"size": 3, "kind": "plain"}, "start": None}


def test_settings_of_tuning_and_prompts_have_the_fingerprints_from_before_their_new_fields() -> None:
    """Recorded before rsLoRA, DoRA, warm-up ratio, adapters to start from and chat."""
    assert config_payload(LoraConfig()) == {"r": 8, "alpha": 16, "dropout": 0.05, "target_modules": None}
    step = config_payload(StepConfig())
    assert config_payload(AdapterStepConfig(start=Path("x"))) == step
    assert set(step) == {
        *("learning_rate", "weight_decay", "epochs", "epoch_steps", "warmup_steps"),
        *("validations_per_epoch", "patience", "rows"),
    }
    assert config_payload(PromptConfig(name="p")) == {"name": "p", "leading_space": False}
    assert fingerprint(config_payload(TuningConfig(name="t"))) == "7dbbdf7c2cbb5849"
    changed = (LoraConfig(use_dora=True), LoraConfig(use_rslora=True), LoraConfig(target_modules="all-linear"))
    assert len({fingerprint(config_payload(each)) for each in (LoraConfig(), *changed)}) == 4
    assert config_payload(StepConfig(warmup_ratio=0.1)) == step | {"warmup_ratio": 0.1}
