"""Settings of the published split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collm.contracts.data import DatasetConfig


class ReleasedConfig(DatasetConfig):
    """`train_ood2.pkl`, `valid_ood2.pkl` and `test_ood2.pkl` as published, in a folder or zip."""

    edition: Literal["ml-1m", "unchecked"] = Field(
        default="ml-1m",
        description="ml-1m: counts must be those of the published ML-1M files; unchecked: other files of this form.",
    )
    validation: Literal["full", "published-small"] = Field(
        default="full",
        description="Validation rows: all, or those of valid_small_ood2.pkl (fact 27); the rest is history only.",
    )
