"""Rows to token ids: where every slot appears is known when the ids are laid down, and never searched for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from collm.contracts.backbone import ChatFrame, PromptTokenizer
from collm.contracts.prompt import SLOTS_PER_ROW, PromptTemplate, Variant
from collm.errors import DataError, QuestionTooLong, RunError, SpecError
from collm.prompt.encoded import EMPTY, EncodedPrompts, PieceStore, SlotFill, TextTables, check_slots, joined
from collm.prompt.listed import ListedTitles, most_that_fit
from collm.prompt.lists import TitleLists
from collm.prompt.template import (
    FixedPiece,
    HistoryPieces,
    Piece,
    SlotPiece,
    TargetPiece,
    WordsPiece,
    answer_fault,
    check_template,
    cut,
)

__all__ = ["EncodedPrompts", "PromptEncoder", "SlotFill", "check_slots"]

Array = np.ndarray[Any, Any]
# Rows that are encoded at a time: index arrays of one go stay at some 20 MB whatever the number of prompts.
ROWS_AT_ONCE = 8_192
_SHOWN_TITLE = 80


class PromptEncoder:
    """Encodes rows for one template and tokenizer; each distinct title and template part is tokenised once.

    A prompt is the tokenizer's `bos_ids`, the preamble and then its pieces (`collm.prompt.template.cut`). It ends with
    the template's last word, so the next token is the answer. Where it would exceed `max_tokens`, the oldest titles are
    left out, at worst all of them; then the template's `empty_history` appears there. Of liked and disliked titles in
    lists of their own, too, the one that was rated first goes first, whichever list it is in. Nothing else is cut.

    Attributes:
        tokenizer: Text to ids.
        max_tokens: Tokens per prompt at most.
        before_ids: Ids before every prompt: the tokenizer's own, and the preamble.
        opening: Text with which every prompt begins, before its own words.
    """

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: PromptTokenizer,
        titles: Sequence[str],
        *,
        fills: Mapping[str, SlotFill] | None = None,
        max_tokens: int,
        preamble: Sequence[int] = (),
        leading_space: bool = False,
        item_ids: Sequence[str] = (),
    ) -> None:
        """Checks the template and encodes its fixed parts.

        Args:
            template: What is said.
            tokenizer: Text to ids.
            titles: Title by item id; index 0 stands for an unknown item.
            fills: Name of a slot -> what fills it; one vector where it is left out.
            max_tokens: Tokens per prompt at most, preamble included.
            preamble: Ids that come between the tokenizer's `bos_ids` and every prompt, e.g. answered examples.
            leading_space: Whether the prompt begins with a space where the tokenizer puts one before a text.
            item_ids: Raw id by item id, for messages; where it ends, items are named by their title alone.

        Raises:
            SpecError: If the template is unsound or asks for other answer words than the tokenizer reads.
        """
        check_template(template)
        answer = tokenizer.answer
        if fault := answer_fault(template, (answer.positive_word.strip(), answer.negative_word.strip())):
            raise SpecError(f"prompt: {fault}")
        self._fills = {slot.name: (fills or {}).get(slot.name, SlotFill()) for slot in template.slots()}
        self._words = {name for name, fill in self._fills.items() if fill.words is not None}
        for slot in template.slots():
            if self._fills[slot.name].n_tokens < 1:
                raise SpecError(f"prompt: slot {{{slot.field}}} takes at least one token, its encoder gives none")
            if slot.name in self._words and slot.kind not in ("user", "item"):
                raise SpecError(f"prompt: slot {{{slot.field}}} takes vectors, but its encoder gives words")
        self.tokenizer, self.max_tokens, self._item_ids = tokenizer, max_tokens, item_ids
        self._template = template
        self._store = PieceStore(tokenizer)
        self._tables = TextTables(self._store, titles)
        between = tokenizer.encode(template.slot_join) if template.slot_join else []
        self._slot_step = 1 + len(between)
        slot_ids = [
            ([tokenizer.pad_id, *between] * fill.n_tokens)[: self._slot_step * (fill.n_tokens - 1) + 1]
            for fill in self._fills.values()
        ]
        # A chat template's own words appear around the prompt.
        chat: ChatFrame | None = getattr(tokenizer, "chat", None)
        spaced = leading_space and getattr(tokenizer, "adds_space", False)
        self.opening = " " if spaced else chat.opening if chat else ""
        after = [list(chat.after)] if chat and chat.after else []
        self.before_ids = (*tokenizer.bos_ids, *preamble)
        bos, *numbers = self._store.add_ids([self.before_ids, *slot_ids, *after])
        self._bos, self._end = int(bos), [int(number) for number in numbers[len(slot_ids) :]]
        self._slot_piece = {name: int(number) for name, number in zip(self._fills, numbers, strict=False)}

    def encode(
        self, items: Array, histories: Array | TitleLists, variant: Variant, *, users: Array | None = None
    ) -> EncodedPrompts:
        """Encodes rows.

        Args:
            items: int64 [n] target items; 0 = unknown.
            histories: What the prompts list: int64 [n, length] liked items, oldest first, left-padded with 0; or lists
                that may hold disliked ones too, and ages. Length 0 is possible.
            variant: `text` or `hybrid`.
            users: int64 [n] users, where a slot takes the words of the user; 0 = unknown.

        Returns:
            The prompts, in row order.

        Raises:
            DataError: If an id has no title, or a history is not left-padded.
            QuestionTooLong: If a question does not fit without history.
        """
        items, lists = np.asarray(items, dtype=np.int64), TitleLists.of(histories)
        self._check_ids(items, lists.items)
        pieces = cut(self._template.segments(variant), self._words)
        if users is None:
            if any(isinstance(piece, WordsPiece) and _kind(piece.name) == "user" for piece in pieces):
                raise RunError("prompt: a slot takes the words of the user, but the users of the rows are not given")
            users = np.zeros_like(items)
        if self.opening:
            pieces = (_with_space(pieces[0]), *pieces[1:])
        parts = [slice(first, first + ROWS_AT_ONCE) for first in range(0, max(len(items), 1), ROWS_AT_ONCE)]
        return joined(self._encode(pieces, users[part], items[part], lists.rows(part)) for part in parts)

    def shows_history(self, variant: Variant) -> bool:
        """Whether prompts of a variant hold titles of the history."""
        return bool(self._template.lists(variant))

    def _encode(self, pieces: Sequence[Piece], users: Array, items: Array, lists: TitleLists) -> EncodedPrompts:
        columns = [np.full((len(items), 1), self._bos)]
        columns += [self._column(piece, users, items) for piece in pieces]
        columns += [np.full((len(items), 1), number) for number in self._end]
        listed = {
            place: ListedTitles(self._store, self._tables, self._template, piece, lists, self._slot_piece)
            for place, piece in enumerate(pieces, start=1)
            if isinstance(piece, HistoryPieces)
        }
        n_used = np.zeros(len(items), dtype=np.int64)
        if listed:
            taken = sum(self._store.lengths(column).sum(axis=1) for column in columns)
            n_used = most_that_fit([each.costs() for each in listed.values()], lists.items, self.max_tokens - taken)
        for place, each in listed.items():
            columns[place] = each.columns(n_used)
        self._check_fit(items, np.concatenate(columns, axis=1))
        return self._build(pieces, columns, n_used, lists)

    def _column(self, piece: Piece, users: Array, items: Array) -> Array:
        """Returns int64 [n, 1] piece numbers; the history's are filled in when the room for it is known."""
        if isinstance(piece, TargetPiece):
            marks = (self._template.title_open, self._template.title_close)
            opening, closing = marks if self._template.quote_target else ("", "")
            return self._tables.titles(piece.left + opening, closing + piece.right, strip=True).numbers(items)[:, None]
        if isinstance(piece, WordsPiece):
            ids = users if _kind(piece.name) == "user" else items
            fill = self._fills[piece.name]
            return self._tables.words(piece.name, fill, piece.left, piece.right).numbers(ids)[:, None]
        number = EMPTY
        if isinstance(piece, FixedPiece):
            number = self._tables.fixed(piece.text)
        elif isinstance(piece, SlotPiece):
            number = self._slot_piece[piece.name]
        return np.full((len(items), 1), number)

    def _build(
        self, pieces: Sequence[Piece], columns: Sequence[Array], n_used: Array, lists: TitleLists
    ) -> EncodedPrompts:
        lengths = np.stack([self._store.lengths(column).sum(axis=1) for column in columns], axis=1)
        starts = np.cumsum(lengths, axis=1) - lengths
        slots: dict[str, Array] = {}
        shared = before_user = lengths.sum(axis=1)
        history_items = np.zeros((len(lengths), 0), dtype=np.int32)
        width = lists.items.shape[1]
        for place, piece in enumerate(pieces, start=1):
            start = starts[:, place]
            if isinstance(piece, HistoryPieces) and piece.slot and width:
                used = np.arange(width) >= width - n_used[:, None]
                history_items = np.where(used, lists.items, 0).astype(np.int32)
                used &= lists.shown(piece.shows)
                slots[piece.slot], begin = self._title_slots(piece.slot, columns[place], start, used)
                before_user = np.minimum(before_user, begin)
            if isinstance(piece, SlotPiece):
                positions = start[:, None] + self._slot_step * np.arange(self._fills[piece.name].n_tokens)
                slots[piece.name] = positions.astype(np.int32)
                before_user = np.minimum(before_user, start)
            if isinstance(piece, TargetPiece) or (
                isinstance(piece, SlotPiece | WordsPiece) and _kind(piece.name) in SLOTS_PER_ROW
            ):
                shared = np.minimum(shared, start)
        ids, offsets = self._store.assemble(np.concatenate(columns, axis=1))
        prompts = EncodedPrompts(
            ids=ids,
            offsets=offsets,
            shared=shared.astype(np.int32),
            before_user=np.minimum(before_user, shared).astype(np.int32),
            n_history_used=n_used.astype(np.int32),
            slots=slots,
            history_items=history_items,
        )
        check_slots(prompts, self.tokenizer.pad_id)
        return prompts

    def _title_slots(self, name: str, columns: Array, start: Array, used: Array) -> tuple[Array, Array]:
        """Returns where the slots of a list appear, and where the first one of each prompt does.

        Args:
            name: Name of the slots.
            columns: int64 [n, k * length] pieces: for each title k, the last of which is its slot.
            start: int64 [n] position of the first column.
            used: bool [n, length] whether a title is in the list.

        Returns:
            int32 [n, length * k_item], -1 where none is; and int64 [n], a number beyond every prompt where none is.
        """
        lengths, step = self._store.lengths(columns), columns.shape[1] // used.shape[1]
        at = (start[:, None] + np.cumsum(lengths, axis=1) - lengths)[:, step - 1 :: step]
        first = np.where(used, at, np.iinfo(np.int64).max).min(axis=1)
        positions = at[:, :, None] + self._slot_step * np.arange(self._fills[name].n_tokens)
        return np.where(used[:, :, None], positions, -1).reshape(len(columns), -1).astype(np.int32), first

    def _check_ids(self, items: Array, histories: Array) -> None:
        for what, ids in (("item", items), ("history", histories)):
            if ids.size and (ids.min() < 0 or ids.max() >= len(self._tables.clean)):
                raise DataError(
                    f"prompt: {what} ids run from {ids.min()} to {ids.max()}, but there are titles for 0 to "
                    f"{len(self._tables.clean) - 1}; were the rows prepared from another dataset?"
                )
        present = histories != 0
        if (present[:, :-1] & ~present[:, 1:]).any():
            row = int((present[:, :-1] & ~present[:, 1:]).any(axis=1).argmax())
            raise DataError(f"prompt: the history of row {row} must be padded with 0 on the left only")

    def _check_fit(self, items: Array, columns: Array) -> None:
        lengths = self._store.lengths(columns).sum(axis=1)
        too_long = np.flatnonzero(lengths > self.max_tokens)
        if not len(too_long):
            return
        row = int(too_long[0])
        item = int(items[row])
        title = self._tables.clean[item]
        shown = title if len(title) <= _SHOWN_TITLE else f"{title[:_SHOWN_TITLE]}..."
        name = f"item '{self._item_ids[item]}' " if 0 < item < len(self._item_ids) else "item "
        raise QuestionTooLong(
            f"prompt: the question for {name}('{shown}', {len(title):,} characters) alone has {int(lengths[row]):,} "
            f"tokens, at most {self.max_tokens:,} fit (at least {len(too_long):,} rows like this); shorten the "
            "title or the template (dataset.longest_title cuts titles where the dataset is `files`), or raise "
            "backbone.max_prompt_tokens as far as the model goes"
        )


def _kind(slot: str) -> str:
    return slot.partition(".")[0]


def _with_space(piece: Piece) -> Piece:
    """Returns the first piece of a prompt behind a space; a slot takes none."""
    if isinstance(piece, FixedPiece):
        return FixedPiece(f" {piece.text}")
    return piece if isinstance(piece, SlotPiece) else replace(piece, left=f" {piece.left}")
