"""What `collm prompt` shows."""

from __future__ import annotations

import json

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.show import show_prompts
from collm.testing.fakes import FakeTokenizer

TEMPLATE = PromptTemplate(
    hybrid=(
        Text("Liked "),
        HistoryTitles(),
        Text(", taste ", collaborative=True),
        UserSlot(),
        Text(". New "),
        TargetTitle(),
        Text(" ", collaborative=True),
        ItemSlot(),
        Text("? A:"),
    )
)


def test_both_variants_with_slots_and_tokens() -> None:
    encoder = PromptEncoder(
        TEMPLATE,
        FakeTokenizer(bos=False),
        ["", "Heat", "Up"],
        fills={"user": SlotFill(2), "item": SlotFill(1)},
        max_tokens=100,
    )
    shown = show_prompts(encoder, 2, [0, 1])
    assert json.loads(json.dumps(shown)) == shown
    hybrid, text = shown["hybrid"], shown["text"]
    assert hybrid["text"] == 'Liked "Heat", taste <user><user>. New "Up"<item>? A:'
    assert text["text"] == 'Liked "Heat". New "Up"? A:'
    assert hybrid["n_tokens"] == len(hybrid["tokens"])
    assert [hybrid["tokens"][at][1] for at in hybrid["slots"]["user"]] == ["<user>", "<user>"]
    assert [hybrid["tokens"][at][1] for at in hybrid["slots"]["item"]] == ["<item>"]
    assert hybrid["before_user"] == hybrid["slots"]["user"][0]
    assert (hybrid["history_titles"], text["slots"]) == (1, {"user": [], "item": []})
    assert "".join(word for _, word in text["tokens"]) == text["text"]
