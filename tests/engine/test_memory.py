"""The estimate against what autograd keeps of the real classes, and the advice that follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from collm.contracts.backbone import AnswerIds, ModelFolderConfig
from collm.contracts.tuning import LoraConfig, TuningConfig
from collm.engine.memory import Plan, Shape, advice, describe, estimate, free_gb, plan_of
from collm.model.parameters import add_lora
from collm.model.prefix.batch import build_batch
from collm.model.recommender import Recommender

VICUNA = Shape(6_738_415_616, 262_144_000, 32, 4096, 11_008, 32)
SMOLLM2 = Shape(134_515_008, 28_311_552, 30, 576, 1536, 9)


class Prompts:
    """40 prompts of 60 tokens; nothing is shared."""

    def __init__(self) -> None:
        self.ids = np.random.default_rng(0).integers(0, 64, 2_400).astype(np.int32)
        self.offsets = np.arange(0, 2_401, 60)
        self.slots: dict[str, np.ndarray] = {}
        self.history_items = np.zeros((40, 0), dtype=np.int32)
        self.before_user = self.shared = np.full(40, 30, dtype=np.int32)

    def __len__(self) -> int:
        return 40

    def prompt(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]


def kept_bytes(lm: torch.nn.Module) -> int:
    add_lora(lm, LoraConfig(r=4), ("q_proj", "v_proj"))
    recommender = Recommender(lm, answer=AnswerIds("Yes", "No", 3, 4), readout="yes_minus_no")
    recommender.set_trainable(("lora",))
    recommender.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in recommender.parameters()}
    batch = build_batch(Prompts(), np.arange(40), share="through-user")
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = recommender(batch)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    assert scores.requires_grad
    return sum(n for place, n in storages.items() if place not in weights)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("width", "inner"), [(64, 256), (192, 512), (128, 128)])
def test_what_autograd_keeps_is_estimated_within_a_quarter(dtype, width, inner):
    shape = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=8, **shape)).eval().to(getattr(torch, dtype))
    expected = kept_bytes(lm) / 1e9
    # Nothing is shared, so every token is run; the prompts are 60 tokens long.
    found = estimate(
        Shape(10**6, 10**4, 8, width, inner, 4), Plan(dtype=dtype, tokens=2_400, prompt_tokens=60, trained=1)
    ).activations
    assert found == pytest.approx(expected, rel=0.25)


def test_weights_and_trained_parameters():
    plan = Plan("bfloat16", 0, 1024, trained=4_194_304, on_processor=False)
    assert estimate(VICUNA, plan).weights == pytest.approx(13.48, abs=0.01)
    assert estimate(VICUNA, plan).trained == pytest.approx(0.067, abs=0.001)
    four = Plan("bfloat16", 0, 1024, trained=0, four_bit=True, on_processor=False)
    assert 3.5 < estimate(VICUNA, four).weights < 4.2


def test_scoring_keeps_no_layer_and_recomputing_little():
    base = {"dtype": "bfloat16", "tokens": 4096, "prompt_tokens": 300}
    training = estimate(SMOLLM2, Plan(**base, trained=10**6)).activations
    assert 2.5 < training < 4
    assert estimate(SMOLLM2, Plan(**base, trained=0)).activations < training / 10
    assert estimate(SMOLLM2, Plan(**base, trained=10**6, recomputes=True)).activations < training / 5


def test_a_step_that_fits_is_told_and_one_that_does_not_gets_settings_that_make_it_fit():
    plan = Plan("float32", 8192, 512, trained=10**6)
    fits, said = describe("tune_1 text", SMOLLM2, plan, 64.0)
    assert fits
    assert "tune_1 text: about" in said
    assert "64.0 GB free" in said
    fits, said = describe("tune_1 text", SMOLLM2, plan, 4.0)
    assert not fits
    assert "tuning.micro_batch_tokens: " in said
    tokens = int(said.split("tuning.micro_batch_tokens: ")[1].split()[0])
    assert estimate(SMOLLM2, Plan("float32", tokens, 512, trained=10**6)).total <= 4.0
    assert estimate(SMOLLM2, Plan("float32", tokens + 128, 512, trained=10**6)).total > 4.0
    assert "backbone.gradient_checkpointing: true" in said


def test_weights_alone_too_large():
    plan = Plan("bfloat16", 4096, 1024, trained=10**6, on_processor=False)
    assert advice(VICUNA, plan, 12.0) == []
    assert "a smaller backbone" in describe("tune_1", VICUNA, plan, 3.0)[1]
    quantised = advice(VICUNA, Plan("bfloat16", 1024, 512, trained=10**6, recomputes=True, on_processor=False), 8.0)
    assert quantised == ["backbone.four_bit: true"]


def test_plans_follow_the_spec():
    backbone = ModelFolderConfig(name="hf", gradient_checkpointing=True, max_prompt_tokens=700)
    tuning = TuningConfig(name="default", micro_batch_tokens=2048)
    plan = plan_of(backbone, tuning, trained=5, device=torch.device("cpu"), max_length=512)
    assert plan == Plan("bfloat16", 2048, 512, 5, recomputes=True)
    assert free_gb(torch.device("cpu")) > 0
    keeping = TuningConfig(name="default", prefix_cache_gb=3)
    given = {"trained": 5, "device": torch.device("cpu"), "max_length": 512}
    assert plan_of(backbone, keeping, **given).kept_gb == 0
    plan = plan_of(backbone, keeping, **given, keeps_prefixes=True)
    assert estimate(SMOLLM2, plan).total == pytest.approx(estimate(SMOLLM2, replace(plan, kept_gb=0)).total + 3)
    fits, said = describe("tune_2", SMOLLM2, plan, 4.0)
    assert not fits
    assert "kept prefixes 3.0" in said
    assert "tuning.prefix_cache_gb: 0" in said


def test_a_backbone_that_says_too_little_is_not_estimated():
    assert Shape.of({"parameters": 5}) is None
    facts = {"parameters": 5, "embedding_parameters": 1, "layers": 2, "hidden_size": 128}
    assert Shape.of(facts) == Shape(5, 1, 2, 128, 512, 2)
