"""Floors: the cheap recommenders that every results table shows (fact 1)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_floors.config import (
    BiasLogisticConfig,
    ItemMeanConfig,
    ItemUserMeanConfig,
    OnlineUserItemConfig,
    PopularityConfig,
    RecentLogisticConfig,
    RecentPopularityConfig,
)


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the floors."""
    scores = frozenset({"scores"})
    return [
        Component(
            kind="encoder",
            name="item-mean",
            factory="collm_floors.encoders:build_item_mean",
            config=ItemMeanConfig,
            summary="Floor: smoothed share of positives of the item in training.",
            gives=scores,
            floor=True,
        ),
        Component(
            kind="encoder",
            name="item-user-mean",
            factory="collm_floors.encoders:build_item_user_mean",
            config=ItemUserMeanConfig,
            summary="Floor: sum of the smoothed log-odds of item and user.",
            gives=scores,
            floor=True,
        ),
        Component(
            kind="encoder",
            name="bias-logistic",
            factory="collm_floors.encoders:build_bias_logistic",
            config=BiasLogisticConfig,
            summary="Floor: logistic regression on one-hot user and item.",
            gives=scores,
            floor=True,
        ),
        Component(
            kind="encoder",
            name="online-user-item",
            factory="collm_floors.online:build_online_user_item",
            config=OnlineUserItemConfig,
            summary="Floor of what sees the past: log-odds of user and item from all strictly earlier labels.",
            needs=frozenset({"earlier-labels"}),
            gives=scores,
            floor=True,
        ),
        Component(
            kind="encoder",
            name="recent-logistic",
            factory="collm_floors.online:build_recent_logistic",
            config=RecentLogisticConfig,
            summary="Floor of what sees the past: the same, and log-odds of the user's latest labels.",
            needs=frozenset({"earlier-labels"}),
            gives=scores,
            floor=True,
        ),
        Component(
            kind="encoder",
            name="popularity",
            factory="collm_floors.encoders:build_popularity",
            config=PopularityConfig,
            summary="Floor of rankings: positives of the item in training.",
            gives=scores,
            ranking_floor=True,
        ),
        Component(
            kind="encoder",
            name="recent-popularity",
            factory="collm_floors.encoders:build_popularity",
            config=RecentPopularityConfig,
            summary="Floor of rankings: positives of the item in training, the later the more.",
            gives=scores,
            ranking_floor=True,
        ),
    ]
