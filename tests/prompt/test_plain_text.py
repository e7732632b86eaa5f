"""Prompts written out, and their lengths, against the prompt that the model reads."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot, Variant
from collm.prompt.show import prompt_characters, prompt_text

TITLES = ["", "Heat (1995)", " Alien ", "Line\nbreak", "Up"]
TEMPLATE = PromptTemplate(
    hybrid=(
        Text("Liked: "),
        HistoryTitles(),
        Text(". User ", collaborative=True),
        UserSlot(),
        Text(" meets ", collaborative=True),
        ItemSlot(),
        Text(" Likes "),
        TargetTitle(),
        Text("? Answer:"),
    )
)


def test_words_and_slots() -> None:
    assert prompt_text(TEMPLATE, "hybrid", " Up", ["Heat (1995)", " Alien "]) == (
        'Liked: "Heat (1995)", "Alien". User <user> meets <item> Likes "Up"? Answer:'
    )
    assert prompt_text(TEMPLATE, "text", "Up", []) == 'Liked: none Likes "Up"? Answer:'
    plain = replace(TEMPLATE, quote_target=False, strip_history_titles=False, title_join=";")
    assert (
        prompt_text(plain, "text", "Line\nbreak", [" Alien ", "Up"])
        == 'Liked: " Alien ";"Up" Likes Line break? Answer:'
    )


@pytest.mark.parametrize("variant", get_args(Variant))
def test_lengths_are_those_of_the_text(variant: Variant) -> None:
    generator = np.random.default_rng(0)
    items, histories = generator.integers(1, 5, 60), np.zeros((60, 3), dtype=np.int64)
    for row in range(60):
        n = row % 4
        histories[row, 3 - n :] = generator.integers(1, 5, n)
    for template in (TEMPLATE, replace(TEMPLATE, quote_target=False, strip_history_titles=False, title_join=" | ")):
        texts = [
            prompt_text(template, variant, TITLES[item], [TITLES[each] for each in history if each])
            for item, history in zip(items, histories, strict=True)
        ]
        found = prompt_characters(template, variant, TITLES, items, histories)
        assert found.tolist() == [len(text) for text in texts]
        no_history = prompt_characters(template, variant, TITLES, items, histories[:, :0])
        assert no_history.tolist() == [len(prompt_text(template, variant, TITLES[item], [])) for item in items]
