"""Settings of the learnt tokens. Step size and decay are the tuning strategy's (group `projector`)."""

from __future__ import annotations

from pydantic import Field, model_validator

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


class AttributeTokensConfig(EncoderConfig):
    """Settings of `attribute-tokens`."""

    user: str | None = Field(default=None, description="Attribute of users, e.g. gender; null = no tokens for users.")
    item: str | None = Field(default=None, description="Attribute of items, e.g. genres; null = no tokens for items.")
    n_tokens: int = Field(default=1, ge=1, description="Tokens per value.")
    hidden_size: int | None = Field(
        default=None, ge=1, description="Width of a token embedding; null = the width of the backbone it is used with."
    )

    @model_validator(mode="after")
    def _names_one(self) -> AttributeTokensConfig:
        if self.user is None and self.item is None:
            raise ValueError("name an attribute of users (`user`), of items (`item`), or both")
        return self
