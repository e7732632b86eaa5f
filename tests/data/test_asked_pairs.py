"""Questions that are scored together keep their own extra titles."""

from __future__ import annotations

import numpy as np

from collm.data.pairs import AskedPairs, joined_pairs


def asked(users: list[int], items: list[int], titles: tuple[str, ...] = ()) -> AskedPairs:
    return AskedPairs(np.array(users), np.array(items), np.arange(len(users)), titles)


def test_each_question_keeps_its_titles() -> None:
    questions = [asked([1, 2], [5, 6], ("a",)), asked([3], [0]), asked([4, 4, 5], [7, 2, 6], ("b", "c"))]
    together = joined_pairs(questions, n_items=5)
    assert together.user.tolist() == [1, 2, 3, 4, 4, 5]
    assert together.moment.tolist() == [0, 1, 0, 0, 1, 2]
    named = [together.extra_titles[item - 6] if item > 5 else item for item in together.item.tolist()]
    assert named == [5, "a", 0, "c", 2, "b"]


def test_one_question_stays_as_it_is() -> None:
    question = asked([1, 0], [6, 3], ("x",))
    together = joined_pairs([question], n_items=5)
    assert together.item.tolist() == [6, 3]
    assert together.extra_titles == ("x",)
