"""What requests and answers look like; the OpenAPI page is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _text_or_whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be text or a whole number")
    return value


Id = Annotated[
    str | int,
    BeforeValidator(_text_or_whole),
    Field(description="raw id of the dataset; an unknown one is answered as cold"),
]
Time = Annotated[
    Annotated[str | int, BeforeValidator(_text_or_whole)] | None,
    Field(
        description="when it is asked: seconds (or milliseconds and smaller) since 1970 UTC, or a date; for a dataset "
        "without dates, its own numbers. Default: after everything that is known."
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Pair(_Body):
    """A user and an item."""

    user: Id
    item: Id
    time: Time = None
    title: str | None = Field(None, description="Text of an item that the dataset does not know.")


class ScoreBody(_Body):
    """Pairs to score; `time` appears in all of them or in none."""

    pairs: list[Pair] = Field(min_length=1)


class RecommendBody(_Body):
    """A user to recommend items to; fields as the options of `collm recommend`."""

    user: Id
    k: int = Field(10, ge=1, description="Items to return.")
    candidates: list[Id] | None = Field(None, min_length=1, description="Raw item ids. Default: all of the dataset.")
    shortlist: int = Field(100, ge=0, description="Items that the language model ranks at most; 0 = all candidates.")
    time: int | None = Field(
        None, description="Seconds since 1970 UTC, or milliseconds. Default: after everything that is known."
    )
    include_seen: bool = Field(False, description="Items that the user has rated too.")


class _Answer(BaseModel):
    schema_: Literal[1] = Field(default=1, alias="schema")
    run: str = Field(description="Name of the run's folder.")
    notes: tuple[str, ...] = Field(description="What must be known beside the numbers.")


class ScoredPair(BaseModel):
    """One scored pair; fields as the columns of `collm score`."""

    user: str
    item: str
    logit: float = Field(description="Rank by it: probabilities near 0 and 1 round to ties.")
    score: float = Field(description="Probability of a positive label.")
    user_known: bool
    item_known: bool
    user_train_rows: int
    item_train_rows: int
    cold: bool = Field(description="Whether either has no training row.")


class ScoreAnswer(_Answer):
    """Scores in the order of the request."""

    pairs: list[ScoredPair]


class RecommendedItem(BaseModel):
    """One recommended item."""

    item: str
    title: str
    probability: float
    shortlist_rank: int | None = Field(description="From 1; null where there was no short list.")
    train_rows: int


class RecommendAnswer(_Answer):
    """The best items first; fields as those of `collm recommend --json`."""

    user: str
    user_known: bool
    history: tuple[str, ...] = Field(
        description="Liked titles in the prompt of the best item, oldest first; of an encoder alone the last liked."
    )
    disliked: tuple[str, ...] = Field(description="Disliked titles in that prompt, oldest first (history.include).")
    prompts_differ: bool = Field(description="Whether the prompt of another item of the answer has other titles.")
    n_candidates: int
    n_rated: int = Field(description="Candidates that were left out because the user has rated them.")
    shortlist_by: Literal["encoder", "popularity", "none"]
    n_ranked: int
    items: list[RecommendedItem]


class Waiting(BaseModel):
    """What waits for the model."""

    requests: int
    rows: int
    max_rows: int = Field(description="Beyond these, requests are answered with 503.")


class Health(BaseModel):
    """What is served, and how busy it is."""

    status: Literal["ok", "stopping"]
    collm: str = Field(description="Version.")
    run: str
    encoders: tuple[str, ...]
    backbone: str | None = Field(description="None where the encoder alone scores.")
    device: str
    users: int
    items: int
    train_rows: int
    waiting: Waiting
    answered: int = Field(description="Requests since the start.")
    failed: int = Field(description="Requests that ended in an error of the server.")


class ErrorAnswer(BaseModel):
    """Why there is no other answer."""

    error: str
