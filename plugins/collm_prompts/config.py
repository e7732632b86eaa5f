"""Settings of the prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator, model_validator

from collm.component import added_field
from collm.contracts.prompt import PromptConfig
from collm.prompt.template import template_faults
from collm_prompts.parse import parse_template
from collm_prompts.wordings import PAPER_EMPTY_HISTORY, custom_template

Wording = Literal["paper", "reference", "answers"]


class DomainConfig(PromptConfig):
    """Settings of `movie`, `book`, `game`, `music` and `item`."""

    wording: Wording = Field(
        default="paper",
        description="`paper`: one template, the text-only variant is the same without the collaborative parts; "
        "`reference`: the published files, with their own text-only wording (facts 4-9); `answers`: one list of the "
        "user's rated items with the answer to each, for history.include: both.",
    )


class Prompt4nrConfig(PromptConfig):
    """Settings of `prompt4nr`."""

    noun: Literal["movie", "book", "game", "album", "item"] = Field(
        default="movie", description="What the question calls an item; the published file says movie."
    )


class TallrecConfig(PromptConfig):
    """Settings of `tallrec`."""

    noun: Literal["movie", "book", "game", "album", "item"] = Field(
        default="movie", description="What the question calls an item; the published files say movie and book."
    )


class CustomConfig(PromptConfig):
    """Settings of `custom`."""

    template: str = Field(
        description="The prompt with {history}, {target}, {user} and {item} once each; {history+item} in place of "
        "{history} puts each history item's vector behind its title; under history.include: both also {disliked}, or "
        "{rated} for one list with labels; {context} takes the row's context vector; "
        "{user.NAME} names one of several `encoders`; [[...]] marks what the text-only variant leaves out, slots "
        "included; {{ and }} are braces. It ends where the answer begins."
    )
    text_template: str | None = Field(
        default=None,
        description="The text-only variant, with {history} and {target}; null = `template` without its [[...]] parts.",
    )
    empty_history: str = Field(
        default=PAPER_EMPTY_HISTORY, min_length=1, description="Words in place of an empty history."
    )
    title_join: str = Field(default=", ", description="What comes between history titles.")
    slot_join: str = Field(
        default="",
        max_length=8,
        description="What comes between the tokens of a slot that has several; empty = nothing.",
    )
    quote: str = Field(default='"', max_length=8, description="Mark before and after each title; empty = none.")

    empty_disliked: str = added_field(
        PAPER_EMPTY_HISTORY, min_length=1, description="Words in place of an empty list of disliked items."
    )
    liked_word: str = added_field(
        "liked", min_length=1, max_length=40, description="Words in brackets behind a liked title of {rated}."
    )
    disliked_word: str = added_field(
        "disliked", min_length=1, max_length=40, description="Words in brackets behind a disliked title of {rated}."
    )

    @field_validator("template", "text_template")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        if value is not None:
            parse_template(value)
        return value

    @model_validator(mode="after")
    def _is_sound(self) -> CustomConfig:
        template = custom_template(self.template, self.text_template)
        faults = template_faults(replace(template, liked_word=self.liked_word, disliked_word=self.disliked_word))
        if faults:
            raise ValueError("; ".join(faults))
        return self
