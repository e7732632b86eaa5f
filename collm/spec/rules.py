"""Rules that span sections, one named function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from collm.component import Component
from collm.errors import Problem
from collm.registry import Registry
from collm.spec.metric_entries import entry_label
from collm.spec.model import ENCODERS
from collm.spec.node import Node
from collm.spec.sections import EvaluateConfig

_SLOTS = frozenset({"vectors", "llm-tokens", "words"})


@dataclass(frozen=True)
class Draft:
    """A spec whose sections were looked at one by one.

    Attributes:
        root: The document.
        given: Component sections that are written in it.
        components: Those whose name is known.
        evaluate: None where that section has problems.
        registry: What is installed.
    """

    root: Node
    given: frozenset[str]
    components: Mapping[str, Component]
    evaluate: EvaluateConfig | None
    registry: Registry

    def problem(self, section: str, message: str) -> Problem:
        """Returns a problem at a section, or at the document where the section is absent."""
        return self.root.nearest((section,)).where.problem(message, section)

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder, or several."""
        return not self.given.isdisjoint({"encoder", ENCODERS})

    def encoders(self) -> Iterator[tuple[str, Component]]:
        """Yields the dotted path of each encoder whose name is known, and its component."""
        for path, component in self.components.items():
            if component.kind == "encoder":
                yield path, component

    def at_name(self, section: str, message: str) -> Problem:
        """Returns a problem at a section's `name`."""
        return self.root.nearest((*section.split("."), "name")).place.problem(message, f"{section}.name")


Rule = Callable[[Draft], Iterator[Problem]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Adds a function to the rules that every spec is held against."""
    RULES.append(function)
    return function


@rule
def something_recommends(draft: Draft) -> Iterator[Problem]:
    """A spec has an encoder, a backbone, or both."""
    if not draft.given & {"encoder", ENCODERS, "backbone"}:
        message = "a spec needs an `encoder`, a `backbone`, or both; neither is given"
        yield draft.problem("encoder", message)


@rule
def encoders_stand_in_one_place(draft: Draft) -> Iterator[Problem]:
    """One encoder is named in `encoder`, several in `encoders`; several recommend through a language model alone."""
    if ENCODERS not in draft.given:
        return
    if "encoder" in draft.given:
        message = "`encoder` and `encoders` are given: move the one into the other (--set encoder=null removes it)"
        yield draft.problem(ENCODERS, message)
    elif "backbone" not in draft.given:
        message = "several encoders fill the slots of a prompt: add a `backbone`, or give one as `encoder`"
        yield draft.problem(ENCODERS, message)


@rule
def backbone_has_prompt_and_tuning(draft: Draft) -> Iterator[Problem]:
    """A language model needs words and a strategy."""
    if "backbone" not in draft.given:
        return
    for section in ("prompt", "tuning"):
        if section not in draft.given:
            names = draft.registry.names("prompt" if section == "prompt" else "tuning")
            example = f"{section}: {{name: {names[0] if names else '...'}}}"
            message = f"`backbone` is given and `{section}` is missing: add e.g. `{example}` ({', '.join(names)})"
            yield draft.problem(section, message)


@rule
def prompt_and_tuning_have_backbone(draft: Draft) -> Iterator[Problem]:
    """Without a language model nothing reads a prompt and nothing is tuned."""
    if "backbone" in draft.given:
        return
    for section in ("prompt", "tuning"):
        if section in draft.given:
            message = (
                f"`{section}` is given without `backbone`, so nothing would use it: add a backbone, or remove the "
                f"section (--set {section}=null)"
            )
            yield draft.problem(section, message)


@rule
def lists_have_a_prompt(draft: Draft) -> Iterator[Problem]:
    """What a prompt lists beside liked items is for a language model."""
    if "backbone" in draft.given:
        return
    for field, idle in (("include", "liked"), ("ages", False)):
        node = draft.root.find(("history", field))
        if node is not None and node.value != idle:
            message = (
                f"only prompts list {'disliked items' if field == 'include' else 'ages'}, and there is no `backbone`: "
                f"add one, or set history.{field}: {str(idle).lower()}"
            )
            yield node.place.problem(message, f"history.{field}")


@rule
def rated_items_are_listed_whole(draft: Draft) -> Iterator[Problem]:
    """The last rated items are listed whatever their labels, so no list ends before them."""
    rated = draft.root.find(("history", "max_rated"))
    if rated is None or not isinstance(rated.value, int):
        return
    for field in ("max_items", "max_disliked"):
        node = draft.root.find(("history", field))
        # A profile's length is a default.
        if node is None or node.place.origin.startswith("profile") or not isinstance(node.value, int):
            continue
        if node.value < rated.value:
            message = (
                f"got {node.shown()}, with max_rated prompts list the last {rated.value} rated items, which may all be "
                f"{'liked' if field == 'max_items' else 'disliked'}: remove {field}, or set it to {rated.value} or "
                f"more, or set max_rated to {node.value} or less"
            )
            yield node.place.problem(message, f"history.{field}")


@rule
def tuning_has_its_encoder(draft: Draft) -> Iterator[Problem]:
    """A strategy with a collaborative part needs an encoder."""
    tuning = draft.components.get("tuning")
    if tuning is None or "backbone" not in draft.given or draft.has_encoder or "encoder" not in tuning.needs:
        return
    others = ", ".join(c.name for c in draft.registry.components("tuning") if "encoder" not in c.needs)
    message = f"'{tuning.name}' needs an encoder and none is given: add `encoder`, or use a text strategy ({others})"
    yield draft.at_name("tuning", message)


@rule
def text_tuning_has_no_encoder(draft: Draft) -> Iterator[Problem]:
    """A text strategy would ignore the encoder in silence."""
    tuning = draft.components.get("tuning")
    if tuning is None or "backbone" not in draft.given or not draft.has_encoder or "encoder" in tuning.needs:
        return
    others = ", ".join(c.name for c in draft.registry.components("tuning") if "encoder" in c.needs)
    message = (
        f"'{tuning.name}' reads text only and would ignore the encoder: remove `encoder` (--set encoder=null), or use "
        f"a strategy that reads it ({others})"
    )
    yield draft.at_name("tuning", message)


@rule
def encoder_gives_what_is_read(draft: Draft) -> Iterator[Problem]:
    """A prompt takes vectors; an encoder on its own is read through its scores."""
    tuning = draft.components.get("tuning")
    fills_slots = "backbone" in draft.given and tuning is not None and "encoder" in tuning.needs
    for path, encoder in draft.encoders():
        if fills_slots and not encoder.gives & _SLOTS:
            others = [c.name for c in draft.registry.components("encoder") if c.gives & _SLOTS]
            message = (
                f"'{encoder.name}' gives only {_listed(encoder.gives)}, a prompt needs vectors, which these give: "
            )
            yield draft.at_name(path, message + (", ".join(others) or "none"))
        if not draft.given & {"backbone", "prompt", "tuning", ENCODERS} and "scores" not in encoder.gives:
            message = (
                f"'{encoder.name}' gives only {_listed(encoder.gives)} and cannot recommend alone: add a `backbone`"
            )
            yield draft.at_name(path, message)


@rule
def rankings_have_all_rows_of_a_user(draft: Draft) -> Iterator[Problem]:
    """A user's list is measured by all positives of that user, so none may be left out."""
    node = draft.root.find(("dataset", "limit", "user_rows"))
    if node is None or node.value is None or draft.evaluate is None or draft.evaluate.ranking is None:
        return
    message = (
        "leaves out positives that a ranked list would be measured by; remove it, or evaluate.ranking, and limit "
        "rows by whole users (valid, test)"
    )
    yield node.place.problem(message, "dataset.limit.user_rows")


@rule
def nothing_is_evaluated_twice(draft: Draft) -> Iterator[Problem]:
    """A split, slice or metric named twice is a slip of the pen."""
    if draft.evaluate is None:
        return
    for field in ("splits", "slices", "metrics"):
        seen: set[str] = set()
        for index, entry in enumerate(getattr(draft.evaluate, field)):
            name = entry_label(entry)
            if name in seen:
                place = draft.root.nearest(("evaluate", field, index)).place
                yield place.problem(f"'{name}' is given twice", f"evaluate.{field}[{index}]")
            seen.add(name)


@rule
def policy_updates_what_there_is(draft: Draft) -> Iterator[Problem]:
    """A policy of prequential evaluation names parts that the spec has."""
    if draft.evaluate is None or draft.evaluate.protocol == "split":
        return
    policy, has_backbone = draft.evaluate.policy, "backbone" in draft.given
    if "encoder" in policy and not draft.has_encoder:
        message = f"'{policy}' updates the encoder, and the spec has none; choose frozen or all"
    elif policy in ("encoder+mapping", "all") and not has_backbone:
        message = f"'{policy}' updates a language model, and the spec has none; choose frozen or encoder"
    else:
        return
    yield draft.root.nearest(("evaluate", "policy")).place.problem(message, "evaluate.policy")


@rule
def prequential_reads_the_past(draft: Draft) -> Iterator[Problem]:
    """Windows are scored by what lies before them, which `as-of-split` hides."""
    if draft.evaluate is None or draft.evaluate.protocol == "split":
        return
    node = draft.root.nearest(("history", "visibility"))
    if node.value == "as-of-split":
        message = (
            "'as-of-split' shows training rows alone, and prequential evaluation reads what lies before each window; "
            "choose strictly-earlier"
        )
        yield node.place.problem(message, "history.visibility")


def _listed(values: frozenset[str]) -> str:
    return ", ".join(sorted(values))
