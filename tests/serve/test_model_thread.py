"""The thread that owns the model, with a model that is a formula: what is scored together, what fails alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import wait
from typing import Any, cast

import numpy as np
import pytest

from collm.data.pairs import AskedPairs
from collm.errors import DataError, QuestionTooLong, RunError, UsageError
from collm.serve.questions import Answer, Prepared, Question
from collm.serve.worker import Busy, ClientFault, ModelThread, Room, ServerFault
from collm.trained.model import TrainedModel

Array = np.ndarray[Any, Any]
BROKEN, LONG, ENDLESS = 900, 901, 902


class Formula:
    """Scores a pair as user + item / 100; waits before it does where it is held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def logits_of(self, questions: Sequence[AskedPairs]) -> list[Array]:
        self.free.wait(30)
        users = [int(user) for question in questions for user in question.user]
        self.batches.append(users)
        if BROKEN in users:
            raise RunError("a secret place is broken")
        if LONG in users:
            raise QuestionTooLong("prompt: the question is too long")
        found = [question.user + question.item / 100 for question in questions]
        return [np.where(logits >= ENDLESS, np.nan, logits).astype(np.float64) for logits in found]


def question(user: int, n_rows: int = 1) -> Question:
    pairs = AskedPairs(np.full(n_rows, user), np.arange(n_rows), np.zeros(n_rows, dtype=np.int64))

    def prepare(model: TrainedModel) -> Prepared:
        return Prepared(pairs, lambda logits: cast(Answer, logits.tolist()))

    return Question(n_rows, prepare)


def thread_of(formula: Formula, *, waiting: int = 100, together: int = 100) -> tuple[ModelThread, list[str]]:
    told: list[str] = []
    room = Room(waiting_rows=waiting, together_rows=together, window_s=0.2)
    return ModelThread(cast(TrainedModel, formula), room, tell=told.append), told


def test_questions_that_arrive_together_are_scored_together_and_told_apart() -> None:
    formula = Formula()
    thread, _ = thread_of(formula)
    futures = [thread.ask(question(user, n_rows)) for user, n_rows in ((7, 3), (2, 1), (7, 2))]
    assert [future.result(10) for future in futures] == [[7, 7.01, 7.02], [2], [7, 7.01]]
    assert formula.batches == [[7, 7, 7, 2, 7, 7]]
    assert thread.close(10)


def test_rows_beyond_the_room_wait_for_the_next_go_in_order() -> None:
    formula = Formula()
    thread, _ = thread_of(formula, together=4)
    formula.free.clear()
    futures = [thread.ask(question(user, n_rows)) for user, n_rows in ((1, 3), (2, 2), (3, 9), (4, 1), (5, 1))]
    formula.free.set()
    wait(futures, 10)
    # The ninefold one is larger than a go: it stands alone.
    assert [sorted(set(users)) for users in formula.batches] == [[1], [2], [3], [4, 5]]
    assert [len(users) for users in formula.batches] == [3, 2, 9, 2]


def test_a_question_that_fails_fails_alone() -> None:
    thread, told = thread_of(Formula())
    futures = {user: thread.ask(question(user)) for user in (1, BROKEN, 2, LONG, ENDLESS, 3)}
    assert [futures[user].result(10) for user in (1, 2, 3)] == [[1], [2], [3]]
    with pytest.raises(ServerFault) as fault:
        futures[BROKEN].result(10)
    assert "secret" not in str(fault.value)
    with pytest.raises(ClientFault, match="the question is too long"):
        futures[LONG].result(10)
    with pytest.raises(ServerFault):
        futures[ENDLESS].result(10)
    assert told == [
        "a request failed: a secret place is broken",
        "a request failed: FloatingPointError: 1 logits are not finite",
    ]
    load = thread.load()
    assert (load.answered, load.failed, load.requests, load.rows) == (4, 2, 0, 0)


@pytest.mark.parametrize("error", [UsageError("no candidate"), DataError("no time")])
def test_what_the_client_did_wrong_is_told_to_the_client(error: Exception) -> None:
    thread, told = thread_of(Formula())

    def prepare(model: TrainedModel) -> Prepared:
        raise error

    bad, good = thread.ask(Question(1, prepare)), thread.ask(question(5))
    with pytest.raises(ClientFault, match=str(error)):
        bad.result(10)
    assert good.result(10) == [5]
    assert told == []


def test_a_full_queue_says_when_to_ask_again() -> None:
    formula = Formula()
    thread, _ = thread_of(formula, waiting=5, together=1)
    formula.free.clear()
    first = thread.ask(question(1))
    while thread.load().requests:
        pass
    waiting = [thread.ask(question(2, 3)), thread.ask(question(3, 2))]
    with pytest.raises(Busy, match=r"2 requests with 5 rows wait for the model, at most 5 rows may") as busy:
        thread.ask(question(4))
    assert busy.value.retry_s >= 1
    waiting[0].cancel()
    assert thread.load().rows == 2
    last = thread.ask(question(4, 3))
    formula.free.set()
    assert [future.result(10) for future in (first, waiting[1], last)] == [[1], [3, 3.01], [4, 4.01, 4.02]]
    # What was cancelled was not scored.
    assert 2 not in [user for users in formula.batches for user in users]


def test_a_question_larger_than_the_queue_is_taken_by_an_empty_one() -> None:
    thread, _ = thread_of(Formula(), waiting=2)
    assert len(thread.ask(question(1, 5)).result(10)) == 5  # type: ignore[arg-type]


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    formula = Formula()
    thread, _ = thread_of(formula, together=1)
    formula.free.clear()
    futures = [thread.ask(question(user)) for user in range(4)]
    assert not thread.close(0.01)
    with pytest.raises(Busy, match="the server is stopping"):
        thread.ask(question(9))
    assert thread.load().stopping
    formula.free.set()
    assert thread.close(10)
    assert [future.result(0) for future in futures] == [[0], [1], [2], [3]]
