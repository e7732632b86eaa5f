"""Wordings with disliked items: the paper's words extended, TALLRec's own, and a user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_folders import write_llama, write_qwen2
from pydantic import ValidationError
from transformers import AutoTokenizer

from collm.contracts.prompt import DislikedItems, DislikedTitles, PromptTemplate, RatedItems, RatedTitles
from collm.model.hf_tokenizer import HfTokenizer
from collm.prompt.encode import PromptEncoder
from collm.prompt.lists import TitleLists
from collm.prompt.show import ShownTitle, prompt_text, shown_titles
from collm.prompt.template import check_template, include_fault
from collm.registry import default_registry
from collm_prompts.config import CustomConfig
from collm_prompts.parse import parse_template
from collm_prompts.wordings import NOUNS, build_custom

PAST = [ShownTitle("Heat (1995)"), ShownTitle("Jaws (1975)", liked=False), ShownTitle("Alien (1979)", age="today")]


def built(name: str, **settings: str) -> PromptTemplate:
    component = default_registry().get("prompt", name)
    template = component.load_factory()(component.config(name=name, **settings))
    check_template(template)
    return template


def test_the_papers_words_with_a_sentence_on_dislikes() -> None:
    template = built("movie").under("both")
    assert prompt_text(template, "hybrid", "Fargo (1996)", PAST[:2]) == (
        '#Question: A user has given high ratings to the following movies: "Heat (1995)". The user has given low '
        'ratings to the following movies: "Jaws (1975)". Additionally, we have information about the user\'s '
        "preferences encoded in the feature <user>. Using all available information, make a prediction about whether "
        "the user would enjoy "
        'the movie titled "Fargo (1996)" with the feature <item>? Answer with "Yes" or "No". #Answer:'
    )
    assert prompt_text(template, "text", "Fargo (1996)", []) == (
        "#Question: A user has given high ratings to the following movies: none so far. The user has given low ratings "
        "to the following movies: none so far. Using all available information, make a prediction about whether the "
        'user would enjoy the movie titled "Fargo (1996)"? Answer with "Yes" or "No". #Answer:'
    )


@pytest.mark.parametrize("name", NOUNS)
def test_every_domain_has_the_wording_and_keeps_its_own(name: str) -> None:
    template = built(name)
    assert include_fault(template.under("both"), "both") == ""
    assert include_fault(template.under("liked"), "liked") == ""
    assert template.under("liked") is template
    both, plain = (prompt_text(template.under(each), "text", "X", PAST[:2]) for each in ("both", "liked"))
    added = f' The user has given low ratings to the following {NOUNS[name][1]}: "Jaws (1975)".'
    assert both == plain.replace('"Heat (1995)".', f'"Heat (1995)".{added}')
    assert "wording: paper" in include_fault(built(name, wording="reference").under("both"), "both")


def test_tallrec_asks_in_its_own_words() -> None:
    template = built("tallrec")
    # The instruction and input of its files, in Alpaca's frame.
    assert prompt_text(template, "text", "Fargo (1996)", PAST[:2] + PAST[2:]) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n"
        "### Instruction:\nGiven the user's preference and unpreference, identify whether the user will like the "
        'target movie by answering "Yes." or "No.".\n\n'
        '### Input:\nUser Preference: "Heat (1995)", "Alien (1979)" (today)\nUser Unpreference: "Jaws (1975)"\n'
        'Whether the user will like the target movie "Fargo (1996)"?\n\n### Response:'
    )
    assert "\nUser Feature: <user>\nWhether the user will like the target book " in prompt_text(
        built("tallrec", noun="book"), "hybrid", "X", []
    )
    assert "Preference: \nUser Unpreference: \nWhether" in prompt_text(template, "text", "X", [])
    assert "set history.include: both" in include_fault(template.under("liked"), "liked")


@pytest.mark.parametrize("name", NOUNS)
def test_earlier_questions_with_their_answers(name: str) -> None:
    template, (singular, plural) = built(name, wording="answers"), NOUNS[name]
    assert prompt_text(template, "hybrid", "Fargo (1996)", PAST) == (
        f'#Question: A user was asked which {plural} the user enjoys: "Heat (1995)" (Yes), "Jaws (1975)" (No), '
        '"Alien (1979)" (Yes, today). The user\'s preferences are encoded in the feature <user>. Does the user enjoy '
        f'the {singular} "Fargo (1996)" with the feature <item>? Answer with "Yes" or "No". #Answer:'
    )
    assert prompt_text(template, "text", "Fargo (1996)", []) == (
        f"#Question: A user was asked which {plural} the user enjoys: none so far. Does the user enjoy the {singular} "
        '"Fargo (1996)"? Answer with "Yes" or "No". #Answer:'
    )
    assert (template.liked_word, template.disliked_word) == (template.positive, template.negative)
    assert include_fault(template.under("both"), "both") == ""
    assert "set history.include: both" in include_fault(template.under("liked"), "liked")


@pytest.mark.parametrize("write", [write_llama, write_qwen2])
@pytest.mark.parametrize("name", ["movie", "tallrec", "custom"])
def test_ids_are_those_of_the_whole_text(write: object, name: str, tmp_path: Path) -> None:
    tokenizer = HfTokenizer(AutoTokenizer.from_pretrained(write(tmp_path)))  # type: ignore[operator]
    words = {"template": "Rated: {rated}.[[ {user}.]] New: {target}[[ {item}]]? A:"} if name == "custom" else {}
    template = built(name, **words).under("both")
    titles = ["", "Heat (1995)", "Alien, The", "Ümlaut: 映", "Jaws"]
    encoder = PromptEncoder(template, tokenizer, titles, max_tokens=2000)
    generator = np.random.default_rng(0)
    items = generator.integers(1, 5, (40, 4))
    items[np.arange(4) < generator.integers(0, 5, 40)[:, None]] = 0
    age = np.where(items != 0, generator.integers(0, 32, items.shape), 0)
    for lists in (TitleLists(items, (items % 2 == 1)), TitleLists(items, (items % 2 == 1), age)):
        prompts = encoder.encode(np.full(40, 4), lists, "text")
        for row in range(40):
            text = prompt_text(template, "text", titles[4], shown_titles(lists, row, titles))
            assert prompts.prompt(row).tolist() == [*tokenizer.bos_ids, *tokenizer.encode(text)]


def test_words_of_a_users_own() -> None:
    config = CustomConfig(
        name="custom",
        template="Rated {rated}.[[ {user}]] New {target}[[ {item}]]? A:",
        liked_word="loved",
        disliked_word="could not stand",
        quote="",
        title_join="; ",
    )
    assert prompt_text(build_custom(config), "text", "X", PAST) == (
        "Rated Heat (1995) (loved); Jaws (1975) (could not stand); Alien (1979) (loved, today). New X? A:"
    )
    two = CustomConfig(
        name="custom", template="{history} / {disliked}[[ {user}]] {target}[[ {item}]]? A:", empty_disliked="no dislike"
    )
    assert prompt_text(build_custom(two), "text", "X", PAST[:1]) == '"Heat (1995)" / no dislike "X"? A:'


def test_fields_of_disliked_items() -> None:
    assert parse_template("{disliked} {disliked+item} {disliked+item.cf} {rated+item.cf} {rated}")[::2] == (
        DislikedTitles(),
        DislikedItems(collaborative=False),
        DislikedItems(collaborative=False, encoder="cf"),
        RatedItems(collaborative=False, encoder="cf"),
        RatedTitles(),
    )
    assert DislikedItems(encoder="cf").field == "disliked+item.cf"
    assert RatedItems().field == "rated+item"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{dislikes} {target}?"}, r"unknown field '\{dislikes\}'; did you mean '\{disliked\}'\?"),
        ({"template": "{disliked.cf} {target}?"}, r"titles have no encoder, write '\{disliked\}'"),
        ({"template": "{rated} {disliked} [[{user} {item}]] {target}?"}, "has a list of rated titles, which holds"),
        (
            {"template": "{rated} [[{user} {item}]] {target}?", "liked_word": " x"},
            "liked_word must be words on one line",
        ),
    ],
)
def test_mistakes_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CustomConfig(name="custom", **settings)
