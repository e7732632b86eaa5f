"""Rows of the prepared data as encoded prompts, and the batches of them that go through the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from collm.contracts.backbone import Backbone
from collm.contracts.encoder import EncoderBatch
from collm.contracts.prompt import PromptTemplate, Variant
from collm.data.batches import grouped_batches, token_budget_batches
from collm.data.prepared import PreparedData, Rows
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.examples import examples_preamble
from collm.engine.prompt_lists import PromptLists
from collm.errors import PluginError
from collm.model.encoder import EncoderTraits
from collm.model.prefix.batch import PromptBatch, Share, build_batch
from collm.prompt.encode import EncodedPrompts, PromptEncoder, SlotFill
from collm.spec.sections import HistoryConfig

Array = np.ndarray[Any, Any]
ENCODER_CHUNK = 8_192


class PromptSource:
    """Encodes rows for one prompt variant."""

    def __init__(
        self,
        data: PreparedData,
        template: PromptTemplate,
        backbone: Backbone,
        *,
        variant: Variant,
        max_tokens: int,
        history: HistoryConfig,
        encoders: Mapping[str, EncoderTraits] | None = None,
        device: torch.device,
        n_examples: int = 0,
        seed: int = 0,
        leading_space: bool = False,
    ) -> None:
        """Takes what decides a prompt.

        Args:
            data: Prepared data.
            template: What is said.
            backbone: Supplies the tokenizer.
            variant: Prompt variant.
            max_tokens: Tokens per prompt at most.
            history: What prompts list of the past, and how many titles at most.
            encoders: Name -> traits of the encoders that fill the slots.
            device: Where batches go.
            n_examples: Answered questions before every prompt.
            seed: Decides which training rows those are about.
            leading_space: Whether prompts begin with the space that a SentencePiece tokenizer puts before a text.
        """
        self._data, self._variant = data, variant
        self._lists = PromptLists.of(history, data)
        self._device = device
        encoders = encoders or {}
        with_vectors = {name: traits for name, traits in encoders.items() if traits.words is None}
        self._batchers = {name: EncoderBatcher.of(traits, data, device) for name, traits in with_vectors.items()}
        self._user_depends_on_item = any(traits.user_depends_on_item for traits in with_vectors.values())
        self._user_moves = any(traits.reads_earlier_labels or traits.reads_time for traits in with_vectors.values())
        fills = slot_fills(template, encoders, data)
        tokenizer = backbone.tokenizer()

        def prompt_encoder(preamble: Sequence[int] = ()) -> PromptEncoder:
            return PromptEncoder(
                template,
                tokenizer,
                data.titles,
                fills=fills,
                max_tokens=max_tokens,
                preamble=preamble,
                leading_space=leading_space,
                item_ids=data.item_ids,
            )

        preamble = examples_preamble(data, prompt_encoder(), tokenizer, n=n_examples, lists=self._lists, seed=seed)
        self._prompt_encoder = prompt_encoder(preamble)

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """What encodes the prompts."""
        return self._prompt_encoder

    @property
    def data(self) -> PreparedData:
        """Whose rows are encoded."""
        return self._data

    @property
    def history_items(self) -> int:
        """Most items of a row's history that prompts and encoders read."""
        return max([self._lists.history.max_items, *(batcher.history_items for batcher in self._batchers.values())])

    @property
    def lists(self) -> PromptLists:
        """What prompts list of the past."""
        return self._lists

    def on(self, data: PreparedData) -> PromptSource:
        """Returns the same for other rows of the same users, items and titles."""
        view = copy.copy(self)
        view._data, view._batchers = data, {name: batcher.on(data) for name, batcher in self._batchers.items()}
        return view

    def encode(self, rows: Rows) -> PromptRows:
        """Returns the prompts of these rows."""
        lists = self._lists.read(self._data, rows)
        prompts = self._prompt_encoder.encode(rows.item, lists, self._variant, users=rows.user)
        n_shortened = 0
        if self._prompt_encoder.shows_history(self._variant):
            n_shortened = int((prompts.n_history_used < (lists.items != 0).sum(axis=1)).sum())
        moment = [rows.timestamp] if self._user_moves else []
        return PromptRows(
            rows,
            prompts,
            prefix_group=group_rows(np.column_stack([rows.user, lists.keys(), *moment])),
            batchers=self._batchers,
            user_depends_on_item=self._user_depends_on_item,
            user_moves=self._user_moves,
            device=self._device,
            n_shortened=n_shortened,
        )


class PromptRows:
    """Encoded rows; all row numbers are positions in `rows`.

    Attributes:
        n_shortened: Rows whose prompt leaves out titles of the history, since not all of them fit.
    """

    def __init__(
        self,
        rows: Rows,
        prompts: EncodedPrompts,
        *,
        prefix_group: Array,
        batchers: Mapping[str, EncoderBatcher],
        user_depends_on_item: bool,
        user_moves: bool = False,
        device: torch.device,
        n_shortened: int = 0,
    ) -> None:
        """Takes rows, their prompts, and int64 [n] groups of rows that share user, what prompts list, and user vector.

        Where the user vector moves with time, what comes before its slot is shared by all rows of one list in a
        batch, and the slot by those of one moment: groups are then of one moment.
        """
        self.rows, self.prompts, self.prefix_group = rows, prompts, prefix_group
        self._batchers, self._device = batchers, device
        self._user_depends_on_item, self._user_moves = user_depends_on_item, user_moves
        self.n_shortened = n_shortened
        self._lengths = np.diff(prompts.offsets)
        # Where the user vector depends on the target item, sharing stops before the user slot.
        self._shared = prompts.before_user if user_depends_on_item else prompts.shared

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Array, *, constant_history: bool = False) -> PromptBatch:
        """Returns the model's input for these rows, labels included, shared prefixes once.

        Args:
            positions: int64 [batch] row numbers.
            constant_history: Whether nothing before the user slot trains, so that it can be run without gradient.
        """
        rows = self.rows.take(positions)
        encoders = {name: batcher(rows) for name, batcher in self._batchers.items()}
        label = torch.from_numpy(np.ascontiguousarray(rows.label, dtype=np.float32)).to(self._device)
        share: Share = "through-user"
        if self._user_depends_on_item:
            share = "before-user"
        elif (constant_history or self._user_moves) and self._batchers:
            share = "both"
        return build_batch(self.prompts, positions, encoders=encoders, label=label, share=share, device=self._device)

    @property
    def lengths(self) -> Array:
        """int64 [n] tokens per prompt."""
        return self._lengths

    @property
    def shared(self) -> Array:
        """Int [n] leading tokens that a row shares with others of its user and history."""
        return self._shared

    def prefixes(self, rows_together: int) -> tuple[list[Array], Array]:
        """Returns what comes before the user slot, each distinct run of tokens once.

        Args:
            rows_together: Rows of one user and history that a batch takes at most.

        Returns:
            Token ids [length] each, none empty, and int64 [n_prefixes] how often batches of an epoch ask for each.
        """
        prompts = self.prompts
        _, first, n_rows = np.unique(self.prefix_group, return_index=True, return_counts=True)
        before = np.minimum(prompts.before_user, prompts.shared)
        found: dict[bytes, tuple[Array, int]] = {}
        for row, n in zip(first[np.argsort(first)], n_rows[np.argsort(first)], strict=True):
            ids = prompts.prompt(row)[: before[row]]
            kept, uses = found.get(name := ids.tobytes(), (ids, 0))
            found[name] = kept, uses + -(-int(n) // rows_together)
        some = [each for name, each in found.items() if name]
        return [ids for ids, _ in some], np.array([uses for _, uses in some], dtype=np.int64)

    def micro_batches(self, positions: Array, max_tokens: int, *, packed: bool = True) -> list[Array]:
        """Cuts rows into batches of at most `max_tokens` tokens.

        Args:
            positions: int64 [n] row numbers.
            max_tokens: Tokens per batch at most; a longer row stands alone.
            packed: Whether the model packs tokens and runs shared prefixes once: rows of one prefix are then
                together. Otherwise padding counts and rows of like length do.
        """
        if not packed:
            cuts = token_budget_batches(self._lengths[positions], max_tokens=max_tokens)
            return [positions[cut] for cut in cuts]
        groups = self.prefix_group[positions]
        cuts = grouped_batches(self._lengths[positions], self._shared[positions], groups, max_tokens=max_tokens)
        return [positions[cut] for cut in cuts]

    def n_tokens(self, positions: Array, *, packed: bool = True) -> int:
        """Returns the tokens that these rows are in one batch.

        Args:
            positions: int64 [n] row numbers.
            packed: Whether those that rows of one prefix share count once; otherwise padding counts.
        """
        if not packed:
            return len(positions) * int(self._lengths[positions].max())
        _, first = np.unique(self.prefix_group[positions], return_index=True)
        own = self._lengths[positions] - self._shared[positions]
        return int(own.sum() + self._shared[positions][first].sum())

    def scoring_batches(self, max_tokens: int, *, packed: bool = True) -> list[Array]:
        """Returns all rows in batches; see `micro_batches`."""
        return self.micro_batches(np.arange(len(self)), max_tokens, packed=packed)

    @property
    def has_encoders(self) -> bool:
        """Whether encoders read these rows."""
        return bool(self._batchers)

    def encoder_batches(self) -> Iterator[dict[str, EncoderBatch]]:
        """Yields the encoders' inputs of all rows by name; nothing for the text variant."""
        for start in range(0, len(self) if self._batchers else 0, ENCODER_CHUNK):
            rows = self.rows.take(np.arange(start, min(start + ENCODER_CHUNK, len(self))))
            yield {name: batcher(rows) for name, batcher in self._batchers.items()}


def slot_fills(
    template: PromptTemplate, encoders: Mapping[str, EncoderTraits], data: PreparedData
) -> dict[str, SlotFill]:
    """Returns what fills each slot of a template whose encoder is known.

    Args:
        template: The template.
        encoders: Name -> traits.
        data: Says how many users and items there are.
    """
    fills = {}
    for slot in template.slots():
        if (traits := encoders.get(slot.encoder)) is None:
            continue
        words = None
        if traits.words is not None:
            words = partial(_words_of, traits.words, slot.kind)
        n_ids = 1 + (data.n_users if slot.kind == "user" else data.n_items)
        fills[slot.name] = SlotFill(traits.tokens[slot.kind], words, n_ids)
    return fills


def _words_of(words: Any, side: str, ids: Array) -> Sequence[str]:
    found: Sequence[str] = words(side, ids.tolist())
    if len(found) != len(ids):
        raise PluginError(f"slot_words gave {len(found)} texts for {len(ids)} {side}s; asked is one each")
    return found


def group_rows(keys: Array) -> Array:
    """Returns int64 [n] group numbers: rows with equal keys share one.

    Args:
        keys: int64 [n, k].
    """
    if not len(keys):
        return np.zeros(0, dtype=np.int64)
    _, groups = np.unique(keys, axis=0, return_inverse=True)
    return np.asarray(groups, dtype=np.int64).reshape(-1)
