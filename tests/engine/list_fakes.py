"""A tuning step by lists: a small dataset with re-ratings, a tiny language model, an encoder that reads everything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch
from small_prompts import small_template
from transformers import LlamaConfig, LlamaForCausalLM

from collm.contracts.data import InteractionTable, Limit
from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.contracts.prompt import HistoryTitles
from collm.contracts.tuning import Group, GroupPlan, LoraConfig, StepConfig, TuneStep, TuningConfig
from collm.data.checks import SCHEMA
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.engine.list_task import ListTask, sampled_lists
from collm.engine.prompt_rows import PromptSource
from collm.model.encoder import EncoderModule, EncoderTraits
from collm.model.mapping import Projector
from collm.model.parameters import add_lora, lora_parameters
from collm.model.recommender import Recommender
from collm.process_group import SINGLE, ProcessGroup
from collm.spec.sections import HistoryConfig
from collm.testing.fakes import FakeTokenizer

N_USERS, N_ITEMS, HISTORY, VOCABULARY = 6, 24, 4, 128
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


class Ratings:
    """Random ratings: few times, so that rows share histories, and items that users rate again."""

    def __init__(self, seed: int = 0) -> None:
        generator, n = np.random.default_rng(seed), 150
        frame = pl.DataFrame(
            {
                "user": generator.integers(1, N_USERS + 1, n),
                "item": np.minimum(generator.integers(1, N_ITEMS + 1, n), generator.integers(1, N_ITEMS + 1, n)),
                "label": generator.integers(0, 2, n),
                "rating": np.full(n, 3.0),
                "timestamp": np.sort(generator.integers(0, 25, n)),
                "split": ["train"] * 100 + ["valid"] * 25 + ["test"] * 25,
                "row": np.arange(n) * 2 + 1,
            }
        )
        self.frame = frame.with_columns(order=pl.int_range(pl.len()).over("user"))

    def content_hash(self) -> str:
        return "hash"

    def load(self) -> InteractionTable:
        users = [""] + [f"u{number}" for number in range(1, N_USERS + 1)]
        titles = [""] + [f"Film {number}" for number in range(1, N_ITEMS + 1)]
        return InteractionTable(self.frame.cast(SCHEMA).select(list(SCHEMA)), users, titles, titles, "by order")


def ratings_data(folder: Path, seed: int = 0) -> PreparedData:
    """Returns the ratings, prepared; histories hold what is strictly earlier."""
    history: Any = SimpleNamespace(visibility="strictly-earlier")
    prepare(Ratings(seed), limit=Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


class Everything(EncoderModule):
    """User vectors of ids, histories, earlier labels and times; item vectors of ids and earlier labels."""

    gives = frozenset({"vectors"})
    history_items = HISTORY + 1
    reads_earlier_labels = True
    reads_time = True

    def __init__(self, *, user_depends_on_item: bool = False) -> None:
        super().__init__()
        self.user_depends_on_item = user_depends_on_item
        self.user_dim = self.item_dim = 4
        generator = torch.Generator().manual_seed(3)
        self.user = torch.nn.Parameter(torch.randn(N_USERS + 1, 4, generator=generator))
        self.item = torch.nn.Parameter(torch.randn(N_ITEMS + 1, 4, generator=generator))

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        assert batch.history is not None and batch.earlier is not None and batch.timestamp is not None
        user = self.user[batch.user] + self.item[batch.history].mean(dim=1)
        user = user + batch.earlier[:, :1] / 10 + batch.timestamp[:, None] / 50
        item = self.item[batch.item] + batch.earlier[:, 2:3] / 10
        return EncodedPair(user * item if self.user_depends_on_item else user, item)


def list_recommender(*, user_depends_on_item: bool = False, lora_dropout: float = 0.1) -> Recommender:
    """Returns a tiny model whose adapters do something."""
    torch.manual_seed(0)
    lm = LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, initializer_range=0.15, **SHAPE)
    ).eval()
    add_lora(lm, LoraConfig(r=2, dropout=lora_dropout), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        torch.nn.init.normal_(parameter, std=0.2)
    return Recommender(
        lm,
        answer=FakeTokenizer().answer,
        readout="yes_minus_no",
        encoders={"": Everything(user_depends_on_item=user_depends_on_item)},
        projectors={"": Projector({"user": 4, "item": 4}, 32, init="torch-default")},
    )


def list_source(data: PreparedData, recommender: Recommender, *, history: HistoryConfig | None = None) -> PromptSource:
    """Returns what encodes hybrid prompts with short histories."""
    backbone: Any = SimpleNamespace(tokenizer=lambda: FakeTokenizer(VOCABULARY))
    return PromptSource(
        data,
        small_template(HistoryTitles()),
        backbone,
        variant="hybrid",
        max_tokens=200,
        history=history or HistoryConfig(max_items=HISTORY),
        encoders={"": EncoderTraits.of(recommender.encoders[""])},
        device=torch.device("cpu"),
    )


def list_task(
    data: PreparedData,
    recommender: Recommender,
    *,
    trains: Group = "projector",
    processes: ProcessGroup = SINGLE,
    **settings: Any,
) -> ListTask:
    """One step that trains one group by lists, ready for the training loop."""
    recommender.set_trainable((trains,), frozen_lora_dropout=settings.get("frozen_lora_dropout", False))
    groups: dict[Group, GroupPlan] = {
        group: GroupPlan(trains=group == trains, start="scratch") for group in ("lora", "projector", "encoder")
    }
    optimisation = StepConfig(epochs=3, warmup_steps=1, validations_per_epoch=1, learning_rate=0.01)
    step = TuneStep(name="step", variant="hybrid", groups=groups, optimiser={trains: optimisation})
    usual = {"loss": "softmax", "batch_size": 8, "micro_batch_tokens": 256, "checkpoint_seconds": 0}
    tuning = TuningConfig(name="tiny", **{**usual, **settings})
    source = list_source(data, recommender)
    return ListTask(
        recommender,
        step,
        tuning,
        title="tune",
        lists=sampled_lists(source, data.rows("train"), tuning, seed=7),
        valid=source.encode(data.rows("valid")),
        seed=0,
        processes=processes,
    )
