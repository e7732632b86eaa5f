"""Versions of what stages compute.

A version is part of every fingerprint in place of the code itself: a release, a comment or a renamed helper reuses
finished work, and what computes other numbers does not. Raise a version when the numbers of its stage change;
`tests/test_versions.py` compares the code with a recorded digest and fails where neither was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Versioned:
    """A kind of stage.

    Attributes:
        version: Raised when what it computes changes.
        modules: Where its code begins; what these import belongs to it.
    """

    version: int
    modules: tuple[str, ...]


STAGES: Mapping[str, Versioned] = {
    "prepare_data": Versioned(2, ("collm.data.prepare", "collm.data.prepared")),
    "fit_encoder": Versioned(1, ("collm.stages.fit_encoder",)),
    "tune": Versioned(1, ("collm.stages.tune",)),
    "evaluate": Versioned(1, ("collm.engine.language_task", "collm.engine.encoder_task", "collm.stages.evaluate")),
    "metrics": Versioned(2, ("collm.stages.evaluate",)),
    "continue": Versioned(2, ("collm.stages.continued",)),
    "windows": Versioned(1, ("collm.stages.prequential", "collm.stages.updates", "collm.data.windows")),
    "update": Versioned(2, ("collm.stages.updated",)),
    "rank": Versioned(1, ("collm.stages.ranking", "collm.stages.ranked_lists")),
    "results": Versioned(2, ("collm.runner",)),
}


def version_of(stage: str) -> int:
    """Returns the version of a kind of stage, e.g. `tune`."""
    return STAGES[stage].version


def all_versions() -> dict[str, int]:
    """Returns the version of every kind of stage."""
    return {name: stage.version for name, stage in STAGES.items()}
