"""Settings of the metrics that have any."""

from __future__ import annotations

from pydantic import Field

from collm.component import added_field
from collm.contracts.metric import MetricConfig


class CutConfig(MetricConfig):
    """Settings of `hr`, `recall` and `precision`, which need a cut."""

    k: int = Field(ge=1, description="Ranks that count, e.g. hr@10.")


class ListConfig(MetricConfig):
    """Settings of `map` and `mrr`."""

    k: int | None = Field(default=None, ge=1, description="Ranks that count; null = all.")


class NdcgConfig(MetricConfig):
    """Settings of `ndcg`."""

    k: int | None = added_field(
        None, ge=1, description="Places of each user's list that count, from the best score on; null = the whole list."
    )
