"""Slots in the history (LLaRA): encoded, filled, shared and trained like the plain forward pass says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_fakes import HIDDEN, TableEncoder, TokenEncoder
from small_prompts import small_template

from collm.contracts.encoder import EncoderBatch
from collm.contracts.prompt import HistoryItems, HistoryTitles
from collm.contracts.tuning import LoraConfig
from collm.errors import RunError
from collm.model.mapping import Projector
from collm.model.parameters import add_lora, lora_parameters
from collm.model.prefix.batch import Share, build_batch
from collm.model.recommender import Recommender
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.encoded import EncodedPrompts, check_slots
from collm.prompt.show import describe_prompt, prompt_characters, prompt_text
from collm.prompt.template import template_faults
from collm.testing.fakes import FakeTokenizer, tiny_language_model

TEMPLATE = small_template(HistoryItems())
# The last two have one title: their tokens are equal, their vectors are not.
TITLES = ["", "Heat (1995)", "Alien, The", "Fargo", "Up", "Up"]
HISTORIES = np.array([[0, 1, 2], [0, 1, 2], [0, 0, 0], [0, 1, 4], [0, 1, 5], [3, 1, 5]])
ITEMS = np.array([3, 4, 3, 3, 3, 2])
USERS = np.array([1, 1, 2, 3, 3, 4])
SHARES: tuple[Share, ...] = ("none", "before-user", "through-user", "both")


def encoder(*, tokens: int = 1, max_tokens: int = 1000) -> PromptEncoder:
    return PromptEncoder(
        TEMPLATE,
        FakeTokenizer(),
        TITLES,
        fills={name: SlotFill(tokens) for name in ("user", "item", "history")},
        max_tokens=max_tokens,
    )


def batch_of(rows: np.ndarray, *, with_history: bool = True) -> EncoderBatch:
    """Rows for the encoder; one that reads no history gets none, so that slots alone tell histories apart."""
    history = torch.from_numpy(HISTORIES[rows]) if with_history else None
    return EncoderBatch(user=torch.from_numpy(USERS[rows]), item=torch.from_numpy(ITEMS[rows]), history=history)


def recommender(own: TableEncoder | TokenEncoder) -> Recommender:
    lm = tiny_language_model(hidden_size=HIDDEN)
    add_lora(lm, LoraConfig(r=4), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    tokenizer = FakeTokenizer()
    dims = {"user": 6, "item": 6}
    projectors = {"": Projector(dims, HIDDEN, init="torch-default")} if "vectors" in own.gives else {}
    return Recommender(lm, answer=tokenizer.answer, readout="yes_minus_no", encoders={"": own}, projectors=projectors)


def test_a_slot_stands_behind_each_title_and_knows_its_item() -> None:
    own = encoder()
    prompts = own.encode(ITEMS, HISTORIES, "hybrid")
    shown = [describe_prompt(prompts, index, own.tokenizer)["text"] for index in (0, 2, 5)]
    assert shown[0] == (
        '<s>#Question: liked "Heat (1995)"<history>, "Alien, The"<history>. Taste <user>. New: "Fargo" with <item>? '
        "#Answer:"
    )
    assert shown[1] == '<s>#Question: liked none. Taste <user>. New: "Fargo" with <item>? #Answer:'
    assert shown[2].startswith('<s>#Question: liked "Fargo"<history>, "Heat (1995)"<history>, "Up"<history>. Taste')
    assert prompts.history_items.tolist() == HISTORIES.tolist()
    assert ((prompts.slots["history"] >= 0) == (HISTORIES > 0)).all()
    # What comes before the first slot is constant, and the user slot comes after the history.
    first = [
        min(row[row >= 0], default=user[0])
        for row, user in zip(prompts.slots["history"], prompts.slots["user"], strict=True)
    ]
    assert prompts.before_user.tolist() == first


def test_the_text_variant_lists_the_titles_as_ever() -> None:
    plain = small_template(HistoryTitles())
    text = encoder().encode(ITEMS, HISTORIES, "text")
    same = PromptEncoder(plain, FakeTokenizer(), TITLES, max_tokens=1000).encode(ITEMS, HISTORIES, "text")
    assert text.ids.tolist() == same.ids.tolist()
    assert text.slots == {}
    assert template_faults(dataclasses.replace(TEMPLATE, text=TEMPLATE.hybrid))


def test_titles_that_do_not_fit_leave_with_their_slots() -> None:
    whole = encoder(tokens=2).encode(ITEMS[5:], HISTORIES[5:], "hybrid")
    title = 1 + 2  # "Fargo" is the oldest: one word and two slot tokens
    for cut, kept in ((0, 3), (1, 2), (title, 2)):
        prompts = encoder(tokens=2, max_tokens=int(whole.lengths[0]) - cut).encode(ITEMS[5:], HISTORIES[5:], "hybrid")
        assert prompts.n_history_used.tolist() == [kept]
        assert prompts.history_items[0].tolist() == [0] * (3 - kept) + HISTORIES[5, 3 - kept :].tolist()
        assert (prompts.slots["history"][0] >= 0).sum() == 2 * kept


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("own", [TableEncoder, TokenEncoder])
def test_scores_are_those_of_the_plain_forward_pass(own, share: Share) -> None:
    model = recommender(own())
    tokens = 2 if own is TokenEncoder else 1
    prompts = encoder(tokens=tokens).encode(ITEMS, HISTORIES, "hybrid")
    rows = np.arange(6)
    own_rows = batch_of(rows, with_history=own is TableEncoder)
    scores = model(build_batch(prompts, rows, encoders={"": own_rows}, share=share)).detach()
    assert (scores[3] - scores[4]).abs() > 1e-4, "equal titles, different vectors"
    for row in rows:
        assert scores[row].item() == pytest.approx(plain_score(model, prompts, row), abs=2e-5)


def plain_score(model: Recommender, prompts: EncodedPrompts, row: int) -> float:
    """One prompt, one vector at a time, through the language model itself."""

    def mapped(vectors: torch.Tensor, side: str) -> torch.Tensor:
        if not model.projectors:
            return vectors
        projector = model.projectors[""]
        mlp = projector.mlps["both"]
        mean, std = getattr(projector, f"{side}_mean"), getattr(projector, f"{side}_std")
        return mlp((vectors - mean) / std).view(1, -1, HIDDEN)

    with torch.no_grad():
        pair = model.encoders[""].encode(batch_of(np.array([row])))
        embedded = model.lm.get_input_embeddings()(torch.from_numpy(prompts.prompt(row).astype(np.int64))).clone()
        embedded[prompts.slots["user"][row]] = mapped(pair.user, "user")[0]
        embedded[prompts.slots["item"][row]] = mapped(pair.item, "item")[0]
        slots = prompts.slots["history"][row].reshape(HISTORIES.shape[1], -1)
        for item, at in zip(HISTORIES[row], slots, strict=True):
            if item:
                one = EncoderBatch(user=torch.tensor([0]), item=torch.tensor([item]), history=torch.zeros(1, 3).long())
                embedded[at] = mapped(model.encoders[""].encode(one).item, "item")[0]
        logits = model.lm(inputs_embeds=embedded[None]).logits[0, -1]
    return float(logits[2] - logits[3])


@pytest.mark.parametrize("share", SHARES)
def test_gradients_reach_mapping_and_encoder_through_the_history(share: Share) -> None:
    rows = np.array([0, 1, 4, 5])
    prompts = encoder().encode(ITEMS, HISTORIES, "hybrid")
    found = []
    for chosen in (share, "none"):
        model = recommender(TableEncoder())
        model.set_trainable(["projector", "encoder"])
        model(build_batch(prompts, rows, encoders={"": batch_of(rows)}, share=chosen)).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0]["_encoders.of_.item.weight"][1].abs().sum() > 0  # item 1 is in histories only
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-6)


def test_slots_of_the_history_are_checked() -> None:
    own = encoder()
    prompts = own.encode(ITEMS, HISTORIES, "hybrid")
    places = prompts.slots["history"]
    moved = dataclasses.replace(prompts, slots={**prompts.slots, "history": np.where(places < 0, -1, places + 1)})
    with pytest.raises(RunError, match="its history slot does not hold the placeholder"):
        check_slots(moved, own.tokenizer.pad_id)
    shared = dataclasses.replace(prompts, before_user=prompts.before_user + 1)
    with pytest.raises(RunError, match="sharing would mix"):
        build_batch(shared, np.arange(2), encoders={"": batch_of(np.arange(2))}, share="before-user")


def test_prompts_in_words_show_the_slots() -> None:
    text = prompt_text(TEMPLATE, "hybrid", "Fargo", ["Heat (1995)", "Up"])
    assert text.startswith('#Question: liked "Heat (1995)" <history>, "Up" <history>. Taste <user>.')
    lengths = prompt_characters(TEMPLATE, "hybrid", TITLES, ITEMS, HISTORIES)
    for row, history in enumerate(HISTORIES):
        titles = [TITLES[item] for item in history if item]
        assert lengths[row] == len(prompt_text(TEMPLATE, "hybrid", TITLES[ITEMS[row]], titles))
