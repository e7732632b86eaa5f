"""Learnt tokens in the language model's own embedding space: they enter the slots without a mapping."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_tokens.config import AttributeTokensConfig, IdTokensConfig, SoftPromptConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the UI-token ablation, the soft prompt of Prompt4NR, and tokens of attributes."""
    tokens = frozenset({"llm-tokens"})
    return [
        Component(
            kind="encoder",
            name="id-tokens",
            factory="collm_tokens.encoder:build_id_tokens",
            config=IdTokensConfig,
            summary="Learnt token embeddings per user and per item (the paper's w/ UI-token), no mapping, no fit.",
            gives=tokens,
        ),
        Component(
            kind="encoder",
            name="soft-prompt",
            factory="collm_tokens.encoder:build_soft_prompt",
            config=SoftPromptConfig,
            summary="Learnt tokens shared by all users and by all items (Prompt4NR), no mapping, no fit.",
            gives=tokens,
        ),
        Component(
            kind="encoder",
            name="attribute-tokens",
            factory="collm_tokens.encoder:build_attribute_tokens",
            config=AttributeTokensConfig,
            summary="Learnt tokens of categories such as genre or gender, beside another encoder (`encoders`).",
            needs=frozenset({"attributes"}),
            gives=tokens,
        ),
    ]
