"""The paths of the server: what is asked becomes a question to the model's thread, every fault a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

import collm
from collm.errors import DataError, Problem, UsageError
from collm.serve.bodies import (
    ErrorAnswer,
    Health,
    RecommendAnswer,
    RecommendBody,
    ScoreAnswer,
    ScoreBody,
    Waiting,
)
from collm.serve.gate import Gate, GateRules
from collm.serve.questions import Answer, Question, recommend_question, score_question
from collm.serve.worker import Busy, ClientFault, ModelThread, Room, ServerFault
from collm.spec.node import Place, from_plain
from collm.spec.problems import problems_of
from collm.trained.model import TrainedModel
from collm.visible import visible

_BODIES: dict[str, type[BaseModel]] = {"/score": ScoreBody, "/recommend": RecommendBody}
_PATHS = "POST /score, POST /recommend, GET /health, /docs and /openapi.json"
_SHOWN_PROBLEMS = 5
_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": said}
    for status, said in {
        400: "The body is not JSON.",
        401: "The token is missing or another one.",
        413: "The body is too large.",
        422: "A field or value cannot be used; the sentence is that of the command line.",
        500: "Scoring failed.",
        503: "Too much waits; the header Retry-After says when to ask again.",
    }.items()
}


class Served:
    """A model behind its paths.

    Attributes:
        app: The ASGI application.
        thread: What owns the model.
    """

    def __init__(
        self, model: TrainedModel, *, rules: GateRules, room: Room, max_rows: int, tell: Callable[[str], None]
    ) -> None:
        """Starts the model's thread.

        Args:
            model: A finished run with its weights loaded; nothing else may use it from now on.
            rules: Who may ask.
            room: How much may wait.
            max_rows: Rows of one request at most.
            tell: Tells the operator of failures.
        """
        self._model, self._room, self._max_rows = model, room, max_rows
        self.thread = ModelThread(model, room, tell=tell)
        self.app = Gate(self._paths(with_token=rules.token is not None), rules)

    def health(self) -> Health:
        """Returns what is served, and how busy it is."""
        data, spec, load = self._model.data, self._model.spec, self.thread.load()
        return Health(
            status="stopping" if load.stopping else "ok",
            collm=collm.__version__,
            run=self._model.path.name,
            encoders=tuple(config.name for config in spec.all_encoders.values()),
            backbone=spec.backbone.name if spec.backbone else None,
            device=str(self._model.device),
            users=data.n_users,
            items=data.n_items,
            train_rows=data.counts()["train"],
            waiting=Waiting(requests=load.requests, rows=load.rows, max_rows=self._room.waiting_rows),
            answered=load.answered,
            failed=load.failed,
        )

    def _paths(self, *, with_token: bool) -> FastAPI:
        @asynccontextmanager
        async def life(_: FastAPI) -> AsyncIterator[None]:
            yield
            # Questions whose requests are gone by now are cancelled, so that this is short.
            await asyncio.to_thread(self.thread.close, 5.0)

        app = FastAPI(title="collm serve", version=collm.__version__, lifespan=life, redoc_url=None)
        # Only for the page: the gate has looked at the token already.
        secured: dict[str, Any] = {"dependencies": [Depends(HTTPBearer(auto_error=False))]} if with_token else {}
        has_language_model = self._model.spec.backbone is not None

        @app.post("/score", responses=_FAULTS, **secured)
        async def score(body: ScoreBody, request: Request) -> ScoreAnswer:
            """Scores pairs of raw ids, as `collm score` does."""
            return await self._answer(score_question(body, max_rows=self._max_rows), request)  # type: ignore[return-value]

        @app.post("/recommend", responses=_FAULTS, **secured)
        async def recommend(body: RecommendBody, request: Request) -> RecommendAnswer:
            """Recommends items to a user, as `collm recommend` does."""
            question = recommend_question(body, max_rows=self._max_rows, run_has_language_model=has_language_model)
            return await self._answer(question, request)  # type: ignore[return-value]

        @app.get("/health", responses={401: _FAULTS[401]}, **secured)
        async def health() -> Health:
            """Says what is served, and how busy it is."""
            return self.health()

        _add_faults(app)
        return app

    async def _answer(self, question: Question, request: Request) -> Answer:
        future = self.thread.ask(question)
        return await _while_connected(future, request)


async def _while_connected(future: Future[Answer], request: Request) -> Answer:
    """Returns an answer; where the client goes away before, the question is cancelled."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the client went away")
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_faults(app: FastAPI) -> None:
    def error(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": visible(sentence)}, status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, fault: RequestValidationError) -> JSONResponse:
        return error(*_body_fault(_BODIES.get(request.url.path), fault, request.headers.get("content-type", "")))

    @app.exception_handler(UsageError)
    @app.exception_handler(DataError)
    @app.exception_handler(ClientFault)
    async def bad_question(_: Request, fault: Exception) -> JSONResponse:
        return error(422, str(fault))

    @app.exception_handler(Busy)
    async def busy(_: Request, fault: Busy) -> JSONResponse:
        return error(503, str(fault), {"Retry-After": str(fault.retry_s)})

    @app.exception_handler(ServerFault)
    async def failed(_: Request, fault: ServerFault) -> JSONResponse:
        return error(500, str(fault))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, fault: HTTPException) -> JSONResponse:
        sentence = str(fault.detail)
        if fault.status_code == 400:
            sentence = "the body cannot be read: it must be JSON in UTF-8, and not nested deeply"
        if fault.status_code in (404, 405):
            sentence = f"{request.method} {request.url.path[:100]}: there is no such path; there are {_PATHS}"
        return error(fault.status_code, sentence, dict(fault.headers or {}))

    @app.exception_handler(Exception)
    async def bug(_: Request, fault: Exception) -> JSONResponse:  # noqa: ARG001 - the server prints it
        return error(500, "unexpected error; what the server printed says why")


def _body_fault(model: type[BaseModel] | None, fault: RequestValidationError, content_type: str) -> tuple[int, str]:
    """Returns status and sentence of a body that is not what a path takes."""
    first = fault.errors()[0]
    if first["type"] == "json_invalid":
        return (
            400,
            f"the body is not JSON: {first.get('ctx', {}).get('error', 'cannot be read')} at byte {first['loc'][-1]}",
        )
    if isinstance(fault.body, bytes):
        return 415, f"Content-Type: got '{content_type[:60]}', must be application/json"
    if model is None or not isinstance(fault.body, dict):
        return 422, "the body must be a JSON object with the fields that /docs shows"
    try:
        problems = [str(each) for each in _problems(model, fault.body)]
    except RecursionError:
        return 422, "the body is nested too deeply"
    more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return 422, "; ".join(problems[:_SHOWN_PROBLEMS]) + more


def _problems(model: type[BaseModel], body: dict[str, Any]) -> list[Problem]:
    """Returns what is wrong with a body, in the words of a spec's faults."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        return problems_of(error, model, from_plain(body, Place("")), ())
    return [Problem("the body cannot be read; /docs shows its fields")]
