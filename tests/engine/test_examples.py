"""Examples of in-context learning: which rows they are about, and what appears in the prompt."""

from __future__ import annotations

import numpy as np
import pytest

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.data.prepared import Rows
from collm.engine.device import derive_seed
from collm.engine.examples import draw_examples, examples_preamble
from collm.engine.prompt_lists import PromptLists
from collm.errors import DataError
from collm.prompt.encode import PromptEncoder
from collm.spec.sections import HistoryConfig
from collm.testing.fakes import FakeTokenizer

TEMPLATE = PromptTemplate(
    hybrid=(
        Text("Liked: "),
        HistoryTitles(),
        UserSlot(),
        Text(". Like "),
        TargetTitle(),
        ItemSlot(),
        Text("? Answer:"),
    )
)
TITLES = ["", "Heat", "Alien", "Up", "Brazil"]


def rows(n: int = 40) -> Rows:
    at = np.arange(n)
    label = ((at // 3) % 2).astype(np.int8)
    return Rows(at % 10 + 1, at % 4 + 1, label, at, at, at)


class Data:
    def rows(self, split: str) -> Rows:
        assert split == "train"
        return rows()

    def history(self, chosen: Rows, max_items: int) -> np.ndarray:
        return np.tile(np.array([[0, 3]]), (len(chosen), 1))[:, -max_items:]


@pytest.mark.parametrize(("n", "liked"), [(1, 1), (4, 2), (7, 4)])
def test_half_are_liked_and_users_differ(n, liked):
    drawn = draw_examples(rows(), n, seed=3)
    assert (len(drawn), int(drawn.label.sum())) == (n, liked)
    assert len(set(drawn.user)) == n
    assert np.array_equal(draw_examples(rows(), n, seed=3).row, drawn.row)
    assert not np.array_equal(draw_examples(rows(), 7, seed=4).row, draw_examples(rows(), 7, seed=3).row)


def test_too_few_users_are_refused():
    with pytest.raises(DataError, match=r"tuning\.examples: 12 wanted, but .* give 1?\d at most"):
        draw_examples(rows(), 12, seed=0)


LISTS = PromptLists(HistoryConfig(max_items=2))


def preamble(n: int) -> tuple[FakeTokenizer, list[int]]:
    tokenizer = FakeTokenizer(4096)
    encoder = PromptEncoder(TEMPLATE, tokenizer, TITLES, max_tokens=500)
    return tokenizer, examples_preamble(Data(), encoder, tokenizer, n=n, lists=LISTS, seed=0)


def test_each_is_a_whole_prompt_with_its_answer():
    tokenizer, ids = preamble(3)
    drawn = draw_examples(rows(), 3, derive_seed(0, "examples"))
    text = tokenizer.decode(ids)
    for item, label in zip(drawn.item, drawn.label, strict=True):
        answer = tokenizer.answer.positive_word if label else tokenizer.answer.negative_word
        assert f'Like "{TITLES[item]}"? Answer:{answer}\n\n' in text
    assert text.count("Liked:") == 3


def test_they_stand_between_the_beginning_and_the_question():
    tokenizer, ids = preamble(2)
    items, histories = np.array([1, 2]), np.array([[0, 4], [4, 3]])
    plain = PromptEncoder(TEMPLATE, tokenizer, TITLES, max_tokens=500).encode(items, histories, "text")
    shown = PromptEncoder(TEMPLATE, tokenizer, TITLES, max_tokens=500, preamble=ids).encode(items, histories, "text")
    n = len(tokenizer.bos_ids)
    for row in range(2):
        expected = [*plain.prompt(row)[:n], *ids, *plain.prompt(row)[n:]]
        assert shown.prompt(row).tolist() == expected
    assert (shown.shared - plain.shared == len(ids)).all()


def test_none_give_nothing():
    assert preamble(0)[1] == []
