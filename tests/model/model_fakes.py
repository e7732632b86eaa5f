"""Tiny language models, encoders and random prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from collm.contracts.backbone import AnswerIds
from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.contracts.tuning import LoraConfig
from collm.model.encoder import EncoderModule
from collm.model.mapping import Projector
from collm.model.parameters import add_lora, lora_parameters
from collm.model.recommender import Recommender

ANSWER = AnswerIds(positive_word="Yes", negative_word="No", positive=3, negative=4)
VOCABULARY = 64
HIDDEN = 32
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # The usual 0.02 leaves logits of such a narrow model within +-1 and hides attention: scores would hardly differ.
    "initializer_range": 0.15,
}


class TableEncoder(EncoderModule):
    """Two embedding tables; the user vector also sees the history, or the item where `target_aware`."""

    gives = frozenset({"vectors"})
    history_items = 3

    def __init__(self, *, target_aware: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.user_dim = self.item_dim = 6
        self.user_depends_on_item = target_aware
        self.user, self.item = torch.nn.Embedding(40, 6), torch.nn.Embedding(40, 6)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        assert batch.history is not None
        user = self.user(batch.user) + self.item(batch.history).mean(1)
        item = self.item(batch.item)
        return EncodedPair(user + item if self.user_depends_on_item else user, item)


class TokenEncoder(EncoderModule):
    """Two learnt tokens per user and item, in the language model's own space."""

    gives = frozenset({"llm-tokens"})
    fit_mode = "none"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.user, self.item = torch.nn.Embedding(40, 2 * HIDDEN), torch.nn.Embedding(40, 2 * HIDDEN)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        shape = (len(batch.user), 2, HIDDEN)
        return EncodedPair(self.user(batch.user).view(shape), self.item(batch.item).view(shape))


@dataclass(frozen=True)
class FakePrompts:
    """Prompts as arrays, made of history, user part and branch."""

    ids: np.ndarray
    offsets: np.ndarray
    slots: dict[str, np.ndarray]
    before_user: np.ndarray
    shared: np.ndarray

    @property
    def history_items(self) -> np.ndarray:
        return np.zeros((len(self.shared), 0), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.shared)

    def prompt(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]


def tiny_lm(architecture: str = "llama") -> torch.nn.Module:
    torch.manual_seed(0)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)).eval()


def tiny_recommender(
    architecture: str = "llama",
    *,
    readout: str = "yes_minus_no",
    dropout: float = 0.0,
    encoder: EncoderModule | None = None,
) -> Recommender:
    """A recommender with adapters that change something, with or without an encoder."""
    lm = tiny_lm(architecture)
    add_lora(lm, LoraConfig(r=4, dropout=dropout), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    encoders = {} if encoder is None else {"": encoder}
    mapped = [name for name, each in encoders.items() if "vectors" in each.gives]
    projectors = {name: Projector({"user": 6, "item": 6}, HIDDEN, init="torch-default") for name in mapped}
    return Recommender(lm, answer=ANSWER, readout=readout, encoders=encoders, projectors=projectors)


def random_prompts(
    generator: np.random.Generator, branches: list[int], *, tokens_per_slot: int = 0, empty_history: bool = False
) -> tuple[FakePrompts, EncoderBatch]:
    """One group per entry of `branches`, with that many rows; every third row repeats the row before it.

    The user slot ends the shared part by two tokens; the item slot appears in the branch. `empty_history` gives the
    first group a history of no tokens.
    """
    k = tokens_per_slot
    sequences, user_slot, item_slot, before, shared, users, items, histories = [], [], [], [], [], [], [], []
    for group, n in enumerate(branches):
        history = generator.integers(0, VOCABULARY, 0 if empty_history and group == 0 else generator.integers(1, 12))
        user_part = generator.integers(0, VOCABULARY, k + 3)
        past = generator.integers(0, 40, 3)
        for row in range(n):
            if not (row and row % 3 == 0):
                branch, item = (
                    generator.integers(0, VOCABULARY, k + generator.integers(2, 9)),
                    generator.integers(1, 40),
                )
            sequences.append(np.concatenate([history, user_part, branch]))
            user_slot.append(len(history) + 1 + np.arange(k))
            item_slot.append(len(history) + k + 3 + 1 + np.arange(k))
            before.append(len(history) + 1)
            shared.append(len(history) + k + 3)
            users.append(group % 39 + 1)
            items.append(item)
            histories.append(past)
    prompts = FakePrompts(
        ids=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64),
        slots={
            side: np.array(at, dtype=np.int32).reshape(len(sequences), k)
            for side, at in (("user", user_slot), ("item", item_slot))
        },
        before_user=np.array(before, dtype=np.int32),
        shared=np.array(shared, dtype=np.int32),
    )
    batch = EncoderBatch(
        user=torch.tensor(np.array(users)),
        item=torch.tensor(np.array(items)),
        history=torch.tensor(np.array(histories)),
    )
    return prompts, batch
