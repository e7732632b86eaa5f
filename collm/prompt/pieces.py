"""Token ids of short texts, each encoded once and laid end to end, and their fast assembly into sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from collm.contracts.backbone import PromptTokenizer

Array = np.ndarray[Any, Any]
EMPTY = 0


class PieceStore:
    """Numbered pieces; piece 0 has no token."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        """Takes the tokenizer that encodes every piece."""
        self._tokenizer = tokenizer
        self._parts: list[Array] = [np.zeros(0, dtype=np.int32)]
        self._lengths = [0]
        self._packed: tuple[Array, Array, Array] | None = None

    def add(self, texts: Sequence[str]) -> Array:
        """Encodes texts as they stand. Returns int64 [len(texts)] piece numbers."""
        return self.add_ids(self._tokenizer.encode_many(texts))

    def add_ids(self, sequences: Sequence[Sequence[int]]) -> Array:
        """Takes ready ids. Returns int64 [len(sequences)] piece numbers."""
        first = len(self._lengths)
        self._parts.append(np.array([number for ids in sequences for number in ids], dtype=np.int32))
        self._lengths += [len(ids) for ids in sequences]
        self._packed = None
        return np.arange(first, first + len(sequences))

    def lengths(self, pieces: Array) -> Array:
        """Returns the tokens of each piece, int64 of the same shape."""
        return np.asarray(self._pack()[2][pieces])

    def assemble(self, pieces: Array) -> tuple[Array, Array]:
        """Lays pieces end to end.

        Args:
            pieces: int64 [n, n_columns] piece numbers, one sequence per row.

        Returns:
            int32 [n_tokens] ids of all sequences, and int64 [n + 1] where each one begins.
        """
        flat, starts, lengths = self._pack()
        offsets = np.concatenate([[0], np.cumsum(lengths[pieces].sum(axis=1))]).astype(np.int64)
        chosen = pieces.reshape(-1)
        n = lengths[chosen]
        ends = np.cumsum(n)
        source = np.repeat(starts[chosen] - (ends - n), n) + np.arange(ends[-1] if len(ends) else 0)
        return flat[source], offsets

    def _pack(self) -> tuple[Array, Array, Array]:
        if self._packed is None:
            flat = np.concatenate(self._parts)
            self._parts = [flat]
            lengths = np.array(self._lengths, dtype=np.int64)
            self._packed = flat, np.cumsum(lengths) - lengths, lengths
        return self._packed


class TitlePieces:
    """The piece of each title between two fixed texts, encoded when it is first asked for."""

    def __init__(self, store: PieceStore, titles: Sequence[str], before: str, after: str) -> None:
        """Takes titles by item id and what stands around each."""
        self._store, self._titles = store, titles
        self._before, self._after = before, after
        self._numbers = np.full(len(titles), -1, dtype=np.int64)

    def numbers(self, items: Array) -> Array:
        """Returns the piece numbers of items, int64 of the same shape.

        Args:
            items: int64 ids of any shape.
        """
        wanted = np.unique(items)
        missing = wanted[self._numbers[wanted] < 0]
        if len(missing):
            texts = [f"{self._before}{self._titles[item]}{self._after}" for item in missing.tolist()]
            self._numbers[missing] = self._store.add(texts)
        return np.asarray(self._numbers[items])
