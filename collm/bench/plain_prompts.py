"""Prompts as the usual code makes them: text put together row by row and tokenised anew in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from collm.contracts.backbone import PromptTokenizer
from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot, Variant
from collm.data.prepared import PreparedData, Rows
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PlainBatch:
    """Prompts padded to the longest.

    Attributes:
        ids: int64 [batch, length], right-padded.
        mask: int64 [batch, length]; 1 = a token.
        slots: Side -> int64 [batch, k] positions; k = 0 in the text variant.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    slots: dict[str, torch.Tensor]


class PlainPrompts:
    """Writes and tokenises prompts."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: PromptTokenizer,
        variant: Variant,
        *,
        history_items: int,
        tokens_per_slot: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Takes what decides a prompt and the device of the batches."""
        self._template, self._tokenizer, self._variant = template, tokenizer, variant
        self._history_items, self._device = history_items, device
        self._n_slot = dict(zip(("user", "item"), tokens_per_slot, strict=True))

    def batch(self, data: PreparedData, rows: Rows) -> PlainBatch:
        """Returns the prompts of some rows of some data."""
        histories = data.history(rows, self._history_items)
        parts = [
            self._parts(data.titles[item], [data.titles[each] for each in history if each])
            for item, history in zip(rows.item, histories, strict=True)
        ]
        texts = [part for row in parts for part in row if part not in self._n_slot]
        encoded = iter(self._tokenizer.encode_many(texts))
        sequences, places = [], []
        for row in parts:
            ids, at = list(self._tokenizer.bos_ids), {}
            for part in row:
                if part in self._n_slot:
                    at[part] = range(len(ids), len(ids) + self._n_slot[part])
                    ids += [self._tokenizer.pad_id] * self._n_slot[part]
                else:
                    ids += next(encoded)
            sequences.append(ids)
            places.append(at)
        width = max(map(len, sequences))
        padded = [ids + [self._tokenizer.pad_id] * (width - len(ids)) for ids in sequences]
        mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences]
        return PlainBatch(
            self._tensor(padded),
            self._tensor(mask),
            {side: self._tensor([list(at.get(side, ())) for at in places]) for side in self._n_slot},
        )

    def _parts(self, title: str, history: list[str]) -> list[str]:
        """Returns the stretches of text between slots, and the names of the slots."""
        template = self._template
        parts = [""]
        for segment in template.segments(self._variant):
            if isinstance(segment, UserSlot | ItemSlot):
                # A vector stands for a word with the space before it.
                parts[-1] = parts[-1].removesuffix(" ")
                parts += ["user" if isinstance(segment, UserSlot) else "item", ""]
            elif isinstance(segment, Text):
                parts[-1] += segment.text
            elif isinstance(segment, TargetTitle):
                marks = (template.title_open, template.title_close) if template.quote_target else ("", "")
                parts[-1] += marks[0] + clean_title(title).strip() + marks[1]
            elif isinstance(segment, HistoryTitles):
                parts[-1] += self._history(history)
        return [part for part in parts if part]

    def _history(self, titles: list[str]) -> str:
        template = self._template
        if not titles:
            return template.empty_history
        cleaned = [clean_title(title) for title in titles]
        shown = [title.strip() for title in cleaned] if template.strip_history_titles else cleaned
        return template.title_join.join(f"{template.title_open}{title}{template.title_close}" for title in shown)

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
