"""The profiles: every choice that decides numbers, as the paper, its published code, and this project make it.

A row is used only where the user gave nothing and the section's or component's config class has that field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from collm.component import Component
from collm.contracts.component_check import config_field
from collm.spec.model import Profile

PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True)
class Choice:
    """One choice that decides numbers.

    Attributes:
        values: Its value in each profile, in the order of `PROFILES`.
        facts: Numbers of the reference facts that tell of it.
    """

    values: tuple[Any, Any, Any]
    facts: tuple[int, ...]

    def of(self, profile: Profile) -> Any:
        """Returns the value in a profile."""
        return self.values[PROFILES.index(profile)]


# dotted path -> (paper, reference, recommended)
CHOICES: Mapping[str, Choice] = {
    "history.visibility": Choice(("all", "all", "strictly-earlier"), (8, 11)),
    "history.max_items": Choice((10, 10, 10), (10,)),
    "slices.warm": Choice(("at-least-3", "more-than-3", "at-least-3"), (28,)),
    "slices.cold": Choice(("rest", "unseen", "rest"), (28,)),
    "prompt.wording": Choice(("paper", "reference", "paper"), (4, 5, 6, 7, 8, 9)),
    "answer.readout": Choice(("yes_logit", "yes_logit", "yes_minus_no"), (1, 3)),
    "tuning.schedule": Choice(("linear-warmup-cosine", "reference-sawtooth", "linear-warmup-cosine"), (39,)),
    "tuning.frozen_lora_dropout": Choice((False, True, False), (45,)),
    "tuning.clip_norm": Choice((None, None, 1.0), (38,)),
    "select.rows": Choice(("full", "half", "full"), (27,)),
}


def section_defaults(section: str, model: type[BaseModel], profile: Profile) -> Iterator[tuple[str, Any]]:
    """Yields the dotted field and value of every row of the table that a section or component kind takes.

    Args:
        section: Section name, which for components is their kind.
        model: Config class of the section.
        profile: Name of the profile.
    """
    for path, choice in CHOICES.items():
        head, _, rest = path.partition(".")
        if head == section and config_field(model, rest):
            yield rest, choice.of(profile)


def component_defaults(component: Component, profile: Profile) -> dict[str, Any]:
    """Returns dotted field -> value for a component: the table's rows, overruled by the component's own."""
    table = dict(section_defaults(component.kind, component.config, profile))
    return table | dict(component.profiles.get(profile, {}))
