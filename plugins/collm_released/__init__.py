"""The ML-1M split that the CoLLM authors published."""

from __future__ import annotations

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_released.config import ReleasedConfig


@hookimpl
def register_datasets() -> list[Component]:
    """Returns the dataset."""
    return [
        Component(
            kind="dataset",
            name="collm-released",
            factory="collm_released.source:build",
            config=ReleasedConfig,
            summary="The CoLLM authors' processed MovieLens-1M: their pickles, read without running them.",
        )
    ]
