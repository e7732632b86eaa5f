"""The `tiny` dataset: made-up ratings in which users and items differ in taste and quality."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl

from collm.component import BuildContext
from collm.contracts.data import LAST_OUT, InteractionTable
from collm.data.split import split_last_out
from collm_tiny.config import TinyDataConfig

TRAIN_SHARE, VALID_SHARE = 0.7, 0.15
TASTES = 4
ADJECTIVES = ("Quiet", "Golden", "Last", "Burning", "Hidden", "Broken", "Silver", "Endless", "Crooked", "Gentle")
NOUNS = ("River", "Letter", "Empire", "Garden", "Storm", "Stranger", "Voyage", "Orchard")
FORMS = ("The {} {}", "{} {} Returns", "A {} {} in Winter", "{} {}", "Beyond the {} {}")
FIRST_YEAR, N_YEARS = 1931, 70


class TinySource:
    """A `collm.contracts.data.DatasetSource` that needs no file."""

    def __init__(self, config: TinyDataConfig) -> None:
        """Takes the sizes and the seed."""
        self._config = config

    def content_hash(self) -> str:
        """Returns a digest of what decides the ratings."""
        content = self._config.model_dump(include={"n_users", "n_items", "rows_per_user", "seed"})
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def load(self) -> InteractionTable:
        """Makes the table; each user's first rows are training rows, the last ones test rows."""
        config = self._config
        generator = np.random.default_rng(config.seed)
        n, per_user = config.n_users, config.rows_per_user
        user = np.repeat(np.arange(1, n + 1), per_user)
        item = np.concatenate([generator.permutation(config.n_items)[:per_user] + 1 for _ in range(n)])
        place = np.tile(np.arange(per_user), n)
        taste, kind = (generator.normal(size=(size + 1, TASTES)) for size in (n, config.n_items))
        quality = generator.normal(size=config.n_items + 1)
        level = (taste[user] * kind[item]).sum(1) + quality[item] + generator.normal(size=len(user))
        label = (level > 0).astype(np.int8)
        seen, dense = np.unique(item, return_inverse=True)
        first_valid, first_test = int(per_user * TRAIN_SHARE), int(per_user * (TRAIN_SHARE + VALID_SHARE))
        split = np.where(place < first_valid, "train", np.where(place < first_test, "valid", "test"))
        frame = pl.DataFrame(
            {
                "user": user.astype(np.int32),
                "item": (dense + 1).astype(np.int32),
                "label": label,
                "rating": (1 + 4 * label).astype(np.float32),
                "timestamp": (1_000_000_000 + 3600 * place + user).astype(np.int64),
                "split": split.tolist(),
                "row": np.arange(len(user), dtype=np.int64),
                "order": np.arange(len(user), dtype=np.int64),
            }
        )
        notes: tuple[str, ...] = ("Made-up ratings: results mean nothing.",)
        if config.split == LAST_OUT:
            last_out, said = split_last_out(frame, config.last_out)
            frame, notes = frame.with_columns(last_out), (*notes, *said)
        return InteractionTable(
            frame=frame,
            user_ids=["", *(f"u{number}" for number in range(1, n + 1))],
            item_ids=["", *(f"i{number}" for number in seen)],
            titles=["", *(_title(int(number) - 1) for number in seen)],
            tie_rule="no ties within a user",
            notes=notes,
        )


def _title(number: int) -> str:
    """Returns a title; the first 400 differ."""
    rest, adjective = divmod(number, len(ADJECTIVES))
    form, noun = divmod(rest, len(NOUNS))
    year = FIRST_YEAR + 37 * number % N_YEARS
    return f"{FORMS[form].format(ADJECTIVES[adjective], NOUNS[noun])} ({year})"


def build(config: TinyDataConfig, *, context: BuildContext) -> TinySource:
    """Makes the dataset; nothing is read or fetched."""
    del context
    return TinySource(config)
