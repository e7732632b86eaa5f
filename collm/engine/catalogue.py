"""Scores of an encoder for whole catalogues and for candidate lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from collm.contracts.encoder import EncoderBatch
from collm.data.candidates import ItemLists, Questions
from collm.data.pairs import PairHistories
from collm.data.prepared import PreparedData
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.engine.ranking import CatalogueScores, FactorScores, PairScores
from collm.errors import PluginError
from collm.model.encoder import EncoderModule, naming_encoder

Array = np.ndarray[Any, Any]
LISTS_PER_BATCH = 4_096
DENSE_ENTRIES = 1 << 24  # scores of `score_all` held at a time: 64 MB
CHECKED_LISTS = 8
CHECKED_ITEMS = 16
TOLERANCE = 1e-3


class EncoderQuestions:
    """Asks one encoder for the candidates of some questions."""

    def __init__(
        self,
        encoder: EncoderModule,
        data: PreparedData,
        questions: Questions,
        *,
        histories: PairHistories,
        device: torch.device,
    ) -> None:
        """Takes a fitted encoder, put into eval mode, and what is asked.

        Args:
            encoder: The encoder.
            data: Prepared data.
            questions: Users and moments.
            histories: What finds histories in `data`.
            device: Where the encoder is.
        """
        self._encoder, self._data, self._questions = encoder.eval(), data, questions
        self._histories = histories
        self._batcher = EncoderBatcher.of(encoder, data, device)

    @torch.no_grad()
    def catalogue(self) -> CatalogueScores:
        """Returns what scores the whole catalogue: by products where the encoder has them, else pair by pair.

        A product shows one history to all items. Where items of the history are candidates, a row's own target is not
        in its history, so pairs are scored then.

        Raises:
            PluginError: If the products are not the scores.
        """
        candidates_in_history = not len(self._questions.left_out.items) and self._encoder.history_items > 0
        if not candidates_in_history and len(self._questions):
            if (found := self._factors()) is not None:
                return self._checked(found, "factors")
            if self._score_all(self._batch(slice(0, 1))) is not None:
                return self._checked(_DenseScores(self, self._data.n_items), "score_all")
        return PairScores(self.pairs, self._data.n_items)

    def listed(self, lists: ItemLists) -> Array:
        """Returns float32 [n] logits of the items of every list."""
        return self.pairs(lists.group, lists.items)

    def pairs(self, lists: Array, items: Array) -> Array:
        """Returns float32 [n] logits of (list, item) pairs, int64 [n] each."""
        questions = self._questions
        view, rows = self._histories.rows(questions.user[lists], items, questions.moment[lists])
        return encoder_logits(self._encoder, self._batcher.on(view), rows)

    def dense(self, lists: slice) -> torch.Tensor:
        """Returns what `score_all` gives for some lists, float32 [n_lists, n_items + 1] on the processor."""
        found = self._score_all(self._batch(lists))
        assert found is not None
        self._expect_shapes("score_all", tuple(found.shape), (lists.stop - lists.start, self._data.n_items + 1))
        return found.float().cpu()

    def _batch(self, lists: slice) -> EncoderBatch:
        user, moment = self._questions.user[lists], self._questions.moment[lists]
        view, rows = self._histories.rows(user, np.zeros(len(user), dtype=np.int64), moment)
        return self._batcher.on(view)(rows)

    @torch.no_grad()
    def _score_all(self, batch: EncoderBatch) -> torch.Tensor | None:
        with naming_encoder(self._encoder, "score_all"):
            return self._encoder.score_all(batch)

    def _factors(self) -> FactorScores | None:
        users: list[torch.Tensor] = []
        items: torch.Tensor | None = None
        for low in range(0, len(self._questions), LISTS_PER_BATCH):
            with naming_encoder(self._encoder, "factors"):
                found = self._encoder.factors(self._batch(slice(low, low + LISTS_PER_BATCH)))
            if found is None:
                return None
            if not isinstance(found, tuple) or len(found) != 2:
                raise PluginError(f"{self._name}: `factors` gave {type(found).__name__}; asked are two tensors or None")
            users.append(found[0].float())
            items = found[1].float()
        assert items is not None  # there is a question
        table = torch.cat(users)
        wanted = (len(self._questions), table.shape[-1]), (self._data.n_items + 1, table.shape[-1])
        self._expect_shapes("factors", (tuple(table.shape), tuple(items.shape)), wanted)
        return FactorScores(table.contiguous(), items.contiguous())

    def _expect_shapes(self, method: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise PluginError(f"{self._name}: `{method}` gave shapes {found}; asked are {wanted}")

    @property
    def _name(self) -> str:
        return self._encoder.origin or f"encoder {type(self._encoder).__name__}"

    def _checked(self, scores: CatalogueScores, method: str) -> CatalogueScores:
        """Compares some of the scores with the encoder's own, for users from the first to the last.

        Products may differ from them by one number per user, which orders nothing.
        """
        places = np.unique(np.linspace(0, len(self._questions) - 1, CHECKED_LISTS).astype(np.int64))
        for place in places:
            left_out = self._questions.left_out[place]
            candidates = np.setdiff1d(np.arange(1, self._data.n_items + 1), left_out)
            chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, CHECKED_ITEMS).astype(np.int64))]
            own = self.pairs(np.full(len(chosen), place), chosen)
            one = slice(int(place), int(place) + 1)
            if method == "score_all":
                given = scores(one, slice(1, self._data.n_items + 1)).numpy()[0][chosen - 1]
            else:
                given = np.concatenate([scores(one, slice(item, item + 1)).numpy()[0] for item in chosen])
            gap = (own - own[0]) - (given - given[0])
            if not np.allclose(gap, 0, atol=TOLERANCE * max(1.0, float(np.abs(own).max()))):
                raise PluginError(
                    f"{self._name}: `{method}` does not give the scores: differences between items differ from those "
                    f"of `score` by up to {float(np.abs(gap).max()):.3g}; fix the method, or return None"
                )
        return scores


class _DenseScores:
    """Scores of an encoder that scores the whole catalogue by itself."""

    def __init__(self, questions: EncoderQuestions, n_items: int) -> None:
        self._questions = questions
        self.lists_per_block = max(1, DENSE_ENTRIES // (n_items + 1))
        self.items_per_block = n_items

    def __call__(self, lists: slice, items: slice) -> torch.Tensor:
        return self._questions.dense(lists)[:, items].contiguous()
