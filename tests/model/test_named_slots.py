"""Slots of several encoders: filled, shared and trained like the plain forward pass says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_fakes import HIDDEN, TableEncoder, TokenEncoder

from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.contracts.prompt import ContextSlot, HistoryItems, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.contracts.tuning import LoraConfig
from collm.errors import RunError
from collm.model.encoder import EncoderModule, EncoderTraits
from collm.model.mapping import Projector, slot_vectors
from collm.model.parameters import add_lora, lora_parameters
from collm.model.prefix.batch import Share, build_batch
from collm.model.recommender import Recommender
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.encoded import EncodedPrompts
from collm.prompt.show import describe_prompt
from collm.testing.fakes import FakeTokenizer, tiny_language_model

TEMPLATE = PromptTemplate(
    hybrid=(
        Text("#Question: liked "),
        HistoryItems(encoder="cf"),
        Text("."),
        Text(" Tastes ", collaborative=True),
        UserSlot(encoder="many"),
        Text(" and ", collaborative=True),
        UserSlot(encoder="cf"),
        Text(". New: "),
        TargetTitle(),
        Text(" with ", collaborative=True),
        ItemSlot(encoder="cf"),
        Text(" of ", collaborative=True),
        ItemSlot(encoder="token"),
        Text(" at ", collaborative=True),
        ContextSlot(encoder="many"),
        Text("? #Answer:"),
    )
)
TITLES = ["", "Heat (1995)", "Alien, The", "Fargo", "Up", "Up"]
HISTORIES = np.array([[0, 1, 2], [0, 1, 2], [0, 0, 0], [0, 1, 4], [0, 1, 5], [3, 1, 5]])
ITEMS, USERS = np.array([3, 4, 3, 3, 3, 2]), np.array([1, 1, 2, 3, 3, 4])
TIMES = np.array([10, 10, 20, 30, 30, 30])
SHARES: tuple[Share, ...] = ("none", "before-user", "through-user", "both")


class ManyVectors(EncoderModule):
    """Three vectors per user, one per item, and one of the hour."""

    gives = frozenset({"vectors"})
    tokens_per_slot = (3, 1)
    reads_time = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.user_dim, self.item_dim, self.context_dim = 5, 7, 4
        self.user, self.item, self.hour = (torch.nn.Embedding(40, n) for n in (15, 7, 4))

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        assert batch.timestamp is not None
        return EncodedPair(self.user(batch.user).view(-1, 3, 5), self.item(batch.item), self.hour(batch.timestamp % 24))


def encoders() -> dict[str, EncoderModule]:
    token = TokenEncoder()
    token.tokens_per_slot = (2, 2)
    return {"cf": TableEncoder(), "many": ManyVectors(), "token": token}


def prompt_encoder() -> PromptEncoder:
    traits = {name: EncoderTraits.of(each) for name, each in encoders().items()}
    fills = {slot.name: SlotFill(traits[slot.encoder].tokens[slot.kind]) for slot in TEMPLATE.slots()}
    return PromptEncoder(TEMPLATE, FakeTokenizer(), TITLES, fills=fills, max_tokens=1000)


def prompts_of() -> EncodedPrompts:
    return prompt_encoder().encode(ITEMS, HISTORIES, "hybrid")


def inputs(rows: np.ndarray) -> dict[str, EncoderBatch]:
    user, item = torch.from_numpy(USERS[rows]), torch.from_numpy(ITEMS[rows])
    return {
        "cf": EncoderBatch(user=user, item=item, history=torch.from_numpy(HISTORIES[rows])),
        "many": EncoderBatch(user=user, item=item, timestamp=torch.from_numpy(TIMES[rows])),
        "token": EncoderBatch(user=user, item=item),
    }


def recommender(*, own: bool = False) -> Recommender:
    lm = tiny_language_model(hidden_size=HIDDEN)
    add_lora(lm, LoraConfig(r=4), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    dims = {"user": 5, "item": 7, "context": 4}
    counts = {"user": 3, "item": 1, "context": 1}
    torch.manual_seed(3)
    projectors = {
        "cf": Projector({"user": 6, "item": 6}, HIDDEN, init="torch-default"),
        "many": Projector(dims, HIDDEN, init="torch-default", n_vectors=counts if own else {}),
    }
    return Recommender(
        lm, answer=FakeTokenizer().answer, readout="yes_minus_no", encoders=encoders(), projectors=projectors
    )


def mapped(projector: Projector, side: str, vectors: torch.Tensor, *, own: bool) -> torch.Tensor:
    """Vectors [k, d] one by one through their module, written out; [k, hidden]."""
    tokens = []
    for place, vector in enumerate(vectors):
        shared = "both" if projector.shared and side != "context" else side
        first, _, last = projector.mlps[f"{side}-{place}" if own and len(vectors) > 1 else shared]
        tokens.append(last.weight @ torch.relu(first.weight @ vector + first.bias) + last.bias)
    return torch.stack(tokens)


def plain_score(model: Recommender, prompts: EncodedPrompts, row: int, *, own: bool) -> float:
    """One prompt through the language model itself, slot by slot."""
    given = inputs(np.array([row]))
    with torch.no_grad():
        pairs = {name: each.encode(given[name]) for name, each in model.encoders.items()}
        embedded = model.lm.get_input_embeddings()(torch.from_numpy(prompts.prompt(row).astype(np.int64))).clone()
        for name, side in (("cf", "user"), ("cf", "item"), ("many", "user"), ("many", "context")):
            vectors = getattr(pairs[name], side)[0]
            vectors = vectors if vectors.dim() == 2 else vectors[None]
            several = mapped(model.projectors[name], side, vectors, own=own and name == "many")
            embedded[prompts.slots[f"{side}.{name}"][row]] = several
        embedded[prompts.slots["item.token"][row]] = pairs["token"].item[0]
        for item, at in zip(HISTORIES[row], prompts.slots["history.cf"][row], strict=True):
            if item:
                one = EncoderBatch(user=torch.tensor([0]), item=torch.tensor([item]), history=torch.zeros(1, 3).long())
                vector = model.encoders["cf"].encode(one).item
                embedded[at] = mapped(model.projectors["cf"], "item", vector, own=False)[0]
        logits = model.lm(inputs_embeds=embedded[None]).logits[0, -1]
    return float(logits[2] - logits[3])


def test_every_slot_stands_where_its_name_says() -> None:
    own = prompt_encoder()
    prompts = own.encode(ITEMS, HISTORIES, "hybrid")
    shown = describe_prompt(prompts, 0, own.tokenizer)
    assert shown["text"] == (
        '<s>#Question: liked "Heat (1995)"<history.cf>, "Alien, The"<history.cf>. Tastes'
        ' <user.many><user.many><user.many> and <user.cf>. New: "Fargo" with <item.cf> of <item.token><item.token>'
        " at <context.many>? #Answer:"
    )
    first = prompts.slots["history.cf"].max(axis=1)
    assert (prompts.slots["item.cf"][:, 0] > prompts.shared).all()
    assert (prompts.before_user[first >= 0] <= first[first >= 0]).all()
    text = own.encode(ITEMS, HISTORIES, "text")
    assert text.slots == {}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("share", SHARES)
def test_scores_are_those_of_the_plain_forward_pass(share: Share, own: bool) -> None:
    model, prompts, rows = recommender(own=own), prompts_of(), np.arange(6)
    batch = build_batch(prompts, rows, encoders=inputs(rows), share=share)
    scores = model(batch).detach()
    assert share == "none" or batch.n_tokens < int(batch.lengths.sum())
    for row in rows:
        assert scores[row].item() == pytest.approx(plain_score(model, prompts, row, own=own), abs=2e-5)


@pytest.mark.parametrize("share", SHARES)
def test_gradients_reach_every_encoder_and_mapping(share: Share) -> None:
    rows, prompts = np.array([0, 1, 4, 5]), prompts_of()
    found = []
    for chosen in (share, "none"):
        model = recommender()
        model.set_trainable(["projector", "encoder"])
        model(build_batch(prompts, rows, encoders=inputs(rows), share=chosen)).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    parts = {".".join(name.split(".")[:2]) for name in found[0]}
    assert parts == {
        *(f"_encoders.of_{name}" for name in ("cf", "many", "token")),
        *(f"_projectors.of_{name}" for name in ("cf", "many")),
    }
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-6)


def test_groups_name_their_encoder_and_load_again() -> None:
    model = recommender()
    groups = model.parameter_groups()
    assert {name.partition(".")[0] for name in groups["projector"]} == {"cf", "many", "token"}
    assert {name.partition(".")[0] for name in groups["encoder"]} == {"cf", "many"}
    state = {name: tensor.clone() + 1 for name, tensor in model.group_state("projector").items()}
    model.load_group_state("projector", state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.group_state("projector").items())


def test_each_side_is_calibrated_for_each_of_its_vectors() -> None:
    projector = Projector({"user": 5, "item": 7}, HIDDEN, n_vectors={"user": 3, "item": 1})
    assert set(projector.mlps) == {"user-0", "user-1", "user-2", "item"}
    torch.manual_seed(0)
    user, item = torch.randn(50, 3, 5) * torch.tensor([1.0, 5.0, 9.0])[None, :, None] + 2, torch.randn(50, 7)
    projector.calibrate({"user": user, "item": item}, target_rms=0.1)
    torch.testing.assert_close(projector.user_mean, user.reshape(-1, 5).mean(0))
    tokens = projector("user", user)
    for place in range(3):
        assert tokens[:, place].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-4)


def test_history_items_of_an_encoder_that_reads_times_have_no_time() -> None:
    template = dataclasses.replace(
        TEMPLATE, hybrid=(TEMPLATE.hybrid[0], HistoryItems(encoder="many"), *TEMPLATE.hybrid[2:])
    )
    fills = {slot.name: SlotFill({"user.many": 3, "item.token": 2}.get(slot.name, 1)) for slot in template.slots()}
    prompts = PromptEncoder(template, FakeTokenizer(), TITLES, fills=fills, max_tokens=1000).encode(
        ITEMS, HISTORIES, "hybrid"
    )
    model, rows = recommender(), np.arange(6)
    batch = build_batch(prompts, rows, encoders=inputs(rows))
    found = slot_vectors(batch, model.encoders, model.projectors)["history.many"].view(6, 3, HIDDEN)
    item = model.encoders["many"].item(torch.tensor([1]))
    expected = mapped(model.projectors["many"], "item", item, own=False)[0]
    torch.testing.assert_close(found[0, 1], expected)


def test_sharing_that_would_mix_contexts_is_refused() -> None:
    prompts = prompts_of()
    moved = dataclasses.replace(prompts, slots={"context.many": prompts.slots["user.cf"]})
    with pytest.raises(RunError, match=r"slot context\.many lies before the end of the shared part"):
        build_batch(moved, np.arange(2), encoders=inputs(np.arange(2)), share="through-user")


def test_rows_of_other_times_share_no_user_slot() -> None:
    """An encoder that reads times may give other user vectors at other times."""
    prompts, rows = prompts_of(), np.array([0, 1])
    same = build_batch(prompts, rows, encoders=inputs(rows), share="through-user")
    later = inputs(rows)
    later["many"] = dataclasses.replace(later["many"], timestamp=torch.tensor([10, 11]))
    other = build_batch(prompts, rows, encoders=later, share="through-user")
    assert same.n_tokens < other.n_tokens


def test_rows_of_other_days_since_the_last_label_share_no_user_slot() -> None:
    prompts, rows = prompts_of(), np.array([0, 1])
    tokens = []
    for days in ([[3.0, 7.0], [3.0, 9.0]], [[3.0, 7.0], [4.0, 7.0]]):  # of user and item
        given = inputs(rows)
        given["many"] = dataclasses.replace(given["many"], days_since=torch.tensor(days))
        tokens.append(build_batch(prompts, rows, encoders=given, share="through-user").n_tokens)
    assert tokens[0] == build_batch(prompts, rows, encoders=inputs(rows), share="through-user").n_tokens
    assert tokens[0] < tokens[1]


def test_a_slot_of_an_unknown_encoder_is_refused() -> None:
    model, rows = recommender(), np.arange(2)
    given = inputs(rows)
    del given["many"]
    with pytest.raises(RunError, match="have user and context slots, but there is no encoder 'many' to fill them"):
        model(build_batch(prompts_of(), rows, encoders=given))
