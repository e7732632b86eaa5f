"""Text vectors from a frozen language model, computed once and kept in the user cache under what decides them."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from collm.contracts.backbone import Backbone, Dtype
from collm.data.batches import token_budget_batches
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.device import DTYPES
from collm.engine.progress import progress
from collm.errors import RunError
from collm.spec.fingerprint import fingerprint
from collm_ctrl.config import CtrlConfig

logger = logging.getLogger(__name__)
VERSION = 1  # of what makes vectors of texts; raised when they change

TOKENS_PER_PASS = 4_096
FOLDER = "text-features"


@dataclass(frozen=True)
class TextReader:
    """How a text becomes a vector.

    Attributes:
        backbone: The language model.
        dtype: Number format of its weights.
        pooling: `mean` of the last layer's states over the text's own tokens, or the `last` one.
        max_tokens: Tokens per text at most.
    """

    backbone: Backbone
    dtype: Dtype
    pooling: str
    max_tokens: int

    @classmethod
    def of(cls, config: CtrlConfig, backbone: Backbone) -> TextReader:
        """Takes what the settings say of the text side."""
        dtype, room = config.text_backbone.dtype, backbone.max_length - len(backbone.tokenizer().bos_ids)
        return cls(backbone, dtype, config.pooling, min(config.max_text_tokens, room))

    def content_key(self, texts: Sequence[str]) -> str:
        """Returns a digest of everything that decides the vectors of these texts."""
        return fingerprint(
            {
                "version": VERSION,
                "weights": self.backbone.content_hash(),
                "dtype": self.dtype,
                "pooling": self.pooling,
                "max_tokens": self.max_tokens,
                "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
                "n_texts": len(texts),
            }
        )

    @torch.no_grad()
    def read(self, texts: Sequence[str], device: torch.device) -> torch.Tensor:
        """Runs the language model over texts.

        Args:
            texts: Non-empty texts.
            device: Where it runs.

        Returns:
            float32 [n_texts, hidden] on the processor.
        """
        tokenizer = self.backbone.tokenizer()
        bos = list(tokenizer.bos_ids)
        ids = [bos + each[: self.max_tokens] for each in tokenizer.encode_many(texts)]
        decoder = self.backbone.load(dtype=DTYPES[self.dtype], device=device).base_model
        vectors = torch.empty((len(texts), self.backbone.hidden_size), dtype=torch.float32)
        lengths = np.array([len(each) for each in ids])
        with progress("text side", len(texts), "texts") as ticker:
            for rows in token_budget_batches(lengths, max_tokens=TOKENS_PER_PASS):
                length = torch.from_numpy(lengths[rows])
                padded = torch.full((len(rows), int(length.max())), tokenizer.pad_id)
                for place, row in enumerate(rows):
                    padded[place, : lengths[row]] = torch.tensor(ids[row])
                at = torch.arange(padded.shape[1])
                real = at < length[:, None]
                states = decoder(  # type: ignore[operator]
                    input_ids=padded.to(device), attention_mask=real.long().to(device), use_cache=False
                ).last_hidden_state
                wanted = real & (at >= len(bos)) if self.pooling == "mean" else at == length[:, None] - 1
                vectors[torch.from_numpy(rows)] = _mean_over(states, wanted.to(device)).cpu()
                ticker.advance(len(rows))
        return vectors


@dataclass(frozen=True)
class TextVectors:
    """Vectors of texts.

    Attributes:
        vectors: float32 [n_texts, hidden]; zero for an empty text.
        codes: int64 [n_texts]; equal texts have equal codes.
        n_distinct: Non-empty texts, equal ones once.
        reused: Whether they came from the cache.
        seconds: Wall time.
    """

    vectors: torch.Tensor
    codes: torch.Tensor
    n_distinct: int
    reused: bool
    seconds: float

    def part(self, rows: slice) -> TextVectors:
        """Returns some of the texts; counts and seconds stay those of the whole."""
        return replace(self, vectors=self.vectors[rows], codes=self.codes[rows])


def text_vectors(texts: Sequence[str], reader: TextReader, *, cache_dir: Path, device: torch.device) -> TextVectors:
    """Returns the vectors of texts, from the cache where the same texts were read the same way before.

    Args:
        texts: Texts; equal ones are read once, empty ones not at all.
        reader: How they are read.
        cache_dir: User cache.
        device: Where the language model runs if it has to.

    Raises:
        RunError: If the cache cannot be written.
    """
    start = time.monotonic()
    distinct = [text for text in dict.fromkeys(texts) if text]
    path = cache_dir / FOLDER / f"{reader.content_key(distinct)}.safetensors"
    read = _stored(path)
    reused = read is not None
    if read is None:
        read = reader.read(distinct, device)
        save_tensors(path, {"vectors": read})
    place = {text: number for number, text in enumerate(distinct, start=1)}
    codes = torch.tensor([place.get(text, 0) for text in texts])
    vectors = torch.cat([torch.zeros(1, read.shape[1]), read])[codes]
    return TextVectors(vectors, codes, len(distinct), reused, round(time.monotonic() - start, 2))


def _stored(path: Path) -> torch.Tensor | None:
    if not path.exists():
        return None
    try:
        return load_tensors(path)[0]["vectors"]
    except (RunError, KeyError):
        logger.warning("%s: cannot be read, so the texts are read again", path)
        return None


def _mean_over(states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean of states [n, length, hidden] where wanted, bool [n, length]; float32 [n, hidden], 0 where none is."""
    weight = wanted.unsqueeze(-1).float()
    return (states.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
