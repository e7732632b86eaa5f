"""Settings of the metrics that have any."""

from __future__ import annotations

from collm.component import added_field
from collm.contracts.metric import MetricConfig


class NdcgConfig(MetricConfig):
    """Settings of `ndcg`."""

    k: int | None = added_field(
        None, ge=1, description="Places of each user's list that count, from the best score on; null = the whole list."
    )
