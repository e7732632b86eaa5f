"""Metrics: auc, uauc, gauc, ndcg, logloss, accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.contracts.metric import MetricConfig
from collm.hookspecs import hookimpl
from collm_metrics.config import CutConfig, ListConfig, NdcgConfig

_SUMMARIES = {
    "auc": "Area under the ROC curve over all rows.",
    "uauc": "Unweighted mean over users of the AUC of their rows.",
    "gauc": "Mean over users of the AUC of their rows, weighted by rows.",
    "ndcg": "Mean over users of the NDCG of their list, whole or cut at k.",
    "logloss": "Mean negative log-likelihood of the labels, in nats.",
    "hr": "Share of users with a positive among the first k of their ranked candidates.",
    "recall": "Mean share of a user's positives among the first k of the ranked candidates.",
    "precision": "Mean share of positives among the first k of the ranked candidates.",
    "map": "Mean average precision of the ranked candidates.",
    "mrr": "Mean over users of 1 over the rank of the best positive.",
    "accuracy": "Share of rows whose score is on the label's side of 0.5.",
}

_CONFIGS: dict[str, type[MetricConfig]] = {
    "ndcg": NdcgConfig,
    **dict.fromkeys(("hr", "recall", "precision"), CutConfig),
    **dict.fromkeys(("map", "mrr"), ListConfig),
}
_OF_LISTS = ("hr", "recall", "precision", "map", "mrr")


@hookimpl
def register_metrics() -> Sequence[Component]:
    """Returns the metrics."""
    return [
        Component(
            kind="metric",
            name=name,
            factory=f"collm_metrics.{'lists' if name in _OF_LISTS else 'metrics'}:build_{name}",
            config=_CONFIGS.get(name, MetricConfig),
            summary=summary,
            measures=frozenset({"lists"} if name in _OF_LISTS else {"rows", "lists"} if name == "ndcg" else {"rows"}),
        )
        for name, summary in _SUMMARIES.items()
    ]
