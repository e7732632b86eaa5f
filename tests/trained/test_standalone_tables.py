"""Texts in an export's tables are those that the prompts of a run hold."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collm.contracts.encoder import of_encoder
from collm.contracts.prompt import HistoryTitles, PromptTemplate, TargetTitle, Text
from collm.trained.model import TrainedModel
from collm.trained.standalone import write_tables


def words(name: str) -> Any:
    traits = SimpleNamespace(words=lambda side, ids: [f" {name}\t{side} {each} " for each in ids])
    return SimpleNamespace(gives_words=True, traits=lambda: traits)


@pytest.mark.parametrize("encoder", ["", "history", "user", "in_history"])
def test_words_are_cleaned_and_named_as_their_slots(tmp_path: Path, encoder: str) -> None:
    template = PromptTemplate(hybrid=(HistoryTitles(), Text(" "), TargetTitle()))
    data = SimpleNamespace(user_ids=["", "u"], item_ids=["", "i", "j"], titles=["", " A\nB ", "C"], n_items=2)
    language = SimpleNamespace(setup=SimpleNamespace(template=template), encoders={encoder: words("w")})
    write_tables(cast(TrainedModel, SimpleNamespace(language=language, data=data)), tmp_path)
    users, items = (
        list(csv.DictReader((tmp_path / f"{side}s.csv").open(encoding="utf-8", newline="")))
        for side in ("user", "item")
    )
    assert [row[of_encoder("user", encoder)] for row in users] == ["w user 0", "w user 1"]
    assert items[1] == {
        "id": "i",
        "title": "A B",
        "target": '"A B"',
        "in_history": '"A B"',
        of_encoder("item", encoder): "w item 1",
    }
