"""Stage: rank the candidates of `evaluate.ranking` with one model; results are the best items and every positive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.contracts.encoder import EncoderConfig
from collm.data.candidates import ItemLists, Questions, popularity
from collm.data.pairs import PairHistories
from collm.data.prepared import PreparedData
from collm.engine.catalogue import EncoderQuestions
from collm.engine.ranking import CatalogueRanking, CatalogueScores, FactorScores, Ranks, rank_lists
from collm.errors import RunError
from collm.files import replacing
from collm.stages.fit_encoder import load_encoder
from collm.stages.held_out import encoder_view, held_out_share
from collm.stages.prompt_sources import PromptScorer
from collm.stages.ranked_lists import Shortlist, catalogue_frame, listed_frame, n_tied, positive_places, table_rows
from collm.stages.ranking_tasks import RankingTask
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

STAGE = "rank"
RANKS = "ranks.parquet"
PAIRS_AT_A_TIME = 2_000
SECONDS_PER_NOTE = 30.0
logger = logging.getLogger(__name__)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FittedEncoder:
    """A fitted encoder as a ranker.

    Attributes:
        config: Its settings.
        stage: The stage that fitted it.
        data: The data as it was fitted on.
    """

    config: EncoderConfig
    stage: StageResult
    data: PreparedData


@dataclass(frozen=True)
class Reranker:
    """A tuned language model behind a short list.

    Attributes:
        scorer: Loads the model; called only where ranks are missing.
        payload: What decides its scores, as plain data.
        size: Candidates per user that it ranks at most; 0 = all.
        by: The encoder that makes the short list; None = positives in training.
    """

    scorer: Callable[[], PromptScorer]
    payload: Mapping[str, Any]
    size: int
    by: FittedEncoder | None

    @classmethod
    def of(
        cls,
        run: RunContext,
        data: PreparedData,
        fitted: Mapping[str, StageResult],
        *,
        scorer: Callable[[], PromptScorer],
        payload: Mapping[str, Any],
    ) -> Reranker:
        """Returns the language model behind the short list of the first encoder, by name, that scores.

        Args:
            run: The run.
            data: Prepared data.
            fitted: Name -> stage of its fitted encoders.
            scorer: Loads the model.
            payload: What decides its scores, as plain data.
        """
        spec, by = run.spec, None
        for name in sorted(fitted, reverse=True):
            config = spec.all_encoders[name]
            if "scores" in run.registry.get("encoder", config.name).gives:
                by = FittedEncoder(config, fitted[name], encoder_view(data, held_out_share(spec, run.registry)))
        ranking = spec.evaluate.ranking
        return cls(scorer, payload, size=0 if ranking is None else ranking.reranked, by=by)


class CandidateRanker:
    """Ranks candidate lists of one run's data; the stage's folder holds `ranks.parquet`."""

    def __init__(self, run: RunContext, data: PreparedData) -> None:
        """Takes the run and its prepared data."""
        self._run, self._data = run, data

    @cached_property
    def _histories(self) -> PairHistories:
        return PairHistories(self._data)

    def rank(self, task: RankingTask, model: FittedEncoder | Reranker) -> StageResult:
        """Ranks the lists of a task, unless that was done before.

        A fitted encoder orders all candidates. Before a language model an encoder does so, and the language model
        ranks the best of them; the others keep the encoder's order. The facts then say how many positives the short
        list holds, which is the most that the language model can put first.
        """
        payload = {"rules": dict(task.rules), "depth": task.depth, "version": version_of(STAGE)}
        where = f"{task.split}, candidates {task.protocol}"
        if isinstance(model, FittedEncoder):
            payload["model"] = {"encoder": model.stage.fingerprint}
            label = f"{model.config.name}, {where}"
            return self._run.stages.run(STAGE, payload, lambda folder: self._encoded(folder, task, model), label=label)
        by = None if model.by is None else model.by.stage.fingerprint
        payload |= {"model": dict(model.payload), "shortlist": {"size": model.size, "by": by}}
        return self._run.stages.run(
            STAGE, payload, lambda folder: self._reranked(folder, task, model), shared=True, label=where
        )

    def _encoded(self, folder: Path, task: RankingTask, encoder: FittedEncoder) -> dict[str, Any]:
        asked, questions = self._asked(task.questions, encoder), task.questions
        if task.candidates is None:
            ranks = self._whole(asked, task, task.depth)
            return _write(folder, catalogue_frame(questions, ranks), n_tied=ranks.n_tied)
        score = asked.listed(task.candidates)
        rank = rank_lists(task.candidates, score, task.ties)
        frame = listed_frame(questions, Shortlist.whole(questions, task.candidates), rank, score, task.depth)
        return _write(folder, frame, n_tied=n_tied(questions, task.candidates, score))

    def _reranked(self, folder: Path, task: RankingTask, reranker: Reranker) -> dict[str, Any]:
        order, questions = self._shortlisted(task, reranker), task.questions
        score = self._scores(reranker.scorer(), questions, order.lists)
        frame = listed_frame(questions, order, rank_lists(order.lists, score, task.ties), score, task.depth)
        written = frame if self._run.stages.processes.is_main else None
        facts = {"shortlist": order.by, "size": reranker.size, "scored": len(score), **order.reached(questions)}
        return {**_write(folder, written, n_tied=n_tied(questions, order.lists, score)), **facts}

    def _scores(self, scorer: PromptScorer, questions: Questions, lists: ItemLists) -> Array:
        """Returns float32 [n] logits of the items of every list, whole lists at a time so that memory stays bounded."""
        parts = [np.zeros(0, dtype=np.float32)]
        low, next_note = 0, time.monotonic() + SECONDS_PER_NOTE
        while low < len(lists):
            high = int(np.searchsorted(lists.start, lists.start[low] + PAIRS_AT_A_TIME, side="right")) - 1
            high = min(max(high, low + 1), len(lists))
            part = lists.part(low, high)
            user, moment = (each[low:high][part.group] for each in (questions.user, questions.moment))
            parts.append(scorer.score_pairs(*self._histories.rows(user, part.items, moment)))
            low = high
            if time.monotonic() >= next_note and low < len(lists):
                logger.info("rank: %s of %s lists", f"{low:,}", f"{len(lists):,}")
                next_note = time.monotonic() + SECONDS_PER_NOTE
        return np.concatenate(parts)

    def _shortlisted(self, task: RankingTask, reranker: Reranker) -> Shortlist:
        """Orders the candidates by an encoder, or by positives in training, and keeps the best."""
        questions, size, listed = task.questions, reranker.size, task.candidates
        if listed is not None and (not size or int(np.diff(listed.start).max()) <= size):
            return Shortlist.whole(questions, listed)
        by = "popularity" if reranker.by is None else reranker.by.config.name
        asked = None if reranker.by is None else self._asked(questions, reranker.by)
        if listed is None:
            size = size or self._data.n_items
            ranks = self._whole(asked, task, min(max(size, task.depth), self._data.n_items))
            group, place = np.nonzero(ranks.top)
            items, rank = ranks.top[group, place], place + 1
            positive_rank, n_candidates = ranks.chosen_rank, ranks.n_candidates
        else:
            score = popularity(self._data)[listed.items].astype(np.float32) if asked is None else asked.listed(listed)
            group, items, rank = listed.group, listed.items, rank_lists(listed, score, task.ties)
            positive_rank, n_candidates = rank[positive_places(questions, listed)], np.diff(listed.start)
        best, next_ones = rank <= size, (rank > size) & (rank <= task.depth)
        behind = table_rows(
            questions, group[next_ones], items[next_ones], rank[next_ones], None, n_candidates=n_candidates
        )
        lists = ItemLists.grouped(group[best], items[best], len(questions))
        return Shortlist(lists, positive_rank, n_candidates, by, behind)

    def _asked(self, questions: Questions, encoder: FittedEncoder) -> EncoderQuestions:
        device = self._run.accelerator.device
        module = load_encoder(self._run, encoder.stage, encoder.config, encoder.data).to(device)
        return EncoderQuestions(module, self._data, questions, histories=self._histories, device=device)

    def _whole(self, asked: EncoderQuestions | None, task: RankingTask, depth: int) -> Ranks:
        """Ranks the catalogue by an encoder, or by positives in training."""
        questions = task.questions
        if asked is None:
            counts = torch.from_numpy(popularity(self._data).astype(np.float32))
            scores: CatalogueScores = FactorScores(torch.ones(len(questions), 1), counts[:, None])
        else:
            scores = asked.catalogue()
        return CatalogueRanking(
            scores,
            self._data.n_items,
            chosen=questions.positives,
            left_out=questions.left_out,
            ties=task.ties,
            depth=depth,
        ).ranks()


def _write(folder: Path, frame: pl.DataFrame | None, *, n_tied: int) -> dict[str, Any]:
    if frame is not None:
        with replacing(folder / RANKS) as temporary:
            frame.write_parquet(temporary)
    return {"tied": n_tied}


def read_ranks(stage: StageResult) -> pl.DataFrame:
    """Reads what a ranking stage wrote; columns as in `collm.stages.ranked_lists`.

    Raises:
        RunError: If the file cannot be read.
    """
    path = stage.folder / RANKS
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove this stage's folder and run again") from error
