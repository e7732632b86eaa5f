"""Settings of the bars. The defaults were searched on the validation split of ML-1M (see README.md)."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.encoder import EncoderConfig


class ItemKNNConfig(EncoderConfig):
    """Settings of `item-knn`."""

    n_neighbours: int = Field(default=200, ge=1, description="Most similar items kept per item.")
    shrinkage: float = Field(
        default=100.0,
        ge=0,
        description="Added to the cosine's denominator, in users: doubts similarities of rare items.",
    )
    profile_items: int = Field(
        default=50, ge=1, description="Liked items before the row that are compared, the latest ones."
    )


class CountsConfig(EncoderConfig):
    """What both models on counts share."""

    user_prior: float = Field(default=3.0, gt=0, description="Rows at the base rate added to each user's.")
    item_prior: float = Field(default=5.0, gt=0, description="Rows at the base rate added to each item's.")
    n_folds: int = Field(
        default=5,
        ge=2,
        description="Folds: a training row's rates come from the other folds, so that it misses its label.",
    )


class CountsGBDTConfig(CountsConfig):
    """Settings of `counts-gbdt`."""

    n_trees: int = Field(default=200, ge=1, description="Boosting rounds.")
    learning_rate: float = Field(default=0.05, gt=0, description="Weight of one tree.")
    max_leaves: int = Field(default=4, ge=2, description="Leaves per tree at most.")
    min_leaf_rows: int = Field(default=100, ge=1, description="Training rows per leaf at least.")


class CountsLogisticConfig(CountsConfig):
    """Settings of `counts-logistic`."""

    inverse_l2: float = Field(default=1.0, gt=0, description="scikit-learn's C on standardised features.")
    max_length: int | None = Field(
        default=None, ge=1, description="History items counted at most; null = history.max_items."
    )
