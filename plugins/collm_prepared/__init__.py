"""Datasets that lie in the prepared form already, written by another engine or by an earlier run."""

from __future__ import annotations

from collm.component import Component
from collm.contracts.data import DatasetConfig
from collm.hookspecs import hookimpl


@hookimpl
def register_datasets() -> list[Component]:
    """Returns the dataset."""
    return [
        Component(
            kind="dataset",
            name="prepared",
            factory="collm_prepared.source:PreparedFolder",
            config=DatasetConfig,
            summary="A folder of parquet files and a manifest in the prepared form, written by any program.",
        )
    ]
