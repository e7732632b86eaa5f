"""Settings of the learnt tokens. Step size and decay are the tuning strategy's (group `projector`)."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.encoder import EncoderConfig


class IdTokensConfig(EncoderConfig):
    """Settings of `id-tokens`."""

    n_tokens: int = Field(default=1, ge=1, description="Tokens per user and per item.")
    hidden_size: int | None = Field(
        default=None, ge=1, description="Width of a token embedding; null = the width of the backbone it is used with."
    )


class SoftPromptConfig(EncoderConfig):
    """Settings of `soft-prompt`."""

    n_tokens: int = Field(default=3, ge=1, description="Shared tokens in the user slot, and as many in the item slot.")
    hidden_size: int | None = Field(
        default=None, ge=1, description="Width of a token embedding; null = the width of the backbone it is used with."
    )
