"""Your own interactions: text tables, JSON or parquet, with the columns named in the spec."""

from __future__ import annotations

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_files.config import FilesConfig


@hookimpl
def register_datasets() -> list[Component]:
    """Returns the dataset."""
    return [
        Component(
            kind="dataset",
            name="files",
            factory="collm_files.source:build",
            config=FilesConfig,
            summary="Your own files: interactions (and titles) as CSV, JSON or parquet.",
        )
    ]
