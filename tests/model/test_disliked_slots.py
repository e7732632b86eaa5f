"""Prompts with disliked titles, labels, ages and slots: scored and shared like the plain forward pass says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_fakes import HIDDEN, TableEncoder

from collm.contracts.encoder import EncoderBatch
from collm.contracts.prompt import (
    DislikedItems,
    DislikedTitles,
    HistoryItems,
    HistoryTitles,
    ItemSlot,
    PromptTemplate,
    RatedItems,
    RatedTitles,
    TargetTitle,
    Text,
    UserSlot,
)
from collm.contracts.tuning import LoraConfig
from collm.engine.prompt_rows import group_rows
from collm.model.encoder import EncoderTraits
from collm.model.mapping import Projector
from collm.model.parameters import add_lora, lora_parameters
from collm.model.prefix.batch import Share, build_batch
from collm.model.recommender import Recommender
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.encoded import EncodedPrompts
from collm.prompt.lists import TitleLists
from collm.prompt.show import describe_prompt
from collm.testing.fakes import FakeTokenizer, tiny_language_model

END = (
    *(Text(" Taste ", collaborative=True), UserSlot(encoder="cf"), Text(". New: "), TargetTitle()),
    *(Text(" with ", collaborative=True), ItemSlot(encoder="cf"), Text("? #Answer:")),
)


def two_lists(liked: Any, disliked: Any) -> PromptTemplate:
    return PromptTemplate(hybrid=(Text("Liked "), liked, Text(". Disliked "), disliked, Text("."), *END))


TEMPLATES = {
    "titles": two_lists(HistoryTitles(), DislikedTitles()),
    "liked slots": two_lists(HistoryItems(encoder="cf"), DislikedTitles()),
    "disliked slots": two_lists(HistoryTitles(), DislikedItems(encoder="cf")),
    "both slots": two_lists(HistoryItems(encoder="cf"), DislikedItems(encoder="cf")),
    "rated": PromptTemplate(hybrid=(Text("Rated "), RatedTitles(), Text("."), *END)),
    "rated slots": PromptTemplate(hybrid=(Text("Rated "), RatedItems(encoder="cf"), Text("."), *END)),
}
# The last two have one title: their tokens are equal, their vectors are not.
TITLES = ["", "Heat (1995)", "Alien, The", "Fargo", "Up", "Up"]
USERS = np.array([1, 1, 1, 1, 1, 2, 2, 3])
ITEMS = np.array([3, 4, 3, 4, 3, 3, 2, 3])
# Rows 0 to 4 are of one user and one liked history: the same list twice, another dislike of the same title, other ages,
# no dislike.
LISTS = TitleLists(
    items=np.array([[1, 4, 2], [1, 4, 2], [1, 5, 2], [1, 4, 2], [0, 1, 2], [0, 4, 1], [0, 4, 1], [0, 0, 0]]),
    liked=np.array([[1, 0, 1]] * 4 + [[0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]]).astype(bool),
    age=np.array([[9, 3, 0], [9, 3, 0], [9, 3, 0], [10, 3, 1], [0, 9, 0], [0, 2, 2], [0, 2, 2], [0, 0, 0]]),
)
SHARES: tuple[Share, ...] = ("none", "before-user", "through-user", "both")
ROWS = np.arange(len(USERS))


def encoded(template: PromptTemplate, *, lists: TitleLists = LISTS, max_tokens: int = 1000) -> EncodedPrompts:
    traits = EncoderTraits.of(TableEncoder())
    fills = {slot.name: SlotFill(traits.tokens[slot.kind]) for slot in template.slots()}
    own = PromptEncoder(template, FakeTokenizer(), TITLES, fills=fills, max_tokens=max_tokens)
    return own.encode(ITEMS, lists, "hybrid")


def inputs(rows: np.ndarray) -> dict[str, EncoderBatch]:
    # The encoder reads likes alone, and of these nothing here: only prompts tell the rows of a user apart.
    history = torch.zeros(len(rows), 3, dtype=torch.int64)
    return {"cf": EncoderBatch(torch.from_numpy(USERS[rows]), torch.from_numpy(ITEMS[rows]), history=history)}


def recommender() -> Recommender:
    lm = tiny_language_model(hidden_size=HIDDEN)
    add_lora(lm, LoraConfig(r=4), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.manual_seed(3)
    projectors = {"cf": Projector({"user": 6, "item": 6}, HIDDEN, init="torch-default")}
    encoders = {"cf": TableEncoder()}
    answer = FakeTokenizer().answer
    return Recommender(lm, answer=answer, readout="yes_minus_no", encoders=encoders, projectors=projectors)


def plain_score(model: Recommender, prompts: EncodedPrompts, row: int) -> float:
    """One prompt through the language model itself, slot by slot."""
    mlp, encoder = model.projectors["cf"].mlps["both"], model.encoders["cf"]
    with torch.no_grad():
        embedded = model.lm.get_input_embeddings()(torch.from_numpy(prompts.prompt(row).astype(np.int64))).clone()
        pair = encoder.encode(inputs(np.array([row]))["cf"])
        embedded[prompts.slots["user.cf"][row]] = mlp(pair.user)
        embedded[prompts.slots["item.cf"][row]] = mlp(pair.item)
        for name, slots in prompts.slots.items():
            if name in ("user.cf", "item.cf"):
                continue
            for item, at in zip(LISTS.items[row], slots[row], strict=True):
                if at >= 0:
                    embedded[at] = mlp(encoder.item(torch.tensor([item])))[0]
        logits = model.lm(inputs_embeds=embedded[None]).logits[0, -1]
    return float(logits[2] - logits[3])


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("aged", [True, False])
def test_scores_are_those_of_the_plain_forward_pass(name: str, share: Share, aged: bool) -> None:
    model, prompts = recommender(), encoded(TEMPLATES[name], lists=LISTS if aged else replace(LISTS, age=None))
    scores = model(build_batch(prompts, ROWS, encoders=inputs(ROWS), share=share)).detach()
    for row in ROWS:
        assert scores[row].item() == pytest.approx(plain_score(model, prompts, row), abs=3e-5)
    # What is disliked, and how long ago, is in the score: rows 0 and 4, 5 and 6, and with ages 1 and 3.
    pairs = [(0, 4), *([(1, 3)] if aged else [])]
    for one, other in pairs:
        assert ITEMS[one] == ITEMS[other]
        assert abs(plain_score(model, prompts, one) - plain_score(model, prompts, other)) > 1e-4
    if name in ("disliked slots", "both slots", "rated slots"):
        assert abs(plain_score(model, prompts, 0) - plain_score(model, prompts, 2)) > 1e-4


def test_slots_stand_behind_their_titles_and_what_is_said_of_them() -> None:
    tokenizer = FakeTokenizer()
    traits = EncoderTraits.of(TableEncoder())
    texts = []
    for name in ("both slots", "rated slots"):
        fills = {slot.name: SlotFill(traits.tokens[slot.kind]) for slot in TEMPLATES[name].slots()}
        own = PromptEncoder(TEMPLATES[name], tokenizer, TITLES, fills=fills, max_tokens=1000)
        texts.append(describe_prompt(own.encode(ITEMS, LISTS, "hybrid"), 0, tokenizer)["text"])
    assert texts[0].startswith(
        '<s>Liked "Heat (1995)" (3 weeks ago)<history.cf>, "Alien, The" (today)<history.cf>. Disliked '
        '"Up" (3 days ago)<disliked.cf>. Taste <user.cf>.'
    )
    assert texts[1].startswith(
        '<s>Rated "Heat (1995)" (liked, 3 weeks ago)<rated.cf>, "Up" (disliked, 3 days ago)<rated.cf>, '
        '"Alien, The" (liked, today)<rated.cf>. Taste'
    )
    places = encoded(TEMPLATES["both slots"]).slots
    counts = {name: int((each[0] >= 0).sum()) for name, each in places.items()}
    assert counts == {"history.cf": 2, "disliked.cf": 1, "user.cf": 1, "item.cf": 1}


@pytest.mark.parametrize("name", ["both slots", "rated slots"])
def test_titles_that_do_not_fit_leave_with_their_slots(name: str) -> None:
    whole = encoded(TEMPLATES[name])
    short = encoded(TEMPLATES[name], max_tokens=int(whole.lengths[0]) - 1)
    assert short.n_history_used[:2].tolist() == [2, 2]
    assert short.history_items[0].tolist() == [0, 4, 2]
    listed = [np.asarray(places)[0] for slot, places in short.slots.items() if slot not in ("user.cf", "item.cf")]
    assert sum(int((places >= 0).sum()) for places in listed) == 2


@pytest.mark.parametrize("share", ["before-user", "through-user", "both"])
def test_gradients_reach_the_items_that_were_disliked(share: Share) -> None:
    prompts, found = encoded(TEMPLATES["both slots"]), []
    for chosen in (share, "none"):
        model = recommender()
        model.set_trainable(["projector", "encoder"])
        model(build_batch(prompts, ROWS, encoders=inputs(ROWS), share=chosen)).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    items = next(gradient for name, gradient in found[0].items() if name.endswith("item.weight"))
    assert items[5].abs().sum() > 0, "item 5 is only ever disliked"
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-6)


def test_rows_share_where_lists_labels_and_ages_are_equal() -> None:
    groups = group_rows(np.column_stack([USERS, LISTS.keys()]))
    assert [groups[0] == other for other in groups[:5]] == [True, True, False, False, False]
    assert groups[5] != groups[6], "the same items with other labels"
    without = group_rows(np.column_stack([USERS, replace(LISTS, age=None).keys()]))
    assert [without[0] == other for other in without[:5]] == [True, True, False, True, False]
