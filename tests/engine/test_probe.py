"""Models are proved before they are trusted: sharing where it is exact, alone where it is not, else an error."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_architectures import CONFIGS, UNSHARED, build
from torch import nn
from transformers import BertConfig, BertLMHeadModel

from collm.contracts.backbone import AnswerIds
from collm.engine.probe import OwnLogits, in_float32, probe_prompts
from collm.errors import RunError
from collm.model.prefix.batch import build_batch
from collm.model.prefix.run import Probe
from collm.model.recommender import Recommender
from collm.prompt.encoded import EncodedPrompts

ANSWER = AnswerIds(" Yes", " No", 11, 12)
TOKENIZER = SimpleNamespace(bos_ids=(1,), answer=ANSWER)


def long_prompts() -> EncodedPrompts:
    """Four prompts of about 100 tokens, two with each beginning: beyond the local windows of the tiny models."""
    generator = np.random.default_rng(5)
    rows, shared = [], []
    for n_shared in (90, 70):
        beginning = generator.integers(440, size=n_shared)
        for n_own in (7, 12):
            rows.append(np.concatenate([beginning, generator.integers(440, size=n_own)]))
            shared.append(n_shared)
    lengths = [len(row) for row in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    before = np.array(shared, np.int32)
    return EncodedPrompts(np.concatenate(rows).astype(np.int32), offsets, before, before, np.zeros(4, np.int32))


def own_logits(lm: nn.Module, prompts: EncodedPrompts) -> torch.Tensor:
    rows = [torch.from_numpy(prompts.prompt(index).astype(np.int64))[None] for index in range(len(prompts))]
    with torch.no_grad():
        return torch.stack([lm(input_ids=row, use_cache=False).logits[0, -1, [11, 12]] for row in rows]).float()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_engines_logits_are_the_models_own(name: str) -> None:
    lm = build(name)
    prompts, own = long_prompts(), OwnLogits(lm, TOKENIZER)
    truth = own_logits(lm, prompts)
    recommender = Recommender(lm, answer=ANSWER, readout="yes_minus_no").eval()
    probe = own.compare(recommender)
    assert probe.shares is recommender.shares_prefixes is (name not in UNSHARED)
    assert (probe.note() is None) == probe.shares
    assert probe.dtype == "float32"
    assert probe.seconds < 2
    for share in ("none", "through-user"):
        batch = build_batch(prompts, np.arange(4), share=share)  # type: ignore[arg-type]
        with torch.no_grad():
            found = recommender.answer_logits(batch)
            score = recommender(batch)
        torch.testing.assert_close(found, truth, atol=2e-5, rtol=0)
        torch.testing.assert_close(score, truth[:, 0] - truth[:, 1], atol=4e-5, rtol=0)


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2", "opt", "llama"])
def test_gradients_reach_the_states_through_the_models_own_head(name: str) -> None:
    lm = build(name)
    recommender = Recommender(lm, answer=ANSWER, readout="yes_logit")
    hidden = torch.randn(3, 32, requires_grad=True)
    before = {key: value.clone() for key, value in lm.state_dict().items()}
    recommender._head(hidden)[:, 0].sum().backward()
    assert hidden.grad is not None
    assert (hidden.grad.abs().sum(dim=1) > 0).all()
    # The head and the decoder are back where they were.
    assert all(torch.equal(before[key], value) for key, value in lm.state_dict().items())
    assert own_logits(lm, long_prompts()).isfinite().all()


class Doubled(nn.Module):
    """A language model whose own forward pass gives other logits than its parts."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.inner = lm

    def __getattr__(self, name: str) -> object:
        return super().__getattr__(name) if name == "inner" else getattr(super().__getattr__("inner"), name)

    def forward(self, **inputs: torch.Tensor) -> object:
        output = self.inner(**inputs)
        output.logits = output.logits * 2
        return output


def test_a_model_that_scores_otherwise_stops_the_run() -> None:
    lm = build("llama")
    own = OwnLogits(Doubled(lm), TOKENIZER)
    with pytest.raises(RunError, match=r"LlamaForCausalLM: the scores would not be.*backbone\.probe: false"):
        own.compare(Recommender(lm, answer=ANSWER, readout="yes_logit").eval())


@pytest.mark.parametrize("causal", [False, True])
def test_a_model_that_reads_ahead_stops_the_run(causal: bool) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    lm = BertLMHeadModel(BertConfig(vocab_size=448, is_decoder=causal, **sizes)).eval()
    own = OwnLogits(lm, TOKENIZER)
    recommender = Recommender(lm, answer=ANSWER, readout="yes_logit").eval()
    if causal:
        probe = own.compare(recommender)
        gap = probe.gap_shared if probe.shares else probe.gap_alone
        assert gap is not None
        assert gap < 1e-5
        return
    with pytest.raises(RunError, match=r"BertLMHeadModel: reads tokens ahead, .* Use a causal language model"):
        own.compare(recommender)


def test_half_precision_is_probed_in_float32_and_restored_to_the_bit() -> None:
    lm = build("llama").to(torch.bfloat16)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    own = OwnLogits(lm, TOKENIZER)
    probe = own.compare(Recommender(lm, answer=ANSWER, readout="yes_logit").eval())
    assert probe.dtype == "float32"
    assert probe.gap_shared is not None
    assert probe.gap_shared < 1e-4
    for name, value in lm.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_large_models_are_probed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collm.engine.probe.FLOAT32_PARAMETERS", 10)
    lm = build("llama").to(torch.bfloat16)
    with in_float32(lm) as dtype:
        assert dtype == torch.bfloat16
        assert {each.dtype for each in lm.parameters()} == {torch.bfloat16}
    own = OwnLogits(lm, TOKENIZER)
    assert own.compare(Recommender(lm, answer=ANSWER, readout="yes_logit").eval()).dtype == "bfloat16"


def test_probe_prompts_share_beginnings_and_begin_as_prompts_do() -> None:
    prompts = probe_prompts(TOKENIZER, 440)
    rows = [prompts.prompt(index) for index in range(len(prompts))]
    assert len({len(row) for row in rows}) == len(rows) == 4
    assert all(row[0] == 1 for row in rows)
    for first, second in ((0, 1), (2, 3)):
        n = prompts.shared[first]
        assert np.array_equal(rows[first][:n], rows[second][:n])
        assert rows[first][n] != rows[second][n]


def test_notes_say_what_was_switched_off_and_why() -> None:
    exact = Probe(True, 1e-6, None, 1e-3, "float32", 4, 0.1)
    never = Probe(False, None, 1e-6, 1e-3, "float32", 4, 0.1)
    other = Probe(False, 0.43, 1e-6, 1e-3, "float32", 4, 0.1)
    failed = Probe(False, None, 1e-6, 1e-3, "float32", 4, 0.1, fault="layers drop keywords")
    assert exact.note() is None
    assert never.note() is None
    assert "one by one: sharing their prefixes gave this language model other logits (by up to 0.43" in str(
        other.note()
    )
    assert failed.note() == "Prompts are computed one by one: layers drop keywords."
    assert math.isclose(Probe(**other.plain()).gap_shared or 0, 0.43)
