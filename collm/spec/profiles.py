"""The profiles: every choice that decides numbers, as the paper, its published code, and this project make it.

A row is used only where the user gave nothing and the section's or component's config class has that field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from collm.component import Component
from collm.contracts.component_check import config_field
from collm.spec.model import Profile

PROFILES: tuple[Profile, ...] = get_args(Profile)

# dotted path -> (paper, reference, recommended)
_ROWS: Mapping[str, tuple[Any, Any, Any]] = {
    "history.visibility": ("all", "all", "strictly-earlier"),  # facts 8, 11
    "history.max_items": (10, 10, 10),  # fact 10
    "slices.warm": ("at-least-3", "more-than-3", "at-least-3"),  # fact 28
    "slices.cold": ("rest", "unseen", "rest"),  # fact 28
    "prompt.wording": ("paper", "reference", "paper"),  # facts 4-9
    "answer.readout": ("yes_logit", "yes_logit", "yes_minus_no"),  # facts 1, 3
    "tuning.schedule": ("linear-warmup-cosine", "reference-sawtooth", "linear-warmup-cosine"),  # fact 39
    "tuning.frozen_lora_dropout": (False, True, False),  # fact 45
    "tuning.clip_norm": (None, None, 1.0),  # fact 38
    "select.rows": ("full", "half", "full"),  # fact 27
}


def section_defaults(section: str, model: type[BaseModel], profile: Profile) -> Iterator[tuple[str, Any]]:
    """Yields the dotted field and value of every row of the table that a section or component kind takes.

    Args:
        section: Section name, which for components is their kind.
        model: Config class of the section.
        profile: Name of the profile.
    """
    column = PROFILES.index(profile)
    for path, values in _ROWS.items():
        head, _, rest = path.partition(".")
        if head == section and config_field(model, rest):
            yield rest, values[column]


def component_defaults(component: Component, profile: Profile) -> dict[str, Any]:
    """Returns dotted field -> value for a component: the table's rows, overruled by the component's own."""
    table = dict(section_defaults(component.kind, component.config, profile))
    return table | dict(component.profiles.get(profile, {}))
