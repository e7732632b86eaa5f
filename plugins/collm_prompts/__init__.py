"""The paper's prompt in the words of several domains, and `custom` for a user's own words."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_prompts.config import CustomConfig, DomainConfig
from collm_prompts.wordings import NOUNS


@hookimpl
def register_prompts() -> Sequence[Component]:
    """Returns one prompt per domain and the custom one."""
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
        summary="Your own words, with {history}, {target}, {user} and {item} where the fields stand.",
    )
    return [*domains, custom]
