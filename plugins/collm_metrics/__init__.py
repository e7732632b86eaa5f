"""Metrics: auc, uauc, gauc, ndcg, logloss, accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.contracts.metric import MetricConfig
from collm.hookspecs import hookimpl
from collm_metrics.config import NdcgConfig

_SUMMARIES = {
    "auc": "Area under the ROC curve over all rows.",
    "uauc": "Unweighted mean over users of the AUC of their rows.",
    "gauc": "Mean over users of the AUC of their rows, weighted by rows.",
    "ndcg": "Mean over users of the NDCG of their list, whole or cut at k.",
    "logloss": "Mean negative log-likelihood of the labels, in nats.",
    "accuracy": "Share of rows whose score is on the label's side of 0.5.",
}

_CONFIGS: dict[str, type[MetricConfig]] = {"ndcg": NdcgConfig}


@hookimpl
def register_metrics() -> Sequence[Component]:
    """Returns the metrics."""
    return [
        Component(
            kind="metric",
            name=name,
            factory=f"collm_metrics.metrics:build_{name}",
            config=_CONFIGS.get(name, MetricConfig),
            summary=summary,
        )
        for name, summary in _SUMMARIES.items()
    ]
