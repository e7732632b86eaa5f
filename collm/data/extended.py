"""A prepared dataset with rows that came later: old dense ids keep their numbers, new ones follow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS, InteractionTable, Limit, Visibility
from collm.data.columns import Texts, as_series
from collm.data.pairs import IdPlaces
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.data.prepared_files import MANIFEST

_OF_HISTORIES = ("history_start", "history_end", "kept")
OF_PARENT = "The parent's data: "
LIMITED = "{:,} rows that a limit had left out of the splits appear in histories alone."
AS_OF_SPLIT = (
    "Histories are those of history.visibility: as-of-split: of the new rows they show what is in the training split, "
    "the parent's rows; the new rows themselves enter histories with the next update."
)


@dataclass(frozen=True)
class NewInteractions:
    """Labelled rows that a dataset does not hold yet.

    Attributes:
        frame: Columns `user` and `item` (raw ids), `label` int8, `rating` float32 (null where there is none) and
            `timestamp` int64 in the seconds that the dataset counts in; in the order in which they were given.
        titles: Raw item id -> title, for items that the dataset does not know.
    """

    frame: pl.DataFrame
    titles: Mapping[str, str]

    def new_ids(self, data: PreparedData, side: str) -> list[str]:
        """Returns the raw ids of users or items that the dataset does not know, in the order of their first row."""
        known = IdPlaces(data.user_ids if side == "user" else data.item_ids)
        distinct = self.frame[side].unique(maintain_order=True).to_list()
        return [raw for raw, place in zip(distinct, known.of(distinct), strict=True) if not place]


@dataclass(frozen=True)
class _Extended:
    """The larger table as a source."""

    table: InteractionTable
    content: str

    def content_hash(self) -> str:
        return self.content

    def load(self) -> InteractionTable:
        return self.table


@dataclass(frozen=True)
class _Rule:
    visibility: Visibility


def write_extended(
    data: PreparedData, new: NewInteractions, folder: Path, *, content: str, notes: Sequence[str] = ()
) -> None:
    """Writes a prepared folder of a dataset and rows that came later, which are its test split.

    Its old rows keep their order: training and validation stay what they are, old test rows become training rows, and
    rows outside of every split, or left out by a limit, are outside of every split.

    Args:
        data: The dataset.
        new: The rows.
        folder: Where to write; left as it is where it has been written before.
        content: Digest of both, for the manifest.
        notes: Further sentences that every results table must state.
    """
    if (folder / MANIFEST).exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    source = _Extended(_table(data, new, notes), content)
    prepare(source, limit=Limit(), history=_Rule(data.visibility), folder=partial, recipe={"updated": content})
    partial.rename(folder)


def _table(data: PreparedData, new: NewInteractions, notes: Sequence[str]) -> InteractionTable:
    users, items = new.new_ids(data, "user"), new.new_ids(data, "item")
    titles = [new.titles.get(raw, f"item {raw}") for raw in items]
    old = data.interactions()
    limited = old.filter(~pl.col("kept") & pl.col("split").is_not_null()).height
    old = old.with_columns(split=pl.when("kept").then(pl.col("split").replace("test", "train"))).drop(_OF_HISTORIES)
    said = [*(each if each.startswith(OF_PARENT) else f"{OF_PARENT}{each}" for each in data.notes), *notes]
    said += [LIMITED.format(limited)] if limited else []
    said += [AS_OF_SPLIT] if data.visibility == "as-of-split" else []
    return InteractionTable(
        frame=_with_order(pl.concat([old, _dense(data, new, users, items, old)], how="diagonal")),
        user_ids=_longer(data.user_ids, users),
        item_ids=_longer(data.item_ids, items),
        titles=_longer(data.titles, titles),
        tie_rule=data.tie_rule,
        notes=tuple(dict.fromkeys(said)),
        user_attributes=_with_nulls(data.user_attributes, len(users)),
        item_attributes=_with_nulls(data.item_attributes, len(items)),
        has_times=data.has_times,
    )


def _dense(
    data: PreparedData, new: NewInteractions, users: Sequence[str], items: Sequence[str], old: pl.DataFrame
) -> pl.DataFrame:
    """Returns the new rows with dense ids, behind the last source row; flags of the dataset's own are false there."""
    last = int(np.asarray(data.column("row")).max())
    numbers = {
        side: {raw: place for place, raw in enumerate([*known, *added])}
        for side, known, added in (("user", data.user_ids, users), ("item", data.item_ids, items))
    }
    flags = [name for name, dtype in old.schema.items() if dtype == pl.Boolean]
    row = last + 1 + np.arange(new.frame.height)
    return new.frame.with_columns(
        *(pl.col(side).replace_strict(numbers[side], return_dtype=pl.Int32) for side in ("user", "item")),
        pl.lit("test").alias("split"),
        pl.Series("row", row, dtype=pl.Int64),
        # Behind every old place; of rows of one second the new ones are the later.
        pl.Series("order", row + int(np.asarray(data.column("order")).max()), dtype=pl.Int64),
        *(pl.lit(False).alias(name) for name in flags),
    )


def _with_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers each user's rows anew by time; rows of one second stay in their order."""
    place = frame.select(pl.arg_sort_by("user", "timestamp", "order")).to_series().to_numpy()
    user = frame["user"].to_numpy()[place]
    starts = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]]))
    order = np.empty(frame.height, dtype=np.int64)
    order[place] = np.arange(frame.height) - np.repeat(starts, np.diff([*starts, frame.height]))
    return frame.with_columns(pl.Series("order", order))


def _longer(texts: Sequence[str], more: Sequence[str]) -> Texts:
    return Texts(pl.concat([as_series(texts), pl.Series("", list(more), dtype=pl.String)]).rechunk())


def _with_nulls(attributes: pl.DataFrame | None, n: int) -> pl.DataFrame | None:
    return None if attributes is None else pl.concat([attributes, attributes.clear(n)])


def rows_seen(data: PreparedData) -> Rows:
    """Returns the rows of all splits that they give out."""
    return data.rows_at(np.sort(np.concatenate([data.rows(split).index for split in SPLITS])))
