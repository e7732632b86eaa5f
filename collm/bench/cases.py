"""The standard cases: scoring, the text step, the collaborative step, ranking; ours and plain, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from collm.bench.flops import count_tokens, model_size, needed_flops
from collm.bench.machine import Clock
from collm.bench.plain import PlainLoop
from collm.bench.subject import Subject
from collm.bench.training_steps import TrainingSteps
from collm.contracts.tuning import TuneStep
from collm.data.prepared import Rows
from collm.engine.device import derive_seed
from collm.engine.language_task import recommender_logits
from collm.engine.prompt_rows import PromptRows, PromptSource
from collm.engine.shares import scored_in_parts

Array = np.ndarray[Any, Any]
CaseName = Literal["scoring", "text_step", "collaborative_step", "collaborative_step_kept", "ranking_100"]
CASES: tuple[CaseName, ...] = get_args(CaseName)
PLAIN_ROWS = 32
PLAIN_CANDIDATES = 16
STEPS_PER_PIECE = 2
WARM_UP_ROWS = 128
CANDIDATES = 100


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes:
        rows: Consecutive test rows to score.
        users: Users to rank candidates for.
        repetitions: Pieces that scoring and training are measured in.
    """

    rows: int = 1_000
    users: int = 20
    repetitions: int = 3


@dataclass(frozen=True)
class Repetition:
    """One piece of a case; ours and the plain loop's take turns.

    Attributes:
        ours: Does the work and returns its seconds.
        n_ours: Samples that it does.
        flops: Operations that it needs.
        tokens: Distinct tokens that it needs.
        plain: Does work of the same kind plainly; None = not in this piece.
        n_plain: Samples that this does.
        text_only: Does the same samples as `ours` with the text variant; None = not in this piece.
    """

    ours: Callable[[Clock], float]
    n_ours: int
    flops: float
    tokens: int
    plain: Callable[[PlainLoop], object] | None
    n_plain: int
    text_only: Callable[[], object] | None = None


@dataclass(frozen=True)
class Case:
    """One kind of work.

    Attributes:
        name: Which.
        warm_up: Does a little of it.
        plain_warm_up: The same for the plain loop.
        pieces: What is measured.
    """

    name: CaseName
    warm_up: Callable[[], object]
    plain_warm_up: Callable[[PlainLoop], object]
    pieces: Sequence[Repetition]


def make_cases(subject: Subject, names: Sequence[CaseName], amount: Amount, clock: Clock) -> list[Case]:
    """Makes the cases that a spec has: without an encoder no collaborative step, untuned no step at all.

    `collaborative_step_kept` is there where `tuning.prefix_cache_gb` is not 0: a later epoch over as many steps.

    Args:
        subject: The spec's model and data.
        names: Which cases.
        amount: How much of each.
        clock: Measures the time.
    """
    makers: Mapping[CaseName, Callable[[], Case | None]] = {
        "scoring": lambda: _scoring(subject, amount),
        "text_step": lambda: _training("text_step", subject, subject.step("text"), amount, clock),
        "collaborative_step": lambda: _training("collaborative_step", subject, subject.step("hybrid"), amount, clock),
        "collaborative_step_kept": lambda: _later_epoch(subject, subject.step("hybrid"), amount, clock),
        "ranking_100": lambda: _ranking(subject, amount),
    }
    made = [makers[name]() for name in CASES if name in names]
    return [case for case in made if case is not None]


def scorer(subject: Subject, source: PromptSource) -> Callable[[Rows], Array]:
    """Returns the function that encodes and scores rows as `evaluate` does."""
    max_tokens = subject.setup.tuning.micro_batch_tokens

    def score(rows: Rows) -> Array:
        return recommender_logits(subject.recommender, source.encode(rows), max_tokens=max_tokens)

    return partial(scored_in_parts, score=score)


def _scoring(subject: Subject, amount: Amount) -> Case:
    rows = subject.data.rows("test")
    rows = rows.take(np.arange(min(len(rows), amount.rows)))
    generator = np.random.default_rng(derive_seed(subject.setup.spec.seed, "bench", "scoring"))
    source, variant = subject.source(subject.setup.strategy.variant), subject.setup.strategy.variant
    score = scorer(subject, source)
    score_text = scorer(subject, subject.source("text"))
    parts = [rows.take(at) for at in np.array_split(np.arange(len(rows)), min(amount.repetitions, len(rows)))]
    # The same rows as text only take as long again: every second piece of them is enough for a ratio.
    with_text = set(range(len(parts) // 2, len(parts), 2)) if variant == "hybrid" else set()
    pieces = []
    for number, part in enumerate(parts):
        sample = _drawn(part, PLAIN_ROWS, generator)
        pieces.append(
            _scoring_piece(
                subject,
                source.encode(part),
                ours=lambda clock, part=part: clock.seconds(lambda: score(part)),  # type: ignore[misc]
                plain=lambda loop, sample=sample: loop.score(sample, variant),  # type: ignore[misc]
                n_plain=len(sample),
                text_only=(lambda part=part: score_text(part)) if number in with_text else None,  # type: ignore[misc]
            )
        )
    first = rows.take(np.arange(min(len(rows), WARM_UP_ROWS)))

    def warm_up() -> None:
        score(first)
        if with_text:
            score_text(first)

    few = _drawn(first, PLAIN_CANDIDATES, generator)
    return Case("scoring", warm_up, lambda loop: loop.score(few, variant), pieces)


def _ranking(subject: Subject, amount: Amount) -> Case:
    generator = np.random.default_rng(derive_seed(subject.setup.spec.seed, "bench", "ranking"))
    view, requests = subject.requests(amount.users, CANDIDATES, history_items=subject.setup.spec.history.max_items)
    source, variant = subject.source(subject.setup.strategy.variant, data=view), subject.setup.strategy.variant
    score = scorer(subject, source)
    pieces = []
    for number, rows in enumerate(requests):
        sample = _drawn(rows, PLAIN_CANDIDATES, generator)
        plain: Callable[[PlainLoop], object] = lambda loop, sample=sample: loop.score(sample, variant, data=view)  # type: ignore[misc]  # noqa: E731
        pieces.append(
            _scoring_piece(
                subject,
                source.encode(rows),
                ours=lambda clock, rows=rows: clock.seconds(lambda: score(rows)),  # type: ignore[misc]
                # Every prompt of a user is as long as the others, so a part of the candidates of every second user
                # tells the plain loop's rate.
                plain=plain if number % 2 == 0 else None,
                n_plain=len(sample),
            )
        )
    first = _drawn(requests[0], PLAIN_CANDIDATES, generator)
    return Case(
        "ranking_100",
        lambda: score(requests[0]),
        lambda loop: loop.score(first, variant, data=view),
        pieces,
    )


def _scoring_piece(
    subject: Subject,
    prompts: PromptRows,
    *,
    ours: Callable[[Clock], float],
    plain: Callable[[PlainLoop], object] | None,
    n_plain: int,
    text_only: Callable[[], object] | None = None,
) -> Repetition:
    tokens = count_tokens(prompts, np.arange(len(prompts)), trains=False, lora_trains=False)
    flops = needed_flops(model_size(subject.recommender.lm), tokens, lora_trains=False)
    return Repetition(ours, len(prompts), flops, tokens.forward, plain, n_plain, text_only)


def _training(name: CaseName, subject: Subject, step: TuneStep | None, amount: Amount, clock: Clock) -> Case | None:
    if step is None:
        return None
    rows = subject.train_rows()
    steps = TrainingSteps(subject, step, rows=rows)
    return _steps_case(name, steps, rows, step, amount, clock, seed=subject.setup.spec.seed, warm_up_steps=1)


def _later_epoch(subject: Subject, step: TuneStep | None, amount: Amount, clock: Clock) -> Case | None:
    """Steps over rows whose prefixes were all computed in an epoch before, as far as the memory for them goes."""
    if step is None or not subject.setup.tuning.prefix_cache_gb:
        return None
    name: CaseName = "collaborative_step_kept"
    n_steps = STEPS_PER_PIECE * amount.repetitions
    rows = subject.train_rows()
    first = TrainingSteps(subject, step, rows=rows).batches(0, n_steps)
    rows = rows.take(np.unique(np.concatenate([part for batch in first for part in batch])))
    steps = TrainingSteps(subject, step, rows=rows, keeps_prefixes=True)
    return _steps_case(name, steps, rows, step, amount, clock, seed=subject.setup.spec.seed, warm_up_steps=n_steps)


def _steps_case(
    name: CaseName,
    steps: TrainingSteps,
    rows: Rows,
    step: TuneStep,
    amount: Amount,
    clock: Clock,
    *,
    seed: int,
    warm_up_steps: int,
) -> Case:
    generator = np.random.default_rng(derive_seed(seed, "bench", name))
    pieces = []
    for number in range(amount.repetitions):
        batches = steps.batches(number * STEPS_PER_PIECE, STEPS_PER_PIECE)
        sample = _drawn(rows, PLAIN_ROWS, generator)
        pieces.append(
            Repetition(
                ours=lambda clock, batches=batches: steps.run(batches, clock),  # type: ignore[misc]
                n_ours=sum(len(part) for batch in batches for part in batch),
                flops=steps.flops(batches),
                tokens=steps.tokens(batches).forward,
                plain=lambda loop, sample=sample: loop.train(sample, step),  # type: ignore[misc]
                n_plain=len(sample),
            )
        )
    first = _drawn(rows, PLAIN_CANDIDATES, generator)
    warm_up = steps.batches(0, warm_up_steps)
    return Case(name, lambda: steps.run(warm_up, clock), lambda loop: loop.train(first, step), pieces)


def _drawn(rows: Rows, n: int, generator: np.random.Generator) -> Rows:
    return rows.take(generator.permutation(len(rows))[:n])
