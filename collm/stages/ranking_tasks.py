"""What `evaluate.ranking` asks: users, moments and candidates of every split, made before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from collm.data.candidates import ItemLists, Questions, ask, draw_candidates, listed_candidates
from collm.data.prepared import PreparedData
from collm.engine.ranking import Ties
from collm.spec.ranking import RankingConfig

ALL = "all"


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
