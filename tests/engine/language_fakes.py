"""A tuning step of a tiny model on random prompts that share users and histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from collm.contracts.backbone import AnswerIds
from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.contracts.tuning import Group, GroupPlan, LoraConfig, StepConfig, TuneStep, TuningConfig
from collm.data.prepared import Rows
from collm.engine.language_task import LanguageTask
from collm.engine.prompt_rows import PromptRows
from collm.model.encoder import EncoderModule
from collm.model.mapping import Projector
from collm.model.parameters import add_lora, lora_parameters
from collm.model.recommender import Recommender
from collm.prompt.encoded import EncodedPrompts

VOCABULARY = 48
COMMON = np.arange(2, 7)


class Tables(EncoderModule):
    """One vector per user and item."""

    gives = frozenset({"vectors"})

    def __init__(self) -> None:
        super().__init__()
        self.user_dim = self.item_dim = 4
        self.user, self.item = torch.nn.Embedding(30, 4), torch.nn.Embedding(30, 4)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        return EncodedPair(self.user(batch.user), self.item(batch.item))


def prompt_rows(n_users: int = 12, *, seed: int = 0, longest: int = 9) -> PromptRows:
    """Three rows per user: the same words, a history, a user slot, an item slot."""
    generator = np.random.default_rng(seed)
    sequences, slots, before = [], [], []
    for _ in range(n_users):
        history = np.concatenate([COMMON, generator.integers(0, VOCABULARY, generator.integers(1, longest))])
        for _ in range(3):
            branch = generator.integers(0, VOCABULARY, generator.integers(3, 6))
            sequences.append(np.concatenate([history, [0, 7], branch]))
            slots.append((len(history), len(history) + 3))
            before.append(len(history))
    lengths, n = [len(each) for each in sequences], 3 * n_users
    index, user = np.arange(n), np.repeat(np.arange(n_users), 3)
    rows = Rows(user + 1, generator.integers(1, 30, n), (index % 2).astype(np.int8), index, index, index)
    prompts = EncodedPrompts(
        ids=np.concatenate(sequences).astype(np.uint16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        slots={"user": np.array(slots, dtype=np.int32)[:, :1], "item": np.array(slots, dtype=np.int32)[:, 1:]},
        shared=np.array(before, dtype=np.int32) + 2,
        before_user=np.array(before, dtype=np.int32),
        n_history_used=np.ones(n, dtype=np.int32),
    )

    def batcher(some: Rows) -> EncoderBatch:
        return EncoderBatch(user=torch.from_numpy(some.user), item=torch.from_numpy(some.item))

    batches: Any = batcher
    return PromptRows(
        rows, prompts, prefix_group=user, batchers={"": batches}, user_depends_on_item=False, device=torch.device("cpu")
    )


def tiny_recommender(*, dtype: torch.dtype = torch.float32) -> Recommender:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    lm = LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, initializer_range=0.15, **shape)
    ).eval()
    lm.to(dtype)
    add_lora(lm, LoraConfig(r=2, dropout=0.1), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    return Recommender(
        lm,
        answer=AnswerIds("Yes", "No", 3, 4),
        readout="yes_minus_no",
        encoders={"": Tables()},
        projectors={"": Projector({"user": 4, "item": 4}, 32, init="torch-default")},
    )


def language_task(recommender: Recommender, *, trains: Group = "projector", **settings: Any) -> LanguageTask:
    """One step that trains one group, ready for the training loop."""
    recommender.set_trainable((trains,), frozen_lora_dropout=settings.get("frozen_lora_dropout", False))
    groups: dict[Group, GroupPlan] = {
        group: GroupPlan(trains=group == trains, start="scratch") for group in ("lora", "projector", "encoder")
    }
    optimisation = StepConfig(epochs=3, warmup_steps=1, validations_per_epoch=1, learning_rate=0.01)
    step = TuneStep(name="step", variant="hybrid", groups=groups, optimiser={trains: optimisation})
    tuning = TuningConfig(
        name="tiny", **{"batch_size": 8, "micro_batch_tokens": 96, "checkpoint_seconds": 0, **settings}
    )
    return LanguageTask(
        recommender, step, tuning, title="tune", train=prompt_rows(), valid=prompt_rows(6, seed=1), seed=0
    )
