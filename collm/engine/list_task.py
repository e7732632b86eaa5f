"""Tuning by lists: a positive row beside items drawn for it, scored together, so that negatives cost a branch each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, overload

import numpy as np
import torch
from torch.nn import functional

from collm.contracts.encoder import EncoderBatch
from collm.contracts.tuning import Loss, TuneStep, TuningConfig
from collm.data.batches import grouped_batches, token_budget_batches
from collm.data.history import listed_histories
from collm.data.past import listed_past
from collm.data.prepared import Rows
from collm.data.sampled_negatives import UnmetItems
from collm.engine.device import derive_seed
from collm.engine.language_task import SMALLER_ROWS, LanguageTask
from collm.engine.prompt_rows import PromptRows, PromptSource
from collm.errors import DataError
from collm.model.recommender import Recommender
from collm.process_group import SINGLE, ProcessGroup

logger = logging.getLogger(__name__)
Array = np.ndarray[Any, Any]
LISTS_AT_ONCE = 2_048


class SampledLists:
    """Positive training rows, and in every epoch other items beside each.

    A list is a line of numbers: the place of a row in `rows`, then the dense ids of the items drawn for it.

    Attributes:
        rows: The positives.
        n_negatives: Items beside each.
        n_items: Items that are drawn from, before those that the user has met are left out.
        n_left_out: Positives whose user has met too many items to draw for.
        positives: The prompts of the positives.
    """

    def __init__(self, source: PromptSource, rows: Rows, *, n_negatives: int, seed: int) -> None:
        """Takes what encodes rows, the training rows of both labels, and the seed of the draws.

        Raises:
            DataError: If no positive can have that many negatives.
        """
        self._source, self._seed, self.n_negatives = source, seed, n_negatives
        self._unmet = UnmetItems.of(source.data)
        self.n_items = len(self._unmet.items)
        liked = rows.take(rows.label == 1)
        has_enough = self._unmet.n_of(liked.user) >= n_negatives
        self.rows, self.n_left_out = liked.take(has_enough), int((~has_enough).sum())
        if not len(self.rows):
            raise DataError(_why_none(len(rows), len(liked), n_negatives, self.n_items))
        self.positives = source.encode(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def drawn(self, places: Array, epoch: int) -> Array:
        """Returns the lists of some positives in an epoch, int64 [n, 1 + n_negatives]."""
        items = self._unmet.draw(self.rows.take(places), self.n_negatives, seed=self._seed, epoch=epoch)
        return np.column_stack([places, items])

    def encode(self, lists: Array) -> PromptRows:
        """Returns the prompts of lists, each positive before its negatives: n * (1 + n_negatives) rows.

        Negatives are asked for the user, time and history of their positive; its history is theirs as it appears.
        """
        of, size = self.rows.take(lists[:, 0]), lists.shape[1]
        histories = self._source.data.history(of, self._source.history_items)
        index = listed_histories(histories, times=size)
        past = cache(lambda: listed_past(self._source.lists.past(self._source.data, of), times=size))
        view = self._source.data.with_histories(index, self._source.data.titles, past=past)
        items = np.column_stack([of.item, lists[:, 1:]])
        label = np.zeros(lists.shape, dtype=np.int8)
        label[:, 0] = 1
        rows = Rows(
            user=np.repeat(of.user, size),
            item=items.reshape(-1),
            label=label.reshape(-1),
            timestamp=np.repeat(of.timestamp, size),
            row=np.repeat(of.row, size),
            index=np.arange(items.size),
        )
        return self._source.on(view).encode(rows)

    def encoder_batches(self) -> Iterator[dict[str, EncoderBatch]]:
        """Yields the encoders' inputs of the first epoch's lists by name; nothing for the text variant."""
        for start in range(0, len(self) if self.positives.has_encoders else 0, LISTS_AT_ONCE):
            places = np.arange(start, min(start + LISTS_AT_ONCE, len(self)))
            yield from self.encode(self.drawn(places, 0)).encoder_batches()


class ListTask(LanguageTask):
    """A tuning step whose examples are lists; a micro-batch is int64 [n, 1 + n_negatives], see `SampledLists`."""

    def __init__(
        self,
        recommender: Recommender,
        step: TuneStep,
        tuning: TuningConfig,
        *,
        title: str,
        lists: SampledLists,
        valid: PromptRows,
        seed: int,
        processes: ProcessGroup = SINGLE,
    ) -> None:
        """Takes what `LanguageTask` does, with lists in place of training rows."""
        super().__init__(
            recommender, step, tuning, title=title, train=lists.positives, valid=valid, seed=seed, processes=processes
        )
        self.lists = lists
        self._encoded: dict[bytes, tuple[PromptRows, Array]] = {}
        self._warned = False

    def batches(self, epoch: int) -> Sequence[Sequence[Array]]:
        """Returns global batches of lists, each drawn, encoded and cut into micro-batches when it is asked for."""
        cuts = self.global_batches(epoch)
        return _Lazy(len(cuts), lambda number: self._cut(self.lists.drawn(cuts[number], epoch)))

    def cost(self, rows: Array) -> float:
        """Returns the tokens of a micro-batch."""
        prompts, positions = self._prompts(rows)
        return prompts.n_tokens(positions, packed=self._recommender.shares_prefixes)

    def loss_sum(self, rows: Array) -> torch.Tensor:
        """Returns the summed loss of these lists."""
        logits, _ = self.forward(*self._prompts(rows))
        return list_losses(self._tuning.loss, logits.view(rows.shape)).sum()

    def smaller_rows(self) -> str:
        """Returns what to set where a single list does not fit into memory."""
        return (
            f"a row here is a positive with its {self.lists.n_negatives} negatives, which are scored together: lower "
            f"tuning.negatives; or {SMALLER_ROWS}"
        )

    def _cut(self, lists: Array) -> list[Array]:
        """Cuts a global batch into micro-batches of whole lists, whose prompts are kept until the next one is cut."""
        prompts, size = self.lists.encode(lists), lists.shape[1]
        packed = self._recommender.shares_prefixes
        cuts = list_batches(prompts, size, max_tokens=self._micro_batch_tokens, packed=packed)
        self._encoded = {
            lists[cut].tobytes(): (prompts, (cut[:, None] * size + np.arange(size)).reshape(-1)) for cut in cuts
        }
        self._warn_of_large([lists[cut] for cut in cuts if len(cut) == 1])
        return [lists[cut] for cut in cuts]

    def _warn_of_large(self, alone: Sequence[Array]) -> None:
        """Says once that lists do not fit into a micro-batch."""
        limit = self._tuning.micro_batch_tokens
        largest = 0 if self._warned else max(map(self.cost, alone), default=0)
        if largest > limit:
            self._warned = True
            logger.warning(
                "%s: a positive with its %d negatives has up to %d tokens and is never parted, so passes are larger "
                "than tuning.micro_batch_tokens: %d; lower tuning.negatives where memory is short",
                self.title,
                self.lists.n_negatives,
                largest,
                limit,
            )

    def _prompts(self, lists: Array) -> tuple[PromptRows, Array]:
        """Returns encoded prompts and the positions of these lists' rows among them."""
        if (known := self._encoded.get(lists.tobytes())) is not None:
            return known
        return self.lists.encode(lists), np.arange(lists.size)


class _Lazy(Sequence[Sequence[Array]]):
    """A sequence whose entries are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], Sequence[Array]]) -> None:
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, number: int) -> Sequence[Array]: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Sequence[Array]]: ...

    def __getitem__(self, number: int | slice) -> Any:
        places = range(self._length)[number]
        return self._make(places) if isinstance(places, int) else [self._make(place) for place in places]


def list_losses(loss: Loss, logits: torch.Tensor) -> torch.Tensor:
    """Returns the loss of each list.

    Args:
        loss: `bpr` or `softmax`.
        logits: float [n, 1 + n_negatives], the positive's first.

    Returns:
        float [n]. bpr: mean over the negatives of softplus(negative - positive). softmax: cross-entropy of the
        positive.
    """
    if loss == "bpr":
        return functional.softplus(logits[:, 1:] - logits[:, :1]).mean(dim=1)
    return torch.logsumexp(logits, dim=1) - logits[:, 0]


def list_batches(prompts: PromptRows, size: int, *, max_tokens: int, packed: bool) -> list[Array]:
    """Cuts lists into batches; no list is parted.

    Args:
        prompts: Rows, each list's one after the other.
        size: Rows per list.
        max_tokens: Tokens per batch at most; a longer list stands alone.
        packed: Whether shared prefixes are run once; otherwise padding counts.

    Returns:
        Numbers of lists, int64 each; every list once.
    """
    lengths = prompts.lengths.reshape(-1, size).astype(np.int64)
    if not packed:
        return token_budget_batches(lengths.max(axis=1) * size, max_tokens=max_tokens)
    shared = prompts.shared.reshape(-1, size).astype(np.int64)
    own, before = (lengths - shared).sum(axis=1), shared.max(axis=1)
    return grouped_batches(before + own, before, prompts.prefix_group[::size], max_tokens=max_tokens)


def sampled_lists(source: PromptSource, rows: Rows, tuning: TuningConfig, *, seed: int) -> SampledLists:
    """Makes the lists of a step from its training rows; `seed` is the step's."""
    return SampledLists(source, rows, n_negatives=tuning.n_negatives, seed=derive_seed(seed, "negatives"))


def list_notes(lists: SampledLists, loss: Loss) -> Iterator[str]:
    """Yields what every table of a model that was tuned by lists must state."""
    n = lists.n_negatives
    items = f"{n} item{'s' if n != 1 else ''}"
    yield (
        f"tuning.loss: {loss}: each of {len(lists):,} training rows with label 1 was set beside {items}, drawn anew in "
        f"every epoch, each alike, among the {lists.n_items:,} items with training rows, without those of the user. "
        "Rows with label 0 were not trained on. Scores compare items for one user; they are not probabilities."
    )
    if lists.n_left_out:
        yield (
            f"{lists.n_left_out:,} training rows with label 1 were left out: their users have met all but fewer than "
            f"{n} of the {lists.n_items:,} items."
        )


def _why_none(n_rows: int, n_liked: int, n_negatives: int, n_items: int) -> str:
    if not n_liked:
        return (
            f"tuning.loss: none of the {n_rows:,} training rows of the step has label 1, so there is no positive to "
            "set beside negatives; use bce, or raise tuning.max_rows"
        )
    return (
        f"tuning.negatives: {n_negatives} asked for, but no user with a positive has so many of the {n_items:,} items "
        "with training rows left to draw; lower it"
    )
