"""The words: the paper's template (section 4.1.1), and the files of its published code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from collm.contracts.prompt import PromptTemplate, Segment
from collm_prompts.parse import parse_template

if TYPE_CHECKING:
    from collm_prompts.config import CustomConfig, DomainConfig, Prompt4nrConfig, TallrecConfig

# Component name -> singular, plural. The paper prints "item", its files say "movie" and "book" (fact 6).
NOUNS: Mapping[str, tuple[str, str]] = {
    "movie": ("movie", "movies"),
    "book": ("book", "books"),
    "game": ("game", "games"),
    "music": ("album", "albums"),
    "item": ("item", "items"),
}
PAPER_EMPTY_HISTORY = "none so far"

_LIKED = "#Question: A user has given high ratings to the following {plural}: {{history}}."
_FEATURE = "[[ Additionally, we have information about the user's preferences encoded in the feature {{user}}.]]"
_TARGET = "whether the user would enjoy the {noun} titled {{target}}"
_PREDICT = f" Using all available information, make a prediction about {_TARGET}[[ with the feature {{{{item}}}}]]?"
_ASK = ' Answer with "Yes" or "No".'
PAPER = f"{_LIKED}{_FEATURE}{_PREDICT}{_ASK} #Answer:"
# Fact 5: a backslash and the letter n, which nothing turns into a line break.
_REFERENCE_END = f"{_ASK} \\n#Answer:"
# The published file of Prompt4NR's learnt tokens; "[SEP]" is ordinary text to a language model.
PROMPT4NR = (
    "#Question: [[{{user}}]] {{history}} [SEP] [[{{item}}]] {{target}} [SEP] Using all available information, make "
    f"a prediction about whether the user would enjoy the {{noun}}?{_REFERENCE_END}"
)
# Not the paper's: its question with a sentence on disliked items, for `history.include: both`.
_DISLIKED = " The user has given low ratings to the following {plural}: {{disliked}}."
BOTH = f"{_LIKED}{_DISLIKED}{_FEATURE}{_PREDICT}{_ASK} #Answer:"
# Not the paper's: the earlier questions and their answers in one list, then the same question about the target.
ANSWERS = (
    "#Question: A user was asked which {plural} the user enjoys: {{rated}}."
    "[[ The user's preferences are encoded in the feature {{user}}.]]"
    f" Does the user enjoy the {{noun}} {{{{target}}}}[[ with the feature {{{{item}}}}]]?{_ASK} #Answer:"
)
# TALLRec's files: an instruction and an input in the frame of Alpaca. The feature parts are this package's own.
TALLREC = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nGiven the user's preference and "
    'unpreference, identify whether the user will like the target {noun} by answering "Yes." or "No.".\n\n'
    "### Input:\nUser Preference: {{history}}\nUser Unpreference: {{disliked}}\n[[User Feature: {{user}}\n]]"
    "Whether the user will like the target {noun} {{target}}[[ with the feature {{item}}]]?\n\n### Response:"
)
REFERENCE = f"{_LIKED}{_FEATURE}{_PREDICT}{_REFERENCE_END}"
REFERENCE_TEXT = f"{_LIKED} Leverage the information to predict {_TARGET}?{_REFERENCE_END}"  # fact 6


def build_domain(config: DomainConfig) -> PromptTemplate:
    """Returns the template of a domain in the chosen wording."""
    if config.wording == "answers":
        template = PromptTemplate(hybrid=_segments(ANSWERS, config.name), empty_history=PAPER_EMPTY_HISTORY)
        return replace(template, liked_word=template.positive, disliked_word=template.negative)
    if config.wording == "paper":
        both = PromptTemplate(
            hybrid=_segments(BOTH, config.name),
            empty_history=PAPER_EMPTY_HISTORY,
            empty_disliked=PAPER_EMPTY_HISTORY,
        )
        return replace(both, hybrid=_segments(PAPER, config.name), both=both, empty_disliked="none")
    return PromptTemplate(
        hybrid=_segments(REFERENCE, config.name),
        text=_segments(REFERENCE_TEXT, config.name),
        empty_history="unkow",  # fact 9
        strip_history_titles=False,  # fact 8
    )


def build_prompt4nr(config: Prompt4nrConfig) -> PromptTemplate:
    """Returns the published prompt of Prompt4NR."""
    return PromptTemplate(
        hybrid=parse_template(PROMPT4NR.format(noun=config.noun)),
        empty_history="unkow",
        strip_history_titles=False,
        slot_join=".",
    )


def build_tallrec(config: TallrecConfig) -> PromptTemplate:
    """Returns TALLRec's own prompt; an empty list reads as nothing, as in its files."""
    return PromptTemplate(
        hybrid=parse_template(TALLREC.format(noun=config.noun)),
        empty_history="",
        empty_disliked="",
        strip_history_titles=False,
    )


def build_custom(config: CustomConfig) -> PromptTemplate:
    """Returns the template of a user's own words; the config has checked it."""
    template = custom_template(
        config.template,
        config.text_template,
        empty_history=config.empty_history,
        title_join=config.title_join,
        quote=config.quote,
        slot_join=config.slot_join,
    )
    return replace(
        template,
        empty_disliked=config.empty_disliked,
        liked_word=config.liked_word,
        disliked_word=config.disliked_word,
    )


def custom_template(
    template: str,
    text_template: str | None,
    *,
    empty_history: str = PAPER_EMPTY_HISTORY,
    title_join: str = ", ",
    quote: str = '"',
    slot_join: str = "",
) -> PromptTemplate:
    """Returns the template of a user's own words.

    Raises:
        ValueError: If a template cannot be read.
    """
    return PromptTemplate(
        hybrid=parse_template(template),
        text=None if text_template is None else parse_template(text_template),
        title_open=quote,
        title_close=quote,
        title_join=title_join,
        empty_history=empty_history,
        slot_join=slot_join,
    )


def _segments(template: str, domain: str) -> tuple[Segment, ...]:
    singular, plural = NOUNS[domain]
    return parse_template(template.format(noun=singular, plural=plural))
