"""Prompts as token ids, many of them in a file that is mapped into memory.

Two bytes per token where the ids allow it. The file has no name: it is gone with the last array that reads it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from collm.errors import RunError

Array = np.ndarray[Any, Any]
_PER_ROW = ("user_slot", "item_slot", "shared", "before_user", "n_history_used")


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts as token ids.

    Attributes:
        ids: uint16 or int32 [n_tokens] ids of all prompts, one after the other; slots hold the tokenizer's padding id.
        offsets: int64 [n + 1]: prompt i is ids[offsets[i]:offsets[i + 1]].
        user_slot: int32 [n, k_user] positions within the prompt that take user vectors; k_user = 0 in the text variant.
        item_slot: int32 [n, k_item] likewise for the item.
        shared: int32 [n] leading tokens that do not depend on the target item; user slot included, if it comes first.
        before_user: int32 [n] leading tokens before the user slot, at most `shared`; `shared` in the text variant.
        n_history_used: int32 [n] history titles that the prompt holds.
    """

    ids: Array
    offsets: Array
    user_slot: Array
    item_slot: Array
    shared: Array
    before_user: Array
    n_history_used: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """int64 [n] tokens per prompt."""
        return np.diff(self.offsets)

    def prompt(self, index: int) -> Array:
        """Returns the [length] ids of one prompt."""
        return np.asarray(self.ids[self.offsets[index] : self.offsets[index + 1]])

    def take(self, rows: Array) -> EncodedPrompts:
        """Returns the prompts at int64 [m] positions, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        per_row = {name: getattr(self, name)[rows] for name in _PER_ROW}
        return EncodedPrompts(ids=self.ids[source], offsets=offsets, **per_row)


def check_slots(prompts: EncodedPrompts, pad_id: int) -> None:
    """Accepts prompts whose slots all lie inside them and hold the placeholder.

    Raises:
        RunError: If one does not; the prompts must not be used then.
    """
    for side, slots in (("user", prompts.user_slot), ("item", prompts.item_slot)):
        outside = (slots < 0) | (slots >= prompts.lengths[:, None])
        if outside.any():
            row = int(outside.any(axis=1).argmax())
            raise RunError(f"prompt of row {row}: its {side} slot lies outside of its {prompts.lengths[row]} tokens")
        wrong = prompts.ids[prompts.offsets[:-1, None] + slots] != pad_id
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            raise RunError(f"prompt of row {row}: its {side} slot does not hold the placeholder id {pad_id}")


def joined(parts: Iterable[EncodedPrompts]) -> EncodedPrompts:
    """Returns the prompts of all parts, one part after the other, with their ids in a mapped file.

    Args:
        parts: At least one; each is let go before the next one is asked for.

    Raises:
        RunError: If the disk is full.
    """
    tokens, rest = _TokenFile(), []
    for part in parts:
        tokens.append(part.ids)
        # Its own ids would stay in memory otherwise.
        rest.append(replace(part, ids=part.ids[:0].copy()))
    lengths = np.concatenate([part.lengths for part in rest])
    per_row = {name: np.concatenate([getattr(part, name) for part in rest]) for name in _PER_ROW}
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedPrompts(ids=tokens.mapped(), offsets=offsets, **per_row)


class _TokenFile:
    """A temporary file of ids, as narrow as the largest one allows."""

    def __init__(self) -> None:
        self._dtype: type[np.uint16] | type[np.int32] = np.uint16
        self._file: IO[bytes] | None = None
        self._n = 0

    def append(self, ids: Array) -> None:
        """Writes int ids at the end."""
        if not len(ids):
            return
        if self._dtype is np.uint16 and int(ids.max()) > np.iinfo(np.uint16).max:
            written, self._dtype = self.mapped(), np.int32
            self._file, self._n = None, 0
            self.append(written)
        try:
            if self._file is None:
                # Open as long as it is read, so in no `with`: the last one to let go of it closes it.
                self._file = tempfile.TemporaryFile(prefix="collm-prompts-")  # noqa: SIM115
            ids.astype(self._dtype).tofile(self._file)
        except OSError as error:
            raise RunError(
                f"{tempfile.gettempdir()}: cannot take {ids.nbytes:,} bytes of prompts ({error}); make room, or let "
                "TMPDIR name another folder"
            ) from error
        self._n += len(ids)

    def mapped(self) -> Array:
        """Returns all ids, read-only."""
        if self._file is None:
            return np.zeros(0, dtype=self._dtype)
        self._file.flush()
        # A plain view: slices of `memmap` objects are slow to make.
        return np.asarray(np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._n,)))
