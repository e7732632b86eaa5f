"""An exported model folder is read back as the run used the model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_architectures import UNSHARED, build

from collm.contracts.backbone import AnswerIds
from collm.engine.probe import OwnLogits, probe_prompts
from collm.model.prefix.batch import build_batch
from collm.model.recommender import Recommender
from collm.trained.export import _reload

TOKENIZER = SimpleNamespace(bos_ids=(1,), answer=AnswerIds(" Yes", " No", 11, 12))


@pytest.mark.parametrize("name", ["llama", "lfm2", "nemotron", "gemma2", "gptj", "bloom"])
def test_models_that_share_nothing_are_read_back_that_way(name: str, tmp_path: Path) -> None:
    lm = build(name)
    own = OwnLogits(lm, TOKENIZER)
    lm.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    recommender = Recommender(lm, answer=TOKENIZER.answer, readout="yes_minus_no").eval()
    own.compare(recommender)
    again = _reload(recommender, tmp_path, "float32")
    assert again.shares_prefixes is recommender.shares_prefixes is (name not in UNSHARED)
    prompts = probe_prompts(TOKENIZER, 440)
    batch = build_batch(prompts, np.arange(len(prompts)), share="through-user")
    with torch.no_grad():
        torch.testing.assert_close(again(batch), recommender(batch), atol=1e-5, rtol=0)
