"""BinLLM: codes, their text, and their fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.errors import PluginError, SpecError
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_data
from collm_binllm import register_encoders
from collm_binllm.encoder import BinLlm, code_texts, straight_through_sign

(BINLLM,) = register_encoders()
REGISTRY = default_registry()


class TestBinLlm(EncoderContract):
    component = BINLLM
    settings: ClassVar = {"encoder": {"name": "mf-bias", "embedding_size": 4}, "bits": 16}


class TestBinLlmOnMf(EncoderContract):
    component = BINLLM
    settings: ClassVar = {"encoder": {"name": "mf", "embedding_size": 4}, "bits": 5, "text": "binary"}


def made(tmp_path: Path, **settings: Any) -> BinLlm:
    config = component_config(BINLLM, settings, REGISTRY)
    torch.manual_seed(0)
    context = BuildContext(cache_dir=tmp_path, find=REGISTRY.get)
    return BINLLM.load_factory()(config, data=encoder_data(), context=context)


def test_codes_read_as_numbers_of_eight_bits() -> None:
    bits = np.random.default_rng(0).random((20, 32)) < 0.5
    for row, dotted, binary in zip(bits, code_texts(bits, "dot-decimal"), code_texts(bits, "binary"), strict=True):
        digits = "".join(str(int(bit)) for bit in row)
        assert binary == digits
        assert dotted == ".".join(str(int(digits[at : at + 8], 2)) for at in range(0, 32, 8))
    assert code_texts(np.array([[True] + [False] * 7 + [False] * 7 + [True]]), "dot-decimal") == ["128.1"]


def test_the_sign_is_exact_and_its_gradient_is_that_of_tanh() -> None:
    vectors = torch.tensor([-2.0, -1e-4, 0.0, 0.3, 5.0], requires_grad=True)
    signs = straight_through_sign(vectors)
    assert signs.tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]
    weights = torch.arange(1.0, 6.0)
    (signs * weights).sum().backward()
    expected = weights * (1 - torch.tanh(vectors.detach()) ** 2)
    torch.testing.assert_close(vectors.grad, expected)


def test_the_score_counts_equal_bits_of_the_words(tmp_path: Path) -> None:
    encoder = made(tmp_path, bits=16, text="binary").eval()
    users, items = encoder.slot_words("user", [1, 2, 3]), encoder.slot_words("item", [4, 5, 6])
    batch = EncoderBatch(user=torch.tensor([1, 2, 3]), item=torch.tensor([4, 5, 6]))
    for logit, user, item in zip(encoder.score(batch).tolist(), users, items, strict=True):
        equal = sum(one == two for one, two in zip(user, item, strict=True))
        # <h_u, h_i> = equal - unequal; scale 1 and bias 0 before the fit.
        assert logit == pytest.approx((equal - (16 - equal)) / 4)


def test_codes_rank_what_their_encoder_ranks(tmp_path: Path) -> None:
    """After a fit on separable rows, equal tastes have nearer codes than opposite ones."""
    encoder = made(tmp_path, bits=32, encoder={"name": "mf", "embedding_size": 8})
    data = encoder_data()
    user, item = torch.meshgrid(torch.arange(1, 9), torch.arange(1, 9), indexing="ij")
    label = ((user % 2) == (item % 2)).float()
    batch = EncoderBatch(user=user.reshape(-1), item=item.reshape(-1), label=label.reshape(-1))
    assert data.n_users >= 8 and data.n_items >= 8
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        encoder.loss(batch).backward()
        optimiser.step()
    logits = encoder.score(batch)
    assert logits[batch.label == 1].min() > logits[batch.label == 0].max()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": {"name": "sasrec", "embedding_size": 8}}, "vectors of encoder 'sasrec' depend on histories"),
        ({"encoder": {"name": "din"}}, "depend on histories and the target item"),
    ],
)
def test_encoders_without_one_vector_per_id_are_refused(tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        made(tmp_path, **settings)


def test_the_inner_phases_select_by_their_loss_since_codes_mean_nothing_yet(tmp_path: Path) -> None:
    encoder = made(tmp_path, encoder={"name": "mf", "embedding_size": 8})
    config = component_config(BINLLM, {"encoder": {"name": "mf", "embedding_size": 8}}, REGISTRY)
    phases = encoder.fit_phases(config)
    assert [(phase.name, phase.select) for phase in phases] == [("fit", "loss"), ("binarise", "auc")]
    assert phases[0].model is encoder.encoder


def test_bits_fill_whole_numbers() -> None:
    with pytest.raises(SpecError, match="bits is 12; dot-decimal writes 8 bits per number"):
        component_config(BINLLM, {"bits": 12}, REGISTRY)
    assert component_config(BINLLM, {"bits": 12, "text": "binary"}, REGISTRY).bits == 12  # type: ignore[attr-defined]
