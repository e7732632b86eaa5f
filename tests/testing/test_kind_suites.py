"""The suites of datasets, backbones, prompts and strategies catch faults in words that name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from collm.component import Component
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.prompt import PromptConfig, PromptTemplate, TargetTitle, Text
from collm.contracts.tuning import GroupPlan, StepConfig, TuneStep, TuningConfig
from collm.model.hf_backbone import HfBackbone
from collm.testing.backbone_suite import BackboneContract
from collm.testing.dataset_suite import DatasetContract
from collm.testing.fakes import interaction_table
from collm.testing.prompt_suite import PromptContract
from collm.testing.tiny_model import write_tiny_model
from collm.testing.tuning_suite import TuningContract


def suite_of(base: type, built, **facts):
    """A suite whose `build` gives something made by the test."""
    configs = {"dataset": DatasetConfig, "backbone": BackboneConfig, "prompt": PromptConfig, "tuning": TuningConfig}
    kind = base.__name__.removesuffix("Contract").lower()
    record = Component(kind, "broken", "nowhere:build", configs[kind], "Of this test.", **facts)
    return type("Suite", (base,), {"component": record, "build": lambda self: built})()


# -- datasets ------------------------------------------------------------------------------------------------------


class Source:
    def __init__(self, *tables, hashes=("abc", "abc")) -> None:
        self.tables, self.hashes = list(tables) * 2, list(hashes) * 2

    def load(self):
        return self.tables.pop(0)

    def content_hash(self):
        return self.hashes.pop(0)


TABLE = interaction_table()


@pytest.mark.parametrize(
    ("source", "check", "message"),
    [
        (Source(replace(TABLE, titles=TABLE.titles[:-1])), "table_is_sound", "there are 20 titles for 21 item ids"),
        (Source(replace(TABLE, expected={"train": 7})), "table_is_sound", "train: found 168, the recipe expects 7"),
        (Source(replace(TABLE, tie_rule=" ")), "table_is_sound", "tie_rule is empty"),
        (Source(TABLE.frame), "table_is_sound", "load returned DataFrame"),
        (Source(TABLE, interaction_table(seed=1)), "loading_twice_gives_the_same", "two loads give different rows"),
        (
            Source(TABLE, hashes=("abc", "abd")),
            "loading_twice_gives_the_same",
            "content_hash changes between",
        ),
        (Source(TABLE, hashes=(b"abc",)), "content_hash_is_text", "content_hash returned b'abc'"),
    ],
)
def test_broken_datasets(source: Source, check: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        getattr(suite_of(DatasetContract, source), f"test_{check}")()


def test_wrong_column_type_is_named() -> None:
    table = replace(TABLE, frame=TABLE.frame.with_columns(pl.col("user").cast(pl.Int64)))
    with pytest.raises(AssertionError, match="column 'user' is Int64, expected Int32"):
        suite_of(DatasetContract, Source(table)).test_table_is_sound()


# -- backbones -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_tiny_model(path)
    return path


class Trainable(HfBackbone):
    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        return super().load(dtype=dtype, device=device).requires_grad_(True)


class Wider(HfBackbone):
    def __init__(self, folder: Path, *, cache_dir: Path) -> None:
        super().__init__(folder, cache_dir=cache_dir)
        self.hidden_size += 1


class OtherTargets(HfBackbone):
    def __init__(self, folder: Path, *, cache_dir: Path) -> None:
        super().__init__(folder, cache_dir=cache_dir)
        self.lora_targets = ("q_proj", "query")


class AddsTokens(HfBackbone):
    def tokenizer(self):
        inner = super().tokenizer()
        return SimpleNamespace(
            bos_ids=(1,),
            decode=inner.decode,
            encode=lambda text: [1, *inner.encode(text)],
            encode_many=lambda texts: [[1, *each] for each in inner.encode_many(texts)],
        )


class Restless(HfBackbone):
    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        model = super().load(dtype=dtype, device=device)
        torch.nn.init.normal_(model.get_output_embeddings().weight)
        return model


@pytest.mark.parametrize(
    ("kind", "check", "message"),
    [
        (Trainable, "model_is_frozen_and_repeatable", "parameters that train: .*requires_grad_"),
        (Restless, "model_is_frozen_and_repeatable", "two loads answer differently"),
        (Wider, "embeddings_fit", "token embeddings are 32 wide, but hidden_size=33"),
        (OtherTargets, "lora_targets_exist", "lora_targets name no module: query"),
        (AddsTokens, "tokenizer_takes_plain_text", "decode.* gives|puts special ids"),
    ],
)
def test_broken_backbones(kind: type, check: str, message: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        getattr(suite_of(BackboneContract, kind(folder, cache_dir=tmp_path)), f"test_{check}")()


# -- prompts -------------------------------------------------------------------------------------------------------


def test_broken_prompt() -> None:
    template = PromptTemplate(hybrid=(Text("Is "), TargetTitle(), Text(" good? ")))
    with pytest.raises(AssertionError, match=r"needs at least one user slot, got 0.*must end in words"):
        suite_of(PromptContract, template).test_template_is_sound()


# -- strategies ----------------------------------------------------------------------------------------------------

STEP = StepConfig()
FROZEN = GroupPlan(trains=False, start="pretrained")
FRESH = GroupPlan(trains=True, start="scratch")


def step(groups, *, name: str = "one", variant: str = "hybrid", optimiser=None) -> TuneStep:
    settings = {group: STEP for group, plan in groups.items() if plan.trains}
    return TuneStep(name, variant, groups, settings if optimiser is None else optimiser)


def strategy(*steps: TuneStep, needs_encoder=True, variant: str = "hybrid"):
    return SimpleNamespace(needs_encoder=needs_encoder, variant=variant, plan=lambda: steps)


MAPPING = {"projector": FRESH, "encoder": FROZEN}
LATER = GroupPlan(trains=True, start="previous")


@pytest.mark.parametrize(
    ("built", "check", "message"),
    [
        (strategy(variant="both"), "declarations", "variant 'both' must be one of text, hybrid"),
        (strategy(needs_encoder=False), "declarations", r"needs_encoder=False, but the record has needs=\['encoder'\]"),
        (strategy(step(MAPPING), step(MAPPING)), "steps_name_known_things", "steps must have different names"),
        (strategy(step({"adapter": FRESH})), "steps_name_known_things", r"unknown groups \['adapter'\]"),
        (strategy(step({"encoder": FROZEN})), "steps_name_known_things", "step 'one' trains nothing"),
        (
            strategy(step(MAPPING, optimiser={})),
            "steps_name_known_things",
            "no StepConfig in `optimiser` for proj",
        ),
        (
            strategy(step({"lora": LATER})),
            "steps_can_follow_each_other",
            "starts from the previous step, which",
        ),
        (
            strategy(step({"lora": GroupPlan(trains=True, start="pretrained")})),
            "steps_can_follow_each_other",
            "only the encoder starts pretrained",
        ),
        (
            strategy(step(MAPPING, variant="text")),
            "groups_fit_the_variant",
            "reads the text prompt, which has no",
        ),
        (strategy(step({"encoder": FRESH})), "groups_fit_the_variant", "the last step lacks projector"),
        (strategy(step({"lora": FROZEN})), "groups_fit_the_variant", "the last step lacks encoder, projector"),
    ],
)
def test_broken_strategies(built, check: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        getattr(suite_of(TuningContract, built, needs=frozenset({"encoder"})), f"test_{check}")()
