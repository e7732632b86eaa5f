"""Settings of the floors. Defaults were chosen on validation AUC of the released MovieLens-1M split (see README)."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.encoder import EncoderConfig


class ItemMeanConfig(EncoderConfig):
    """Settings of `item-mean`."""

    smoothing: float = Field(
        default=3.0, gt=0, description="Rows of the global mean that are added to each item's rows."
    )


class ItemUserMeanConfig(EncoderConfig):
    """Settings of `item-user-mean`."""

    item_smoothing: float = Field(default=3.0, gt=0, description="Rows of the global mean added to each item's rows.")
    user_smoothing: float = Field(default=3.0, gt=0, description="Rows of the global mean added to each user's rows.")


class BiasLogisticConfig(EncoderConfig):
    """Settings of `bias-logistic`."""

    inverse_l2: float = Field(default=2.0, gt=0, description="Inverse strength of the L2 penalty, scikit-learn's C.")
    max_iterations: int = Field(default=1000, ge=1, description="Iterations of the solver (L-BFGS) at most.")


class OnlineUserItemConfig(EncoderConfig):
    """Settings of `online-user-item`."""

    user_smoothing: float = Field(default=3.0, gt=0, description="Rows of the global mean added to each user's rows.")
    item_smoothing: float = Field(default=5.0, gt=0, description="Rows of the global mean added to each item's rows.")


class RecentLogisticConfig(OnlineUserItemConfig):
    """Settings of `recent-logistic`."""

    half_life: float = Field(
        default=6.58, gt=0, description="Rows of the user after which a label counts half; 6.58 = 0.9 for each row."
    )
    recent_smoothing: float = Field(
        default=1.0, gt=0, description="Rows of the global mean added to the user's latest rows."
    )


class PopularityConfig(EncoderConfig):
    """Settings of `popularity`: none."""


class RecentPopularityConfig(EncoderConfig):
    """Settings of `recent-popularity`."""

    half_life: float = Field(
        default=0.05, gt=0, description="Share of the training positives after which a positive counts half."
    )
