"""Prompts in a mapped file: what was put in, two bytes per token where that is enough, and nothing left behind."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.errors import RunError
from collm.prompt import encode
from collm.prompt.encode import PromptEncoder
from collm.prompt.encoded import EncodedPrompts, joined
from collm.testing.fakes import FakeTokenizer


def prompts_of(*sequences: list[int]) -> EncodedPrompts:
    n = len(sequences)
    numbers = np.arange(n, dtype=np.int32)
    return EncodedPrompts(
        ids=np.array([number for ids in sequences for number in ids], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(ids) for ids in sequences])]).astype(np.int64),
        slots={"user": numbers[:, None], "item": numbers[:, None] + 1},
        shared=numbers,
        before_user=numbers,
        n_history_used=numbers,
    )


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.int32)])
def test_parts_become_one(largest: int, dtype: type) -> None:
    parts = [prompts_of([1, 2, 3], [4]), prompts_of([5, largest]), prompts_of(), prompts_of([6, 7])]
    whole = joined(parts)
    assert whole.ids.dtype == dtype
    assert [whole.prompt(row).tolist() for row in range(4)] == [[1, 2, 3], [4], [5, largest], [6, 7]]
    assert whole.slots["user"][:, 0].tolist() == [0, 1, 0, 0]
    assert whole.take(np.array([3, 1])).prompt(0).tolist() == [6, 7]
    with pytest.raises(ValueError, match="read-only"):
        whole.ids[0] = 9


def test_no_prompts() -> None:
    whole = joined([prompts_of()])
    assert len(whole) == 0
    assert whole.ids.tolist() == []


def test_chunks_are_no_part_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = (Text("liked "), HistoryTitles(), Text(" by "), UserSlot(), Text(" New: "), TargetTitle())
    template = PromptTemplate(hybrid=(*segments, Text(" "), ItemSlot(), Text("? A:")), text=(TargetTitle(), Text("?")))
    encoder = PromptEncoder(template, FakeTokenizer(), ["", "Heat", "Up", "Fargo (1996)"], max_tokens=40)
    items = np.array([1, 3, 2, 2, 1])
    histories = np.array([[0, 0, 1], [1, 2, 3], [0, 0, 0], [0, 3, 3], [0, 0, 2]])
    whole = encoder.encode(items, histories, "hybrid")
    monkeypatch.setattr(encode, "ROWS_AT_ONCE", 2)
    cut = encoder.encode(items, histories, "hybrid")
    assert whole.slots.keys() == cut.slots.keys() == {"user", "item"}
    for name, places in whole.slots.items():
        assert np.array_equal(places, cut.slots[name]), name
    for name, value in vars(whole).items():
        if name == "slots":
            continue
        assert np.array_equal(value, getattr(cut, name)), name


def test_the_file_has_no_name_and_a_full_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    whole = joined([prompts_of([1, 2, 3])])
    assert list(tmp_path.iterdir()) == []
    gc.collect()
    assert whole.ids.tolist() == [1, 2, 3]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(RunError, match=r"missing: cannot take 12 bytes of prompts .* let TMPDIR name another folder"):
        joined([prompts_of([1, 2, 3])])
