"""Settings of `evaluate.ranking`: which items are ranked for whom, and what is measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from collm.component import location_field
from collm.contracts.metric import MetricConfig

USUAL_SHORTLIST = 100


class RankingSection(BaseModel):
    """Base of the sections below."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Candidates(RankingSection):
    """Candidates that are drawn beside the user's positives, or that a file names."""

    sample: int | None = Field(default=None, ge=1, description="Items to draw per user, without replacement.")
    by: Literal["uniform", "popularity"] = Field(
        default="uniform",
        description="`uniform`: every item alike; `popularity`: in proportion to its rows in training.",
    )
    seed: int = Field(default=0, ge=0, description="Decides the draw, for every run and every seed of the run alike.")
    file: Path | None = location_field(
        None, description="CSV or parquet with the columns `user` and `item`: the candidates of each user, by raw id."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Candidates:
        if (self.sample is None) == (self.file is None):
            raise ValueError("must have `sample` (items to draw) or `file`, one of the two")
        if self.file is not None and (self.by != "uniform" or self.seed):
            raise ValueError("`by` and `seed` decide a draw; they go with `sample`, not with `file`")
        return self


class RankingConfig(RankingSection):
    """Candidate lists that are ranked beside the rows that are scored."""

    candidates: Literal["all"] | Candidates = Field(
        default="all",
        description="`all`: the whole catalogue; {sample: 100}: items drawn beside the positives, whose metrics are "
        "biased (docs/ranking.md); {file: candidates.csv}: those of a file.",
    )
    positives: Literal["all", "last"] = Field(
        default="all",
        description="`all`: what the user liked in the split, asked before the first of it; `last`: the last of it.",
    )
    exclude: Literal["seen", "nothing"] = Field(
        default="seen",
        description="`seen`: items that the user has met in an earlier split or before the moment are not candidates.",
    )
    users: int | None = Field(default=None, ge=1, description="Users at most, drawn by `seed`; null = all.")
    seed: int = Field(default=0, ge=0, description="Decides which users are drawn, and the order of equal scores.")
    shortlist: int | None = Field(
        default=None,
        ge=0,
        description="Candidates per user that a language model ranks at most, chosen by the run's encoder (by training "
        "positives without one); the others follow in that order. 0 = all; null = 100 of the whole catalogue, all of "
        "others.",
    )
    splits: tuple[Literal["valid", "test"], ...] = Field(
        default=("test",), min_length=1, description="Splits whose positives are ranked."
    )
    metrics: tuple[str | SerializeAsAny[MetricConfig], ...] = Field(
        default=("hr@10", "ndcg@10", "recall@20", "mrr"),
        min_length=1,
        description="Metrics of ranked lists: hr@k, ndcg@k, recall@k, precision@k, map@k, mrr, or of a plugin.",
    )

    @field_validator("splits")
    @classmethod
    def _once(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(splits)) < len(splits):
            raise ValueError("must name each split once")
        return splits

    @property
    def reranked(self) -> int:
        """Returns how many candidates per user a language model ranks at most; 0 = all."""
        if self.shortlist is not None:
            return self.shortlist
        return USUAL_SHORTLIST if self.candidates == "all" else 0

    @property
    def sampled(self) -> Candidates | None:
        """Returns the draw of candidates; None where they are the catalogue or a file's."""
        return None if isinstance(self.candidates, str) or self.candidates.sample is None else self.candidates

    @property
    def file(self) -> Path | None:
        """Returns the file that names the candidates."""
        return None if isinstance(self.candidates, str) else self.candidates.file

    @property
    def protocol(self) -> str:
        """Returns the name of the candidates: `all`, `file`, or e.g. `100 uniform`."""
        if (drawn := self.sampled) is not None:
            return f"{drawn.sample} {drawn.by}"
        return "file" if self.file else "all"
