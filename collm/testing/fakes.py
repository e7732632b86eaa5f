"""Tiny stand-ins for data, tokenizer and language model: milliseconds to make, no files, no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.contracts.backbone import AnswerIds
from collm.contracts.data import InteractionTable
from collm.contracts.encoder import EncoderBatch, EncoderData, TrainRows, UnlabelledRows
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.stages.fit_encoder import encoder_data as real_encoder_data

N_USERS = 12
N_ITEMS = 20
_GENRES = ("Drama", "Comedy", "Action")
OWN_ROWS = 240
_FEWEST_ROWS = 8
_WORDS = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")


def interaction_table(
    n_users: int = N_USERS, n_items: int = N_ITEMS, *, rows_per_user: int = 20, seed: int = 0
) -> InteractionTable:
    """Makes a dataset in which both users and items differ in their share of positives.

    Each user's rows run in time; the first 70% are training rows, then 15% validation, then test. A user meets an item
    at most once where `rows_per_user <= n_items`.

    Args:
        n_users: Users, ids 1..n_users.
        n_items: Items, ids 1..n_items.
        rows_per_user: Rows of each user.
        seed: Seed of everything.

    Returns:
        The table; `row` counts from 0 in user order.
    """
    generator = np.random.default_rng(seed)
    user = np.repeat(np.arange(1, n_users + 1), rows_per_user)
    repeats = -(-rows_per_user // n_items)
    item = np.concatenate(
        [np.tile(generator.permutation(n_items) + 1, repeats)[:rows_per_user] for _ in range(n_users)]
    )
    level = generator.normal(size=n_users + 1)[user] + generator.normal(size=n_items + 1)[item]
    label = (level + 0.5 * generator.normal(size=len(user)) > 0).astype(np.int8)
    place = np.tile(np.arange(rows_per_user), n_users)
    first_valid, first_test = int(rows_per_user * 0.7), int(rows_per_user * 0.85)
    split = np.where(place < first_valid, "train", np.where(place < first_test, "valid", "test"))
    frame = pl.DataFrame(
        {
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "label": label,
            "rating": (1 + 4 * label).astype(np.float32),
            "timestamp": (1_000_000_000 + 3600 * place + user).astype(np.int64),
            "split": split.tolist(),
            "row": np.arange(len(user), dtype=np.int64),
            "order": np.arange(len(user), dtype=np.int64),
        }
    )
    return InteractionTable(
        frame=frame,
        user_ids=["", *(f"u{number}" for number in range(1, n_users + 1))],
        item_ids=["", *(f"i{number}" for number in range(1, n_items + 1))],
        titles=["", *(f"Film {number} ({1900 + number % 100})" for number in range(1, n_items + 1))],
        tie_rule="no ties within a user",
        user_attributes=pl.DataFrame({"age": [None, *(20 + number % 50 for number in range(1, n_users + 1))]}),
        item_attributes=pl.DataFrame({"genres": [None, *(_genres(number) for number in range(1, n_items + 1))]}),
    )


def _genres(item: int) -> list[str] | None:
    """One or two genres of an item; every seventh has none."""
    return [_GENRES[item % 3], *_GENRES[: item % 2]] if item % 7 else None


def encoder_data(table: InteractionTable | None = None, *, history_items: int = 5) -> EncoderData:
    """Makes what an encoder may see of a table: its training rows, attributes, and which rows validate.

    Args:
        table: Source; None = `interaction_table()` without the training rows of the last user and the last item, so
            that both are ids that were never trained.
        history_items: Items per history.

    Returns:
        The data.
    """
    unseen = table is None
    table = interaction_table() if table is None else table
    n_users, n_items = len(table.user_ids) - 1, len(table.item_ids) - 1
    rows = table.frame.filter(pl.col("split") == "train")
    if unseen:
        rows = rows.filter((pl.col("user") != n_users) & (pl.col("item") != n_items))
    train = TrainRows(
        user=rows["user"].to_numpy().astype(np.int64),
        item=rows["item"].to_numpy().astype(np.int64),
        label=rows["label"].to_numpy().astype(np.int8),
        timestamp=rows["timestamp"].to_numpy().astype(np.int64),
        row=rows["row"].to_numpy().astype(np.int64),
        rating=rows["rating"].fill_null(float("nan")).to_numpy().astype(np.float32),
    )
    valid = table.frame.filter(pl.col("split") == "valid")
    return EncoderData(
        n_users=n_users,
        n_items=n_items,
        titles=table.titles,
        train=train,
        history_items=history_items,
        user_ids=table.user_ids,
        item_ids=table.item_ids,
        user_attributes=table.user_attributes,
        item_attributes=table.item_attributes,
        valid=UnlabelledRows(
            user=valid["user"].to_numpy().astype(np.int64), item=valid["item"].to_numpy().astype(np.int64)
        ),
    )


def encoder_data_of(data: PreparedData, *, history_items: int, n_rows: int = OWN_ROWS) -> EncoderData:
    """Makes small data in the shape of prepared data: all its ids, titles and attributes, some of its training rows.

    Args:
        data: The prepared data.
        history_items: Items per history.
        n_rows: Training rows kept at most, drawn at random; none is of the last user or the last item.

    Returns:
        The data.

    Raises:
        DataError: If fewer than 8 training rows are of other users and items.
    """
    whole = real_encoder_data(data, history_items)
    train = whole.train
    usable = np.flatnonzero((train.user != whole.n_users) & (train.item != whole.n_items))
    if len(usable) < _FEWEST_ROWS:
        raise DataError(f"{len(usable)} training rows are too few to check an encoder on; give a larger dataset")
    kept = np.sort(np.random.default_rng(0).permutation(usable)[:n_rows])
    columns = {name: getattr(train, name) for name in train.__dataclass_fields__}
    rows: dict[str, Any] = {name: None if column is None else column[kept] for name, column in columns.items()}
    return replace(whole, train=TrainRows(**rows))


def encoder_batch(
    data: EncoderData, *, history_items: int = 0, rows: Sequence[int] | None = None, half_lives: Sequence[float] = ()
) -> EncoderBatch:
    """Makes a labelled batch of training rows with their past-only histories.

    Args:
        data: Source of rows.
        history_items: Columns of `history`, the last earlier positives of the user; 0 = no history (None).
        rows: Positions among the training rows; None = all, in source order.
        half_lives: Half-lives of recent labels; none = the batch carries none.

    Returns:
        The batch on the processor.
    """
    train = data.train
    take = np.arange(len(train.user)) if rows is None else np.asarray(rows, dtype=np.int64)
    history = None
    if history_items:
        history = torch.zeros((len(take), history_items), dtype=torch.int64)
        for place, row in enumerate(take):
            earlier = (train.user == train.user[row]) & (train.timestamp < train.timestamp[row]) & (train.label == 1)
            items = train.item[earlier][np.argsort(train.timestamp[earlier], kind="stable")][-history_items:]
            if len(items):
                history[place, -len(items) :] = torch.from_numpy(items)
    return EncoderBatch(
        user=torch.from_numpy(train.user[take]),
        item=torch.from_numpy(train.item[take]),
        label=torch.from_numpy(train.label[take].astype(np.float32)),
        history=history,
        earlier=torch.from_numpy(np.stack([_earlier(train, row) for row in take])) if len(take) else torch.zeros(0, 4),
        timestamp=torch.from_numpy(train.timestamp[take]),
        recent=_stacked([_recent(train, row, half_lives) for row in take], (2, len(half_lives), 2)),
        days_since=_stacked([_days_since(train, row) for row in take], (2,)) if half_lives else None,
    )


def _stacked(rows: Sequence[np.ndarray[Any, Any]], shape: tuple[int, ...]) -> torch.Tensor | None:
    """Stacks float32 arrays of a shape; None where it has no entry."""
    if 0 in shape:
        return None
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, *shape)


def _recent(train: TrainRows, row: int, half_lives: Sequence[float]) -> np.ndarray[Any, Any]:
    """Positives and rows before a row, weighted by their age in rows: float32 [2, n_half_lives, 2]; without ties."""
    found = np.zeros((2, len(half_lives), 2), dtype=np.float32)
    for side, ids in enumerate((train.user, train.item)):
        seen = np.flatnonzero((train.timestamp < train.timestamp[row]) & (ids == ids[row]))
        newest = seen[np.argsort(-train.timestamp[seen], kind="stable")]
        for number, half_life in enumerate(half_lives):
            weight = 0.5 ** (np.arange(len(newest)) / half_life)
            found[side, number] = (weight * train.label[newest]).sum(), weight.sum()
    return found


def _days_since(train: TrainRows, row: int) -> np.ndarray[Any, Any]:
    """Whole days since the last label of the row's user and item, -1 where there is none: float32 [2]."""
    now, before = train.timestamp[row], train.timestamp < train.timestamp[row]
    times = [train.timestamp[before & (ids == ids[row])] for ids in (train.user, train.item)]
    return np.array([(now - each.max()) // 86_400 if len(each) else -1 for each in times], dtype=np.float32)


def _earlier(train: TrainRows, row: int) -> np.ndarray[Any, Any]:
    """Positives and rows of the row's user, then of its item, strictly before it: float32 [4]."""
    before = train.timestamp < train.timestamp[row]
    counts = []
    for ids in (train.user, train.item):
        seen = before & (ids == ids[row])
        counts += [int(train.label[seen].sum()), int(seen.sum())]
    return np.array(counts, dtype=np.float32)


class FakeTokenizer:
    """A `PromptTokenizer` of whole words: each word, with the spaces before it, is one id.

    Ids are given out in order of first sight and kept, so `decode(encode(text)) == text`. Ids below 4 are reserved:
    0 = padding, 1 = begin of sequence, 2 = " Yes", 3 = " No".
    """

    def __init__(self, vocabulary_size: int = 512, *, bos: bool = True) -> None:
        """Takes the number of ids, and whether prompts begin with a special token."""
        self._size = vocabulary_size
        self._bos = bos
        self._words = ["", "<s>", " Yes", " No"]
        self._ids = {" Yes": 2, " No": 3}

    @property
    def bos_ids(self) -> tuple[int, ...]:
        """Ids put before every prompt."""
        return (1,) if self._bos else ()

    @property
    def pad_id(self) -> int:
        """Id that fills padded positions."""
        return 0

    @property
    def answer(self) -> AnswerIds:
        """Answer words and ids."""
        return AnswerIds(positive_word=" Yes", negative_word=" No", positive=2, negative=3)

    def encode(self, text: str) -> list[int]:
        """Returns ids of plain text, without special tokens."""
        return [self._id(word) for word in _WORDS.findall(text)]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns `encode` of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the ids."""
        return "".join(self._words[number] for number in ids)

    def _id(self, word: str) -> int:
        if word not in self._ids:
            if len(self._words) >= self._size:
                raise ValueError(f"FakeTokenizer: more than {self._size} words; give a larger vocabulary_size")
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]


def tiny_language_model(
    *, vocabulary_size: int = 512, hidden_size: int = 32, n_layers: int = 2, seed: int = 0
) -> torch.nn.Module:
    """Makes a random Llama of the real class, float32, in eval mode.

    Args:
        vocabulary_size: Ids.
        hidden_size: Width, a multiple of 4.
        n_layers: Decoder layers.
        seed: Seed of its weights; torch's global generator is left as it was.

    Returns:
        A `transformers.LlamaForCausalLM` with untied embeddings.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    settings: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "bos_token_id": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: torch.nn.Module = LlamaForCausalLM(LlamaConfig(**settings))
    return model.eval()
