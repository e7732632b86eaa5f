"""A few prompts through the engine and through the model's own forward pass: a model is proved before it is trusted.

Layers that look at neighbours (short convolutions, state spaces) read the other prompts of a packed row, some decoders
do not hand on the keyword that carries the tree, and a head may do what the engine does not know. All of that gives
scores that look like scores.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from collm.contracts.backbone import PromptTokenizer
from collm.errors import CollmError, RunError
from collm.model.prefix.batch import Share, build_batch
from collm.model.prefix.run import Probe, sharing_fault
from collm.model.recommender import Recommender
from collm.prompt.encoded import EncodedPrompts

# Two prefixes, two prompts each, of lengths that differ.
BEGINNINGS, ENDINGS = (13, 17), (5, 11)
# Models up to this size are probed in float32, where equal computations agree to rounding.
FLOAT32_PARAMETERS = 1_000_000_000
# Largest gap allowed, over 1 + the largest logit.
ALLOWED = {torch.float32: 3e-4, torch.float64: 3e-4}
ALLOWED_IN_HALF = 0.02
# What models raise that cannot be run as the engine runs them.
TORCH_FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError)


class OwnLogits:
    """The model's own logits of the answer words on the probe prompts, taken before anything is changed in it."""

    def __init__(self, lm: nn.Module, tokenizer: PromptTokenizer) -> None:
        """Runs the model's plain forward pass, one prompt at a time.

        Args:
            lm: Hugging Face causal language model as it was loaded.
            tokenizer: Its tokenizer.
        """
        start = time.monotonic()
        self._words = [tokenizer.answer.positive, tokenizer.answer.negative]
        n_rows = lm.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        self._prompts = probe_prompts(tokenizer, n_rows)
        device = lm.get_input_embeddings().weight.device  # type: ignore[operator]
        with torch.no_grad(), in_float32(lm) as self.dtype:
            rows = [self._rows(lm, index, device) for index in range(len(self._prompts))]
        self._logits = torch.stack([row[-1] for row in rows])
        # The first two prompts begin alike: what follows must not change logits of the prefix.
        n_shared = int(self._prompts.shared[0])
        self._gap_before = float((rows[0][:n_shared] - rows[1][:n_shared]).abs().max())
        self._seconds = time.monotonic() - start

    def _rows(self, lm: nn.Module, index: int, device: torch.device) -> torch.Tensor:
        """Returns the logits of the answer words after each token of a prompt, float32 [tokens, 2]."""
        ids = torch.from_numpy(self._prompts.prompt(index).astype(np.int64)).to(device)
        logits: torch.Tensor = lm(input_ids=ids[None], use_cache=False).logits[0][:, self._words]
        return logits.float().cpu()

    def compare(self, recommender: Recommender) -> Probe:
        """Compares the engine with the model's own logits, and switches sharing off where it differs.

        Args:
            recommender: Made around the same model, adapters at their start or none; in evaluation mode.

        Raises:
            RunError: If the engine's logits differ with every prompt by itself, too, or the model is not causal.
        """
        start = time.monotonic()
        allowed = ALLOWED.get(self.dtype, ALLOWED_IN_HALF) * (1 + float(self._logits.abs().max()))
        if self._gap_before > allowed:
            raise RunError(
                f"{type(recommender.lm).__name__}: reads tokens ahead, as encoders do: logits change by up to "
                f"{self._gap_before:.3g} with the words that follow, so it cannot predict the next one. Use a causal "
                "language model (of BERT's kind, one trained with is_decoder: true)"
            )
        alone = shared = None
        fault = "" if recommender.shares_prefixes else sharing_fault(recommender.lm)
        with torch.no_grad(), in_float32(recommender.lm):
            if recommender.shares_prefixes:
                try:
                    shared = self._gap(recommender, "through-user")
                except (CollmError, *TORCH_FAULTS) as error:
                    fault = str(error).splitlines()[0]
                if shared is None or not shared <= allowed:
                    recommender.share_prefixes(False)
            if not recommender.shares_prefixes:
                alone = self._alone(recommender)
        if alone is not None and not alone <= allowed:
            raise RunError(
                f"{type(recommender.lm).__name__}: the scores would not be this model's own: on {len(self._prompts)} "
                f"probe prompts the answer's logits differ by up to {alone:.3g} from its own forward pass (allowed "
                f"{allowed:.2g}). This architecture is not supported; backbone.probe: false runs it all the same"
            )
        return Probe(
            shares=recommender.shares_prefixes,
            gap_shared=shared,
            gap_alone=alone,
            allowed=allowed,
            dtype=str(self.dtype).removeprefix("torch."),
            prompts=len(self._prompts),
            seconds=round(self._seconds + time.monotonic() - start, 3),
            fault=fault,
        )

    def _alone(self, recommender: Recommender) -> float:
        try:
            return self._gap(recommender, "none")
        except TORCH_FAULTS as error:
            raise RunError(f"{type(recommender.lm).__name__}: cannot score prompts ({error})") from error

    def _gap(self, recommender: Recommender, share: Share) -> float:
        device = recommender.lm.get_input_embeddings().weight.device  # type: ignore[operator]
        rows = np.arange(len(self._prompts))
        batch = build_batch(self._prompts, rows, share=share, device=device)
        gap = float((recommender.answer_logits(batch).float().cpu() - self._logits).abs().max())
        if not math.isfinite(gap):
            raise RunError(f"{type(recommender.lm).__name__}: logits of the probe prompts are not finite")
        return gap


def probe_prompts(tokenizer: PromptTokenizer, n_rows: int) -> EncodedPrompts:
    """Returns prompts of random tokens, two with each of two prefixes.

    Args:
        tokenizer: Supplies the ids before every prompt.
        n_rows: Token embeddings of the model.
    """
    generator = np.random.default_rng(0)
    before = np.array(tokenizer.bos_ids, dtype=np.int64)
    rows, shared = [], []
    for n_shared in BEGINNINGS:
        prefix = np.concatenate([before, generator.integers(n_rows, size=n_shared)])
        for n_own in ENDINGS:
            rows.append(np.concatenate([prefix, generator.integers(n_rows, size=n_own)]))
            shared.append(len(prefix))
    return EncodedPrompts(
        ids=np.concatenate(rows).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        shared=np.array(shared, dtype=np.int32),
        before_user=np.array(shared, dtype=np.int32),
        n_history_used=np.zeros(len(rows), dtype=np.int32),
    )


@contextlib.contextmanager
def in_float32(lm: nn.Module) -> Iterator[torch.dtype]:
    """Holds a small model's weights in float32 for a while; half precision goes there and back without loss.

    Args:
        lm: The model; a large or quantised one is left as it is.

    Yields:
        The number format of its weights meanwhile.
    """
    halves = [each for each in lm.parameters() if each.dtype in (torch.bfloat16, torch.float16)]
    n_parameters = sum(each.numel() for each in lm.parameters())
    quantised = any(not each.is_floating_point() for each in lm.parameters())
    if not halves or n_parameters > FLOAT32_PARAMETERS or quantised:
        yield next((each.dtype for each in lm.parameters() if each.is_floating_point()), torch.float32)
        return
    formats = [each.dtype for each in halves]
    try:
        for each in halves:
            each.data = each.data.float()
        yield torch.float32
    finally:
        for each, dtype in zip(halves, formats, strict=True):
            each.data = each.data.to(dtype)
