"""The thread that owns the model: it takes what waits, scores it in one go, and answers each request with its rows."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from collm.errors import CollmError, DataError, QuestionTooLong, UsageError, out_of_memory
from collm.serve.questions import Answer, Prepared, Question
from collm.trained.model import TrainedModel

Array = np.ndarray[Any, Any]
_LONGEST_WAIT_S = 60


class ClientFault(Exception):
    """A question that cannot be answered as it is; its text is for the client."""


class ServerFault(Exception):
    """An answer that failed; what happened is in the server's log alone."""


class Busy(Exception):
    """No room for a question, or no more questions are taken.

    Attributes:
        retry_s: Seconds after which to ask again.
    """

    def __init__(self, message: str, retry_s: int) -> None:
        """Takes what to say, and when to ask again."""
        super().__init__(message)
        self.retry_s = retry_s


@dataclass(frozen=True)
class Room:
    """How much is scored together, and how much may wait.

    Attributes:
        waiting_rows: Rows that may wait for the model.
        together_rows: Rows that are scored in one go; a larger question stands alone.
        window_s: How long an idle model waits for further questions.
    """

    waiting_rows: int
    together_rows: int = 512
    window_s: float = 0.003


@dataclass
class _Ticket:
    question: Question
    future: Future[Answer] = field(default_factory=Future)


@dataclass(frozen=True)
class Load:
    """What the thread has to do and has done.

    Attributes:
        requests: Questions that wait.
        rows: Their rows.
        answered: Questions answered since the start.
        failed: Questions that ended in a fault of the server.
        stopping: Whether no more questions are taken.
    """

    requests: int
    rows: int
    answered: int
    failed: int
    stopping: bool


class ModelThread:
    """Answers questions in the order in which they came, those that wait together in one go.

    Rows of one user and history share their prompt's beginning, whichever requests they came with. Where a question
    makes the whole go fail, each is tried alone, so that it fails alone.
    """

    def __init__(self, model: TrainedModel, room: Room, *, tell: Callable[[str], None]) -> None:
        """Takes the model, which nothing else may use from now on, and what tells the operator of a failure."""
        self._model, self._room, self._tell = model, room, tell
        self._waiting: deque[_Ticket] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._answered = self._failed = 0
        self._row_s = 0.01
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> Future[Answer]:
        """Puts a question into the queue.

        Returns:
            Its answer to come; raises `ClientFault` or `ServerFault`. A cancelled one is not worked on any more.

        Raises:
            Busy: If too much waits, or the thread is being closed.
        """
        ticket = _Ticket(question)
        with self._changed:
            rows = self._rows()
            if self._closed:
                raise Busy("the server is stopping", 5)
            # A question alone is always taken, so that none is too large for an empty queue.
            if self._waiting and rows + question.n_rows > self._room.waiting_rows:
                retry_s = min(max(1, math.ceil(rows * self._row_s)), _LONGEST_WAIT_S)
                raise Busy(
                    f"busy: {len(self._waiting):,} requests with {rows:,} rows wait for the model, at most "
                    f"{self._room.waiting_rows:,} rows may; ask again in {retry_s} s",
                    retry_s,
                )
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket.future

    def load(self) -> Load:
        """Returns how busy the thread is."""
        with self._changed:
            waiting = sum(not ticket.future.cancelled() for ticket in self._waiting)
            return Load(waiting, self._rows(), self._answered, self._failed, self._closed)

    def close(self, timeout_s: float | None = None) -> bool:
        """Takes no more questions, answers those that wait, and ends the thread.

        Args:
            timeout_s: How long to wait for that; None = as long as it takes.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _rows(self) -> int:
        return sum(ticket.question.n_rows for ticket in self._waiting if not ticket.future.cancelled())

    def _work(self) -> None:
        while tickets := self._take():
            started = time.monotonic()
            self._answer(tickets)
            spent = (time.monotonic() - started) / max(1, sum(ticket.question.n_rows for ticket in tickets))
            self._row_s += 0.2 * (spent - self._row_s)

    def _take(self) -> list[_Ticket]:
        """Waits for questions and returns those that are scored together; none when the thread is to end."""
        most = self._room.together_rows
        while True:
            with self._changed:
                if not self._waiting:
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                    # Further questions may be on their way; a busy model has found them waiting.
                    self._changed.wait_for(lambda: self._closed or self._rows() >= most, timeout=self._room.window_s)
                if not self._waiting:
                    return []
                taken, rows = list[_Ticket](), 0
                while self._waiting and (not taken or rows + self._waiting[0].question.n_rows <= most):
                    ticket = self._waiting.popleft()
                    # Of a client that went away the question is cancelled.
                    if ticket.future.set_running_or_notify_cancel():
                        taken.append(ticket)
                        rows += ticket.question.n_rows
            if taken:
                return taken

    def _answer(self, tickets: Sequence[_Ticket]) -> None:
        prepared = [(ticket, question) for ticket in tickets if (question := self._prepare(ticket)) is not None]
        if not prepared:
            return
        try:
            answers = self._answers([question for _, question in prepared])
        except Exception as error:  # noqa: BLE001 - whatever a model raises must not end the thread
            if len(prepared) == 1:
                self._fail(prepared[0][0], error)
            else:
                for ticket, question in prepared:
                    self._answer_alone(ticket, question)
            return
        for (ticket, _), answer in zip(prepared, answers, strict=True):
            self._give(ticket, answer)

    def _answer_alone(self, ticket: _Ticket, question: Prepared) -> None:
        try:
            (answer,) = self._answers([question])
        except Exception as error:  # noqa: BLE001
            self._fail(ticket, error)
        else:
            self._give(ticket, answer)

    def _prepare(self, ticket: _Ticket) -> Prepared | None:
        try:
            return ticket.question.prepare(self._model)
        except (UsageError, DataError) as error:
            with self._changed:
                self._answered += 1
            ticket.future.set_exception(ClientFault(str(error)))
        except Exception as error:  # noqa: BLE001
            self._fail(ticket, error)
        return None

    def _answers(self, questions: Sequence[Prepared]) -> list[Answer]:
        logits = self._model.logits_of([question.pairs for question in questions])
        if n_bad := sum(int((~np.isfinite(part)).sum()) for part in logits):
            raise FloatingPointError(f"{n_bad} logits are not finite")
        return [question.finish(part) for question, part in zip(questions, logits, strict=True)]

    def _give(self, ticket: _Ticket, answer: Answer) -> None:
        with self._changed:
            self._answered += 1
        ticket.future.set_result(answer)

    def _fail(self, ticket: _Ticket, error: Exception) -> None:
        if isinstance(error, QuestionTooLong):
            with self._changed:
                self._answered += 1
            ticket.future.set_exception(ClientFault(str(error)))
            return
        with self._changed:
            self._failed += 1
        said = str(error) if isinstance(error, CollmError) else f"{type(error).__name__}: {error}"
        self._tell(f"a request failed: {out_of_memory(error) or said}")
        ticket.future.set_exception(ServerFault("scoring failed; what the server printed says why"))
