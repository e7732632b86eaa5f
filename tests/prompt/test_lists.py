"""Prompts with liked and disliked titles: words, order, ages, and which titles leave where not all fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from collm.contracts.prompt import (
    DislikedTitles,
    HistoryTitles,
    ItemSlot,
    PromptTemplate,
    RatedTitles,
    TargetTitle,
    Text,
    UserSlot,
)
from collm.errors import QuestionTooLong
from collm.prompt.encode import PromptEncoder
from collm.prompt.lists import AGES, TitleLists, age_buckets
from collm.prompt.show import ShownTitle, describe_prompt, prompt_characters, prompt_text, shown_titles
from collm.prompt.template import include_fault, template_faults
from collm.testing.fakes import FakeTokenizer

END = (Text(" Taste ", collaborative=True), UserSlot(), Text(". New: "), TargetTitle(), ItemSlot(), Text("? #Answer:"))
TWO = PromptTemplate(
    hybrid=(Text("Liked "), HistoryTitles(), Text(". Disliked: "), DislikedTitles(), Text("."), *END),
    empty_history="none so far",
    empty_disliked="nothing",
)
ONE = PromptTemplate(hybrid=(Text("Rated "), RatedTitles(), Text("."), *END), empty_history="none so far")
TITLES = ["", "Heat (1995)", "Alien, The", "Fargo", "A much longer title (1960)", "Up", 'The "M"', "Big  Gap"]
DAY = 86_400
# It numbers words as they come: one for all, so that ids can be compared.
TOKENIZER = FakeTokenizer(4096)


def random_lists(seed: int, n: int = 60, width: int = 6, *, aged: bool = False) -> TitleLists:
    generator = np.random.default_rng(seed)
    items = generator.integers(1, len(TITLES), (n, width))
    items[np.arange(width) < generator.integers(0, width + 1, n)[:, None]] = 0
    liked = (generator.random((n, width)) < 0.5) & (items != 0)
    age = np.where(items != 0, generator.integers(0, len(AGES), (n, width)), 0) if aged else None
    return TitleLists(items, liked, age)


def encoder(template: PromptTemplate, max_tokens: int = 1000) -> PromptEncoder:
    return PromptEncoder(template, TOKENIZER, TITLES, max_tokens=max_tokens)


def written(template: PromptTemplate, lists: TitleLists, row: int, target: int) -> str:
    """A prompt's text word by word, apart from the code under test."""
    said: dict[str, list[str]] = {"liked": [], "disliked": [], "rated": []}
    for at, item in enumerate(lists.items[row]):
        if not item:
            continue
        is_liked = lists.liked is None or bool(lists.liked[row, at])
        age = [] if lists.age is None else [AGES[lists.age[row, at]]]
        title, label = f'"{TITLES[item]}"', "liked" if is_liked else "disliked"
        said[label].append(title + (f" ({age[0]})" if age else ""))
        said["rated"].append(f"{title} ({', '.join([getattr(template, f'{label}_word'), *age])})")
    text = ""
    for segment in template.segments("text"):
        match segment:
            case Text(text=words):
                text += words
            case TargetTitle():
                text += f'"{TITLES[target]}"'
            case DislikedTitles():
                text += ", ".join(said["disliked"]) or template.empty_disliked
            case HistoryTitles():
                text += ", ".join(said["liked"]) or template.empty_history
            case RatedTitles():
                text += ", ".join(said["rated"]) or template.empty_history
    return text


@pytest.mark.parametrize("template", [TWO, ONE, replace(ONE, liked_word="+", disliked_word="did not like")])
@pytest.mark.parametrize("aged", [False, True])
def test_prompts_read_as_written_and_tokens_are_those_of_the_whole_text(template: PromptTemplate, aged: bool) -> None:
    own, lists = encoder(template), random_lists(1, aged=aged)
    items = np.random.default_rng(3).integers(1, len(TITLES) - 1, len(lists))
    prompts = own.encode(items, lists, "text")
    lengths = prompt_characters(template, "text", TITLES, items, lists)
    for row in range(len(lists)):
        text = written(template, lists, row, int(items[row]))
        assert describe_prompt(prompts, row, own.tokenizer)["text"] == f"<s>{text}"
        assert prompts.prompt(row).tolist() == [*own.tokenizer.bos_ids, *own.tokenizer.encode(text)]
        past = shown_titles(lists, row, TITLES)
        assert prompt_text(template, "text", TITLES[items[row]], past) == text
        assert lengths[row] == len(text)
    assert (prompts.n_history_used == (lists.items != 0).sum(axis=1)).all()


@pytest.mark.parametrize("template", [TWO, ONE])
@pytest.mark.parametrize("variant", ["text", "hybrid"])
@pytest.mark.parametrize("room", [0, 1, 4, 9, 15, 30])
def test_the_title_that_was_rated_first_leaves_first_whichever_list_it_is_in(
    template: PromptTemplate, variant: Any, room: int
) -> None:
    lists = random_lists(2, aged=room % 2 == 1)
    items = np.full(len(lists), 3)
    nothing = encoder(template).encode(items[:1], np.zeros((1, 0), dtype=np.int64), variant)
    most = int(nothing.lengths[0]) + room
    found = encoder(template, most).encode(items, lists, variant)
    whole = encoder(template)
    for row in range(len(lists)):
        n = int((lists.items[row] != 0).sum())
        # The longest end of the one order that fits.
        for kept in range(n, -1, -1):
            left = lists.rows(slice(row, row + 1))
            cut = replace(left, items=np.where(np.arange(6) < 6 - kept, 0, left.items))
            prompt = whole.encode(items[:1], cut, variant)
            if prompt.lengths[0] <= most:
                break
        assert found.n_history_used[row] == kept
        assert found.prompt(row).tolist() == prompt.prompt(0).tolist()
    with pytest.raises(QuestionTooLong):
        encoder(template, int(nothing.lengths[0]) - 1).encode(items, lists, variant)


def test_ages_in_buckets() -> None:
    seconds = np.array([-5, 0, DAY - 1, DAY, 2 * DAY, 7 * DAY - 1, 7 * DAY, 29 * DAY, 30 * DAY, 59 * DAY, 60 * DAY])
    said = [AGES[place] for place in age_buckets(seconds)]
    assert said == [
        *("today", "today", "today", "1 day ago", "2 days ago", "6 days ago", "1 week ago", "4 weeks ago"),
        *("1 month ago", "1 month ago", "2 months ago"),
    ]
    later = np.array([364, 365, 730, 3649, 3650, 40_000]) * DAY
    assert [AGES[place] for place in age_buckets(later)] == [
        *("11 months ago", "1 year ago", "2 years ago", "9 years ago", "10 or more years ago", "10 or more years ago"),
    ]
    every = age_buckets(np.arange(0, 4000 * DAY, DAY // 2))
    assert (np.diff(every) >= 0).all()
    assert set(every.tolist()) == set(range(len(AGES)))


def test_liked_titles_alone_read_as_ever() -> None:
    histories = np.array([[0, 1, 2], [0, 0, 0]])
    for template in (TWO, PromptTemplate(hybrid=(Text("Liked "), HistoryTitles(), Text("."), *END))):
        plain, lists = (
            encoder(template).encode(np.array([3, 4]), each, "text") for each in (histories, TitleLists(histories))
        )
        assert plain.ids.tolist() == lists.ids.tolist()
    assert (
        ". Disliked: nothing."
        in describe_prompt(encoder(TWO).encode(np.array([3]), histories[:1], "text"), 0, TOKENIZER)["text"]
    )


@pytest.mark.parametrize(
    ("template", "include", "fault"),
    [
        (TWO, "both", ""),
        (ONE, "both", ""),
        (TWO, "liked", "set history.include: both"),
        (ONE, "liked", "set history.include: both"),
        (PromptTemplate(hybrid=(HistoryTitles(), *END)), "liked", ""),
        (
            PromptTemplate(hybrid=(HistoryTitles(), *END)),
            "both",
            "no place for liked and disliked items in its text and",
        ),
        (PromptTemplate(hybrid=(DislikedTitles(), *END)), "both", "in its text and hybrid variant"),
        (replace(TWO, text=(HistoryTitles(), *END)), "both", "in its text variant"),
    ],
)
def test_templates_fit_what_is_included(template: PromptTemplate, include: Any, fault: str) -> None:
    found = include_fault(template, include)
    assert fault in found
    assert bool(found) == bool(fault)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (replace(TWO, hybrid=(DislikedTitles(), *TWO.hybrid)), "takes one list of disliked titles at most, got 2"),
        (replace(ONE, hybrid=(HistoryTitles(), *ONE.hybrid)), "has a list of rated titles, which holds the liked and"),
        (
            replace(ONE, liked_word=" yes"),
            "liked_word must be words on one line without spaces around them, got ' yes'",
        ),
        (replace(ONE, disliked_word=""), "disliked_word must be words"),
        (
            replace(TWO, both=replace(ONE, positive="No")),
            "under history.include: both, the two answer words must differ",
        ),
    ],
)
def test_faults_of_lists_are_named(template: PromptTemplate, fault: str) -> None:
    assert any(fault in each for each in template_faults(template))


def test_a_title_alone_is_a_liked_one() -> None:
    text = prompt_text(TWO, "hybrid", "Up", ["Heat (1995)", ShownTitle("Fargo", liked=False, age="today")])
    assert text == 'Liked "Heat (1995)". Disliked: "Fargo" (today). Taste <user>. New: "Up"<item>? #Answer:'
