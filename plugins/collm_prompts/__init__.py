"""The paper's prompt in the words of several domains, and `custom` for a user's own words."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_prompts.config import CustomConfig, DomainConfig, Prompt4nrConfig, TallrecConfig
from collm_prompts.wordings import NOUNS


@hookimpl
def register_prompts() -> Sequence[Component]:
    """Returns one prompt per domain, those of Prompt4NR and TALLRec, and the custom one."""
    domains = [
        Component(
            kind="prompt",
            name=name,
            factory="collm_prompts.wordings:build_domain",
            config=DomainConfig,
            summary=f"The paper's question about {plural}.",
        )
        for name, (_, plural) in NOUNS.items()
    ]
    custom = Component(
        kind="prompt",
        name="custom",
        factory="collm_prompts.wordings:build_custom",
        config=CustomConfig,
        summary="Your own words, with {history}, {target}, {user} and {item} where the fields appear.",
    )
    tallrec = Component(
        kind="prompt",
        name="tallrec",
        factory="collm_prompts.wordings:build_tallrec",
        config=TallrecConfig,
        summary="TALLRec's own prompt: preferred and unpreferred items, for history.include: both.",
    )
    prompt4nr = Component(
        kind="prompt",
        name="prompt4nr",
        factory="collm_prompts.wordings:build_prompt4nr",
        config=Prompt4nrConfig,
        summary="The published prompt of Prompt4NR, for the encoder soft-prompt.",
    )
    return [*domains, prompt4nr, tallrec, custom]
