"""One list of titles in prompts as pieces: what it costs with so many titles, and what it reads with so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from collm.contracts.prompt import PromptTemplate
from collm.prompt.encoded import EMPTY, PieceStore, TextTables
from collm.prompt.lists import TitleLists, empty_words
from collm.prompt.template import HistoryPieces, split_join

Array = np.ndarray[Any, Any]


class ListedTitles:
    """The pieces of one list for some rows: titles, words behind them and slots, column by column.

    All lists of a prompt have one column of titles per entry of `TitleLists`; entries of other lists stay empty in it.
    """

    def __init__(
        self,
        store: PieceStore,
        tables: TextTables,
        template: PromptTemplate,
        piece: HistoryPieces,
        lists: TitleLists,
        slot_pieces: Mapping[str, int],
    ) -> None:
        """Encodes the titles of all entries of the list, as they read first in it and as they read later."""
        self._store, self._tables, self._template, self._piece = store, tables, template, piece
        self._shown, self._items = lists.shown(piece.shows), lists.items
        # In the row: no entry of this list follows it.
        self._is_last = self._shown & (np.cumsum(self._shown[:, ::-1], axis=1)[:, ::-1] == 1)
        self._empty = tables.fixed(piece.left + empty_words(template, piece.shows) + piece.right)
        self._slot = slot_pieces[piece.slot] if piece.slot else EMPTY
        # A slot comes between a title and what joins it to the next one.
        join_right, join_left = ("", template.title_join) if piece.slot else split_join(template.title_join)
        self._behind = self._words_behind(lists, join_right)
        ends = ("", "") if self._behind is not None else (join_right, piece.right)
        self._first = self._titles(piece.left, ends)
        self._later = self._titles(join_left, ends)

    def costs(self) -> Array:
        """Returns int64 [n, length + 1]: tokens of the list by how many of the newest entries the prompt holds."""
        n, width = self._items.shape
        tail = np.where(self._shown, self._store.lengths(np.array(self._slot)), 0)
        if self._behind is not None:
            tail = tail + self._store.lengths(self._behind)
        first, later = (self._store.lengths(each)[:, ::-1] + tail[:, ::-1] for each in (self._first, self._later))
        cost = np.full((n, width + 1), int(self._store.lengths(np.array(self._empty))), dtype=np.int64)
        cost[:, 1:] = np.cumsum(later, axis=1) - later + first
        # Of an entry of another list, the list costs what it does without.
        counted = np.concatenate([np.ones((n, 1), dtype=bool), self._shown[:, ::-1]], axis=1)
        at = np.maximum.accumulate(np.where(counted, np.arange(width + 1), 0), axis=1)
        return np.take_along_axis(cost, at, axis=1)

    def columns(self, n_used: Array) -> Array:
        """Returns int64 [n, k * length] pieces of the list where the prompt holds the `n_used` newest entries.

        Each title has k columns: itself, the words behind it where there are any, and its slot.
        """
        n, width = self._items.shape
        if not width:
            return np.full((n, 1), self._empty)
        used = self._shown & (np.arange(width) >= width - n_used[:, None])
        is_first = used & (np.cumsum(used, axis=1) == 1)
        titles = np.where(is_first, self._first, np.where(used, self._later, EMPTY))
        titles[~used.any(axis=1), -1] = self._empty
        parts = [titles]
        if self._behind is not None:
            parts.append(np.where(used, self._behind, EMPTY))
        if self._piece.slot:
            parts.append(np.where(used, self._slot, EMPTY))
        return np.stack(parts, axis=2).reshape(n, len(parts) * width)

    def _titles(self, left: str, ends: tuple[str, str]) -> Array:
        """Returns int64 [n, length] pieces of the titles behind `left`; `ends` follow an inner title and the last."""
        template, columns = self._template, np.full(self._items.shape, EMPTY)
        strip, before = template.strip_history_titles, left + template.title_open
        for chosen, right in ((self._shown & ~self._is_last, ends[0]), (self._is_last, ends[1])):
            table = self._tables.titles(before, template.title_close + right, strip=strip)
            columns[chosen] = table.numbers(self._items[chosen])
        return columns

    def _words_behind(self, lists: TitleLists, join_right: str) -> Array | None:
        """Returns int64 [n, length] pieces of labels and ages with what joins them to the next title."""
        numbers = lists.behind(self._piece.shows)
        if numbers is None:
            return None
        words = lists.words(self._template, self._piece.shows)
        right = "" if self._piece.slot else self._piece.right
        columns = np.full(numbers.shape, EMPTY)
        for chosen, end in ((self._shown & ~self._is_last, join_right), (self._is_last, right)):
            for number in np.unique(numbers[chosen]):
                columns[chosen & (numbers == number)] = self._tables.fixed(words[int(number)] + end)
        return columns


def most_that_fit(costs: Sequence[Array], items: Array, room: Array) -> Array:
    """Returns int64 [n]: how many of the newest entries of all lists together a prompt takes.

    Args:
        costs: Of each list, see `ListedTitles.costs`.
        items: int64 [n, length] items of the entries, left-padded with 0.
        room: int64 [n] tokens that the lists may have.
    """
    width = items.shape[1]
    fits = np.sum(costs, axis=0) <= room[:, None]
    fits &= np.arange(width + 1) <= (items != 0).sum(axis=1)[:, None]
    n_used: Array = np.where(fits.any(axis=1), width - np.argmax(fits[:, ::-1], axis=1), 0)
    return n_used
