"""Stage: rank the candidates of `evaluate.ranking` with one model; results are the best items and every positive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.contracts.encoder import EncoderConfig
from collm.data.candidates import ItemLists, Questions, ask, draw_candidates, listed_candidates, popularity
from collm.data.pairs import PairHistories
from collm.data.prepared import PreparedData
from collm.engine.catalogue import EncoderQuestions
from collm.engine.ranking import CatalogueRanking, CatalogueScores, FactorScores, Ranks, Ties, rank_lists
from collm.errors import RunError
from collm.files import replacing
from collm.spec.ranking import RankingConfig
from collm.stages.fit_encoder import load_encoder
from collm.stages.held_out import encoder_view, held_out_share
from collm.stages.prompt_sources import PromptScorer
from collm.stages.ranked_lists import Shortlist, catalogue_frame, full_order, listed_frame, n_tied
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

STAGE = "rank"
RANKS = "ranks.parquet"
ALL = "all"
PAIRS_AT_A_TIME = 2_000
SECONDS_PER_NOTE = 30.0
logger = logging.getLogger(__name__)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RankingTask:
    """The candidate lists of one split.

    Attributes:
        split: The split whose positives are looked for.
        protocol: Name of the candidates: `all`, `file`, or e.g. `100 uniform`.
        questions: Users, moments, positives.
        candidates: Candidates per user; None = the catalogue without `questions.left_out`.
        ties: Order of equal scores.
        depth: Best items that are kept per list.
        rules: What decides the lists beside the data, as plain data.
        notes: Sentences on what was left out.
    """

    split: str
    protocol: str
    questions: Questions
    candidates: ItemLists | None
    ties: Ties
    depth: int
    rules: Mapping[str, Any]
    notes: tuple[str, ...] = ()


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


def ranking_tasks(config: RankingConfig, data: PreparedData, *, depth: int, file_digest: str = "") -> list[RankingTask]:
    """Makes the lists of every split: those that the spec asks for, and the whole catalogue.

    Args:
        config: What is ranked.
        data: Prepared data.
        depth: Best items to keep per list.
        file_digest: Digest of the candidates' file.

    Raises:
        DataError: If a split has no positive, or the file names no candidates for a user.
    """
    tasks = []
    for split in config.splits:
        questions = ask(
            data,
            split,
            which=config.positives,
            leave_out_seen=config.exclude == "seen",
            n_users=config.users,
            seed=config.seed,
        )
        rules = config.model_dump(mode="json", include={"positives", "exclude", "users", "seed"})
        whole = RankingTask(
            split=split,
            protocol=ALL,
            questions=questions,
            candidates=None,
            ties=Ties.drawn(questions.user, seed=config.seed),
            depth=depth,
            rules={**rules, "split": split, "candidates": ALL},
            notes=_question_notes(split, questions),
        )
        tasks += [whole, *_narrower(config, data, whole, file_digest)]
    return tasks


def _narrower(config: RankingConfig, data: PreparedData, whole: RankingTask, file_digest: str) -> list[RankingTask]:
    """Returns the task with the candidates that the spec asks for, where they are not the catalogue."""
    if (drawn := config.sampled) is not None and drawn.sample is not None:
        lists = draw_candidates(data, whole.questions, n=drawn.sample, by=drawn.by, seed=drawn.seed)
        rules = {**whole.rules, "candidates": drawn.model_dump(mode="json", exclude={"file"})}
        notes = (*whole.notes, *_short_notes(whole, lists, drawn.sample))
        return [replace(whole, protocol=config.protocol, candidates=lists, rules=rules, notes=notes)]
    if config.file is None:
        return []
    lists, notes = listed_candidates(data, whole.questions, config.file)
    rules = {**whole.rules, "candidates": {"file": file_digest}}
    return [replace(whole, protocol=config.protocol, candidates=lists, rules=rules, notes=(*whole.notes, *notes))]


def _short_notes(whole: RankingTask, lists: ItemLists, wanted: int) -> list[str]:
    """Says where fewer items were left to draw than asked."""
    n_drawn = np.diff(lists.start) - np.diff(whole.questions.positives.start)
    if not (n_short := int((n_drawn < wanted).sum())):
        return []
    return [
        f"Ranking, {whole.split}: {n_short:,} of {len(n_drawn):,} users have fewer than {wanted:,} items left to draw: "
        f"{int(n_drawn.min()):,} at least."
    ]


def _question_notes(split: str, questions: Questions) -> tuple[str, ...]:
    notes = []
    if questions.n_repeats:
        notes.append(
            f"Ranking, {split}: {questions.n_repeats:,} positives are left out, since the user had met the item before."
        )
    if questions.n_without:
        notes.append(f"Ranking, {split}: {questions.n_without:,} users have no positive to rank and are left out.")
    return tuple(notes)


def rank_with_encoder(run: RunContext, data: PreparedData, task: RankingTask, encoder: FittedEncoder) -> StageResult:
    """Ranks the lists of a task with a fitted encoder; the folder holds `ranks.parquet`."""

    def work(folder: Path) -> dict[str, Any]:
        asked = _asked(run, data, task.questions, encoder)
        if task.candidates is None:
            ranks = _whole(asked, data, task, task.depth)
            return _write(folder, catalogue_frame(task.questions, ranks), n_tied=ranks.n_tied)
        order = full_order(task.questions, task.candidates, encoder.config.name)
        score = asked.listed(task.candidates)
        frame = listed_frame(task.questions, order, rank_lists(task.candidates, score, task.ties), score, task.depth)
        return _write(folder, frame, n_tied=n_tied(task.questions, task.candidates, score))

    payload = {"model": {"encoder": encoder.stage.fingerprint}, **_payload(task)}
    return run.stages.run(
        STAGE, payload, work, label=f"{encoder.config.name}, {task.split}, candidates {task.protocol}"
    )


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


def rank_with_language_model(run: RunContext, data: PreparedData, task: RankingTask, reranker: Reranker) -> StageResult:
    """Ranks the lists of a task: an encoder orders all candidates, the language model the best of them.

    Candidates behind the short list keep the encoder's order. The facts say how many positives the short list holds,
    which is the most that the language model can put first.
    """

    def work(folder: Path) -> dict[str, Any]:
        order = _shortlisted(run, data, task, reranker)
        questions, lists = task.questions, order.lists
        score = _language_scores(reranker.scorer(), PairHistories(data), questions, lists)
        frame = listed_frame(questions, order, rank_lists(lists, score, task.ties), score, task.depth)
        facts = {"shortlist": order.by, "size": reranker.size, "scored": len(score), **order.reached(questions)}
        return (
            _write(folder, frame if run.stages.processes.is_main else None, n_tied=n_tied(questions, lists, score))
            | facts
        )

    by = None if reranker.by is None else reranker.by.stage.fingerprint
    shortlist = {"size": reranker.size, "by": by}
    payload = {"model": dict(reranker.payload), "shortlist": shortlist, **_payload(task)}
    label = f"{task.split}, candidates {task.protocol}"
    return run.stages.run(STAGE, payload, work, shared=True, label=label)


def _language_scores(scorer: PromptScorer, histories: PairHistories, questions: Questions, lists: ItemLists) -> Array:
    """Returns float32 [n] logits of the items of every list, whole lists at a time so that memory stays bounded."""
    parts = [np.zeros(0, dtype=np.float32)]
    low, next_note = 0, time.monotonic() + SECONDS_PER_NOTE
    while low < len(lists):
        high = int(np.searchsorted(lists.start, lists.start[low] + PAIRS_AT_A_TIME, side="right")) - 1
        high = min(max(high, low + 1), len(lists))
        part = lists.part(low, high)
        user, moment = (each[low:high][part.group] for each in (questions.user, questions.moment))
        view, rows = histories.rows(user, part.items, moment)
        parts.append(scorer.score_pairs(view, rows))
        low = high
        if time.monotonic() >= next_note and low < len(lists):
            logger.info("rank: %s of %s lists", f"{low:,}", f"{len(lists):,}")
            next_note = time.monotonic() + SECONDS_PER_NOTE
    return np.concatenate(parts)


def _shortlisted(run: RunContext, data: PreparedData, task: RankingTask, reranker: Reranker) -> Shortlist:
    """Orders the candidates by an encoder, or by positives in training, and keeps the best."""
    questions, size = task.questions, reranker.size
    if task.candidates is not None and (not size or int(np.diff(task.candidates.start).max()) <= size):
        return full_order(questions, task.candidates, "nothing")
    by = "popularity" if reranker.by is None else reranker.by.config.name
    asked = None if reranker.by is None else _asked(run, data, questions, reranker.by)
    if task.candidates is None:
        size = size or data.n_items
        ranks = _whole(asked, data, task, min(max(size, task.depth), data.n_items))
        kept = [row[row > 0] for row in ranks.top]
        lists, behind = ItemLists.of([row[:size] for row in kept]), tuple(row[size:] for row in kept)
        return Shortlist(lists, ranks.chosen_rank, ranks.n_candidates, by, behind)
    counts = popularity(data).astype(np.float32)
    score = counts[task.candidates.items] if asked is None else asked.listed(task.candidates)
    rank = rank_lists(task.candidates, score, task.ties)
    whole = full_order(questions, task.candidates, by)
    best = rank <= size
    lists = ItemLists.grouped(task.candidates.group[best], task.candidates.items[best], len(questions))
    return replace(
        whole, lists=lists, positive_rank=rank[whole.positive_rank], behind=_next_ones(task.candidates, rank, size)
    )


def _next_ones(candidates: ItemLists, rank: Array, size: int) -> tuple[Array, ...]:
    """Returns the candidates of every list behind the best `size`, best first."""
    parts = zip(*(np.split(values, candidates.start[1:-1]) for values in (candidates.items, rank)), strict=True)
    return tuple(items[np.argsort(ranks)][size:] for items, ranks in parts)


def _asked(run: RunContext, data: PreparedData, questions: Questions, encoder: FittedEncoder) -> EncoderQuestions:
    module = load_encoder(run, encoder.stage, encoder.config, encoder.data)
    device = run.accelerator.device
    return EncoderQuestions(module.to(device), data, questions, histories=PairHistories(data), device=device)


def _whole(asked: EncoderQuestions | None, data: PreparedData, task: RankingTask, depth: int) -> Ranks:
    """Ranks the catalogue by an encoder, or by positives in training."""
    questions = task.questions
    if asked is None:
        counts = torch.from_numpy(popularity(data).astype(np.float32))
        scores: CatalogueScores = FactorScores(torch.ones(len(questions), 1), counts[:, None])
    else:
        scores = asked.catalogue()
    return CatalogueRanking(
        scores, data.n_items, chosen=questions.positives, left_out=questions.left_out, ties=task.ties, depth=depth
    ).ranks()


def _payload(task: RankingTask) -> dict[str, Any]:
    return {"rules": dict(task.rules), "depth": task.depth, "version": version_of(STAGE)}


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
