"""Prompts as token ids, many of them in a file that is mapped into memory.

Two bytes per token where the ids allow it. The file has no name: it is gone with the last array that reads it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np

from collm.contracts.backbone import PromptTokenizer
from collm.contracts.prompt import TITLE_SLOTS
from collm.errors import RunError
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]
_PER_ROW = ("shared", "before_user", "n_history_used", "history_items")
EMPTY = 0


@dataclass(frozen=True)
class SlotFill:
    """What fills the slots of one name.

    Attributes:
        n_tokens: Token embeddings per slot, where it takes vectors.
        words: Gives the words of int64 [n] ids, of users or items as the slot's kind says; None where it takes vectors.
        n_ids: Ids that `words` knows, 0 included.
    """

    n_tokens: int = 1
    words: Callable[[Array], Sequence[str]] | None = None
    n_ids: int = 0


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts as token ids.

    Attributes:
        ids: uint16 or int32 [n_tokens] ids of all prompts, one after the other; slots hold the tokenizer's padding id.
        offsets: int64 [n + 1]: prompt i is ids[offsets[i]:offsets[i + 1]].
        shared: int32 [n] leading tokens that do not depend on the target item; user slots included, if they come first.
        before_user: int32 [n] leading tokens before the first slot, at most `shared`; `shared` in the text variant.
        n_history_used: int32 [n] history titles that the prompt holds, disliked ones included.
        slots: Name of a slot (`collm.contracts.prompt.Slot.name`) -> int32 [n, k] positions within the prompt that take
            its vectors; of the history int32 [n, length * k], -1 where a prompt holds fewer titles. Empty in the text
            variant.
        history_items: int32 [n, length] item ids of the titles, of all lists together, 0 = none; width 0 without slots
            behind titles.
    """

    ids: Array
    offsets: Array
    shared: Array
    before_user: Array
    n_history_used: Array
    slots: Mapping[str, Array] = field(default_factory=dict)
    history_items: Array = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))

    def __post_init__(self) -> None:
        if not self.history_items.shape[1]:
            object.__setattr__(self, "history_items", np.zeros((len(self.shared), 0), dtype=np.int32))

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
        slots = {name: places[rows] for name, places in self.slots.items()}
        return EncodedPrompts(ids=self.ids[source], offsets=offsets, slots=slots, **per_row)


def check_slots(prompts: EncodedPrompts, pad_id: int) -> None:
    """Accepts prompts whose slots all lie inside them and hold the placeholder.

    Raises:
        RunError: If one does not; the prompts must not be used then.
    """
    for name, slots in prompts.slots.items():
        in_history = name.partition(".")[0] in TITLE_SLOTS
        absent = (slots == -1) if in_history else np.zeros(slots.shape, dtype=bool)
        outside = ((slots < 0) | (slots >= prompts.lengths[:, None])) & ~absent
        if outside.any():
            row = int(outside.any(axis=1).argmax())
            raise RunError(f"prompt of row {row}: its {name} slot lies outside of its {prompts.lengths[row]} tokens")
        wrong = (prompts.ids[prompts.offsets[:-1, None] + np.maximum(slots, 0)] != pad_id) & ~absent
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            raise RunError(f"prompt of row {row}: its {name} slot does not hold the placeholder id {pad_id}")


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
    slots = {name: np.concatenate([part.slots[name] for part in rest]) for name in rest[0].slots}
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedPrompts(ids=tokens.mapped(), offsets=offsets, slots=slots, **per_row)


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


class PieceStore:
    """Numbered pieces; piece 0 has no token."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        """Takes the tokenizer that encodes every piece."""
        self._tokenizer = tokenizer
        self._parts: list[Array] = [np.zeros(0, dtype=np.int32)]
        self._lengths = [0]
        self._packed: tuple[Array, Array, Array] | None = None

    def add(self, texts: Sequence[str]) -> Array:
        """Encodes texts as they appear. Returns int64 [len(texts)] piece numbers."""
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


class TextPieces:
    """The piece of each text between two fixed ones, e.g. of titles by item; encoded when it is first asked for."""

    def __init__(
        self, store: PieceStore, texts: Callable[[Array], Sequence[str]], before: str, after: str, *, n_ids: int
    ) -> None:
        """Takes what gives the texts of int64 [n] ids below `n_ids`, and what appears around each."""
        self._store, self._texts = store, texts
        self._before, self._after = before, after
        self._numbers = np.full(n_ids, -1, dtype=np.int64)

    def numbers(self, ids: Array) -> Array:
        """Returns the piece numbers of ids, int64 of the same shape.

        Args:
            ids: int64 ids of any shape.
        """
        wanted = np.unique(ids)
        missing = wanted[self._numbers[wanted] < 0]
        if len(missing):
            self._numbers[missing] = self._store.add(
                [f"{self._before}{text}{self._after}" for text in self._texts(missing)]
            )
        return np.asarray(self._numbers[ids])


class TextTables:
    """The pieces of titles, of an encoder's words by what appears around them, and of fixed texts.

    Attributes:
        clean: Titles by item id as they appear in prompts.
    """

    def __init__(self, store: PieceStore, titles: Sequence[str]) -> None:
        """Takes titles by item id."""
        self.clean = [clean_title(title) for title in titles]
        self._stripped = [title.strip() for title in self.clean]
        self._store = store
        self._tables: dict[tuple[str, ...], TextPieces] = {}
        self._fixed: dict[str, int] = {}

    def fixed(self, text: str) -> int:
        """Returns the piece of a text that appears as it is."""
        if text not in self._fixed:
            self._fixed[text] = int(self._store.add([text])[0])
        return self._fixed[text]

    def titles(self, before: str, after: str, *, strip: bool) -> TextPieces:
        """Returns the pieces of titles between two texts, by item id."""
        key = (before, after, str(strip))
        if key not in self._tables:
            titles = self._stripped if strip else self.clean
            self._tables[key] = TextPieces(
                self._store, lambda ids: [titles[each] for each in ids.tolist()], before, after, n_ids=len(titles)
            )
        return self._tables[key]

    def words(self, name: str, fill: SlotFill, before: str, after: str) -> TextPieces:
        """Returns the pieces of a slot's words between two texts; ids that the encoder does not know read as id 0."""
        key = (before, after, "words", name)
        if key not in self._tables:
            words, known = fill.words, fill.n_ids
            assert words is not None

            def clean(ids: Array) -> list[str]:
                return [clean_title(text).strip() for text in words(np.where(ids < known, ids, 0))]

            n_ids = max(known, len(self.clean))
            self._tables[key] = TextPieces(self._store, clean, before, after, n_ids=n_ids)
        return self._tables[key]
