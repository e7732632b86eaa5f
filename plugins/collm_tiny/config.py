"""Settings of `tiny` and `random-shape`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collm.component import added_field, component_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import LAST_OUT, LAST_OUT_LEAKS, DatasetConfig, LastOutFields
from collm.contracts.model_folder import LLAMA_MODULES


class TinyConfig(BackboneConfig):
    """Settings of `tiny`."""

    hidden_size: int = Field(default=32, ge=8, multiple_of=8, description="Width of the token embeddings.")
    n_layers: int = Field(default=2, ge=1, description="Decoder layers.")
    seed: int = Field(default=0, ge=0, description="Seed of the weights.")

    def modules(self) -> frozenset[str]:
        """Returns the names of a decoder of the Llama kind."""
        return LLAMA_MODULES


class RandomShapeConfig(BackboneConfig):
    """Settings of `random-shape`."""

    architecture: Literal["llama", "qwen2"] = Field(default="llama", description="Model family.")
    hidden_size: int = Field(default=256, ge=8, description="Width of the token embeddings.")
    n_layers: int = Field(default=4, ge=1, description="Decoder layers.")
    n_heads: int = Field(default=4, ge=1, description="Attention heads; divides hidden_size.")
    n_key_value_heads: int = Field(default=4, ge=1, description="Heads of keys and values; divides n_heads.")
    intermediate_size: int = Field(default=512, ge=8, description="Width inside the feed-forward part.")
    vocabulary_size: int = Field(default=1024, ge=512, description="Token embeddings; at least the tokenizer's ids.")
    tied_embeddings: bool = Field(default=False, description="Whether the output head is the token embeddings.")
    max_length: int = Field(default=4096, ge=64, description="Longest sequence, in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of the weights.")
    tokenizer_of: BackboneConfig | None = component_field(
        "backbone",
        None,
        description="Backbone whose tokenizer reads the prompts; its weights are not loaded. null = the tokenizer of "
        "`tiny`, whose prompts are about twice as long as a trained one's.",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> RandomShapeConfig:
        if self.hidden_size % (2 * self.n_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of n_heads {self.n_heads} (rotary positions)"
            )
        if self.n_heads % self.n_key_value_heads:
            raise ValueError(f"n_heads {self.n_heads} must be a multiple of n_key_value_heads {self.n_key_value_heads}")
        return self

    def modules(self) -> frozenset[str]:
        """Returns the names of a decoder of the Llama kind."""
        return LLAMA_MODULES


class TinyDataConfig(LastOutFields, DatasetConfig):
    """Settings of the dataset `tiny`; `path` is not read."""

    n_users: int = Field(default=60, ge=2, description="Users.")
    n_items: int = Field(default=120, ge=2, le=400, description="Items at most; items without a rating are left out.")
    rows_per_user: int = Field(default=40, ge=8, description="Ratings per user; at most one per item.")
    seed: int = Field(default=0, ge=0, description="Seed of the ratings.")
    split: Literal["per-user-time", "leave-last-out"] = added_field(
        "per-user-time",
        description="per-user-time: the first 70% of each user's rows are training, the next 15% validation; "
        "leave-last-out: each user's last `last_rows`.",
    )

    @model_validator(mode="after")
    def _split_reads_its_fields(self) -> TinyDataConfig:
        self.check_last_out(self.split)
        return self

    def warnings(self) -> tuple[str, ...]:
        """Returns how the split leaks, where it does."""
        return (LAST_OUT_LEAKS,) if self.split == LAST_OUT else ()

    @model_validator(mode="after")
    def _enough_items(self) -> TinyDataConfig:
        if self.rows_per_user > self.n_items:
            raise ValueError(f"rows_per_user {self.rows_per_user} must be at most n_items {self.n_items}")
        return self
