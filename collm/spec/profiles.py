"""The profiles: every choice that decides numbers, as the paper, its published code, and this project make it.

A row is used only where the user gave nothing and the section's or component's config class has that field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel

from collm.component import Component
from collm.contracts.component_check import config_field
from collm.spec.model import Profile

PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True)
class Case:
    """A value of the published code for some specs only.

    Attributes:
        value: The value.
        names: Section -> name of its component; all must be the spec's.
    """

    value: Any
    names: Mapping[str, str]

    def fits(self, names: Mapping[str, str]) -> bool:
        """Whether a spec's components are those of the case."""
        return all(names.get(section) == name for section, name in self.names.items())


@dataclass(frozen=True)
class Choice:
    """One choice that decides numbers.

    Attributes:
        values: Its value in each profile, in the order of `PROFILES`.
        facts: Numbers of the reference facts that describe it; empty where the paper says it.
        reference: What the published code has for some datasets, encoders or backbones; the last that fits counts.
        stated: Whether the paper or its code's shipped files decide it, so that another value departs from them. What
            only the loop around the training needs (steps, patience) is not a departure.
    """

    values: tuple[Any, Any, Any]
    facts: tuple[int, ...] = ()
    reference: tuple[Case, ...] = field(default=())
    stated: bool = True

    def of(self, profile: Profile, names: Mapping[str, str] | None = None) -> Any:
        """Returns the value in a profile.

        Args:
            profile: The profile.
            names: Section -> name of the spec's component.
        """
        if profile == "reference":
            for case in reversed(self.reference):
                if case.fits(names or {}):
                    return case.value
        return self.values[PROFILES.index(profile)]


def _same(value: Any, *reference: Case) -> Choice:
    """A number that all profiles share but for cases of the published code."""
    return Choice((value, value, value), (42,), reference, stated=False)


_BOOK = {"dataset": "amazon-book"}
_QWEN = {"backbone": "qwen2-1.5b"}
_TEXT_RATE = _same(1e-3, Case(1e-4, _BOOK), Case(1e-4, _QWEN))
_SECOND_RATE = _same(
    1e-3,
    Case(1e-2, _BOOK),
    Case(1e-2, _QWEN),
    Case(1e-4, {**_BOOK, "encoder": "sasrec"}),
    Case(1e-2, {"encoder": "id-tokens"}),
    Case(1e-4, {**_BOOK, "encoder": "id-tokens"}),
    Case(1e-4, {"encoder": "soft-prompt"}),
    Case(1e-2, {**_BOOK, "encoder": "soft-prompt"}),
)
# The loop of one tuning step. An epoch of the published code is 50 steps (100 on Amazon-Book), it validates after each,
# and stops after the 21st without a better value.
_STEP: Mapping[str, Choice] = {
    "warmup_steps": Choice((20, 200, 20), (39,), stated=False),
    "epoch_steps": Choice((None, 50, None), (40,), (Case(100, _BOOK),), stated=False),
    "epochs": Choice((3, 200, 3), (40,), stated=False),
    "validations_per_epoch": Choice((4, 1, 4), (40,), stated=False),
    "patience": Choice((5, 21, 5), (41,), stated=False),
}

# dotted path -> (paper, reference, recommended)
CHOICES: Mapping[str, Choice] = {
    "history.visibility": Choice(("all", "all", "strictly-earlier"), (8, 11)),
    "history.max_items": Choice((10, 10, 10), (10,)),
    "slices.warm": Choice(("at-least-3", "more-than-3", "at-least-3"), (28,)),
    "slices.cold": Choice(("rest", "unseen", "rest"), (28,)),
    "prompt.wording": Choice(("paper", "reference", "paper"), (4, 5, 6, 7, 8, 9)),
    "prompt.leading_space": Choice((False, True, False), (4,), stated=False),
    "answer.readout": Choice(("yes_logit", "yes_logit", "yes_minus_no"), (1, 3)),
    "mapping.init": Choice(("torch-default", "torch-default", "token-norm"), (15,)),
    "mapping.standardise": Choice((False, False, True), (15,)),
    "mapping.width_factor": Choice((10, 10, 10), (15,), (Case(15, {**_BOOK, "encoder": "sasrec"}),)),
    "mapping.tokens": Choice((1, 1, 1), (13,)),
    "tuning.batch_size": Choice((32, 32, 32), (40,), (Case(16, _BOOK),), stated=False),
    "tuning.schedule": Choice(("linear-warmup-cosine", "reference-sawtooth", "linear-warmup-cosine"), (39,)),
    "tuning.warmup_start": Choice((1e-5, 1e-5, 1e-5), (39,), stated=False),
    "tuning.min_learning_rate": Choice((8e-5, 8e-5, 8e-5), (39, 42), stated=False),
    "tuning.frozen_lora_dropout": Choice((False, True, False), (45,)),
    "tuning.clip_norm": Choice((None, None, 1.0), (38,)),
    **{f"tuning.{step}.{name}": choice for step in ("text", "collaborative") for name, choice in _STEP.items()},
    "tuning.text.learning_rate": _TEXT_RATE,
    "tuning.collaborative.learning_rate": _SECOND_RATE,
    # One rate for all groups of a step.
    "tuning.encoder.learning_rate": _SECOND_RATE,
    "select.rows": Choice(
        ("full", "half", "full"),
        (27,),
        (Case("quarter", _BOOK), Case("published", {"dataset": "collm-released"})),
    ),
}


def section_defaults(
    section: str, model: type[BaseModel], profile: Profile, names: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """Yields the dotted field and value of every row of the table that a section or component kind takes.

    Args:
        section: Section name, which for components is their kind.
        model: Config class of the section.
        profile: Name of the profile.
        names: Section -> name of the spec's component.
    """
    for path, choice in CHOICES.items():
        head, _, rest = path.partition(".")
        if head == section and config_field(model, rest):
            yield rest, choice.of(profile, names)


def component_defaults(component: Component, profile: Profile, names: Mapping[str, str]) -> dict[str, Any]:
    """Returns dotted field -> value for a component: the table's rows, overruled by the component's own.

    Args:
        component: The component.
        profile: Name of the profile.
        names: Section -> name of the spec's component; the component's own profile may depend on the dataset.
    """
    table = dict(section_defaults(component.kind, component.config, profile, names))
    of_dataset = component.dataset_profiles.get(names.get("dataset", ""), {})
    return table | dict(component.profiles.get(profile, {})) | dict(of_dataset.get(profile, {}))
