"""A prepared dataset: a folder of parquet files and a manifest, written once, then only read.

Files: `interactions.parquet` (one line per row of the table, with the offsets of its history), `positives.parquet` (the
flat array that they point into), `users.parquet`, `items.parquet`, `manifest.json`; `user_attributes.parquet` and
`item_attributes.parquet` where the dataset says something of users or items, and `quarantine.csv` where rows of the
source were left out. Anything that reads parquet can use them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, SPLITS, Visibility
from collm.data.columns import Texts
from collm.data.history import HistoryIndex, last_positives
from collm.data.past import COLUMNS, Past, PastIndex, index_past
from collm.data.prepared_files import (
    INTERACTIONS,
    ITEM_ATTRIBUTES,
    ITEMS,
    NO_TIMES,
    POSITIVES,
    USER_ATTRIBUTES,
    USERS,
    ColumnFile,
    files_of,
    read_manifest,
)
from collm.errors import DataError, RunError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """Interactions as arrays, each [n_rows].

    Attributes:
        user: int64 dense ids.
        item: int64 dense ids.
        label: int8.
        timestamp: int64 seconds since 1970 UTC.
        row: int64 source rows.
        index: int64 positions in the prepared table.
    """

    user: Array
    item: Array
    label: Array
    timestamp: Array
    row: Array
    index: Array

    def __len__(self) -> int:
        return len(self.user)

    def take(self, positions: Array) -> Rows:
        """Returns the rows at these positions (int [n], or bool [n_rows])."""
        return Rows(*(getattr(self, name)[positions] for name in self.__dataclass_fields__))


class PreparedData:
    """A prepared dataset, opened for reading.

    Attributes:
        n_users: Users without padding.
        n_items: Items without padding.
        user_ids: Raw user ids by dense id, index 0 = "".
        item_ids: Raw item ids by dense id, index 0 = "".
        titles: Item titles by dense id, index 0 = "".
        notes: Sentences that every results table must state.
        tie_rule: How rows of one second are ordered.
        visibility: Which earlier positives a row sees.
        user_train_rows: int64 [n_users + 1] rows in the full training split, before `limit`.
        item_train_rows: int64 [n_items + 1], the same of items.
        has_times: Whether times tell which of two users' rows was first.
        manifest: Content of `manifest.json`.
    """

    def __init__(self, *, manifest: dict[str, Any], files: dict[str, ColumnFile]) -> None:
        """Takes the manifest and the files by name; `open` finds both."""
        users, items = files[USERS].frame(), files[ITEMS].frame()
        self.manifest = manifest
        self.user_ids: Sequence[str] = Texts(users["id"])
        self.item_ids: Sequence[str] = Texts(items["id"])
        self.titles: Sequence[str] = Texts(items["title"])
        self.n_users, self.n_items = len(self.user_ids) - 1, len(self.item_ids) - 1
        self.user_train_rows: Array = users["train_rows"].to_numpy()
        self.item_train_rows: Array = items["train_rows"].to_numpy()
        self.notes: tuple[str, ...] = tuple(manifest["notes"])
        self.tie_rule: str = manifest["tie_rule"]
        self.visibility: Visibility = manifest["history"]["visibility"]
        self.has_times = manifest.get("times") != NO_TIMES
        self._files = files
        self._table = files[INTERACTIONS]
        # Of a view: its own rows or histories instead of the files'.
        self._own_kept: Array | None = None
        self._own_places: Array | None = None
        self._own_index: HistoryIndex | None = None
        self._find_past: Callable[[], PastIndex] = cache(lambda: index_past(self._past_rows(), self.visibility))

    @classmethod
    def open(cls, folder: Path) -> PreparedData:
        """Opens a folder that `prepare` (or another writer, in the same form) wrote; rows are read when needed.

        Raises:
            DataError: If a file is missing, unreadable, or not the one that the manifest describes.
        """
        manifest = read_manifest(folder)
        return cls(manifest=manifest, files={name: ColumnFile(folder / name, manifest) for name in files_of(manifest)})

    def rows(self, split: str) -> Rows:
        """Returns the rows of a split in source order, after `limit`.

        Raises:
            DataError: If there is no such split, or the file cannot be read.
        """
        if split not in SPLITS:
            raise DataError(f"split '{split}' does not exist; splits are {', '.join(SPLITS)}")
        return self.rows_at(np.flatnonzero((self.split_places() == SPLITS.index(split)) & self._kept))

    def rows_at(self, index: Array) -> Rows:
        """Returns the rows at these positions of the table, int64 [n], whatever their split."""
        return Rows(
            user=self._column("user", index, np.int64),
            item=self._column("item", index, np.int64),
            label=self._column("label", index, np.int8),
            timestamp=self._column("timestamp", index, np.int64),
            row=self._column("row", index, np.int64),
            index=index,
        )

    def history(self, rows: Rows, max_items: int) -> Array:
        """Returns what the rows may see of the past.

        Args:
            rows: Rows of this dataset.
            max_items: Items per row at most.

        Returns:
            int64 [n_rows, max_items] item ids: the last visible positives, oldest first, left-padded with 0.
        """
        return last_positives(self._index.of_rows(rows.index), rows.item, max_items)

    def past(self, rows: Rows, *, max_liked: int, max_disliked: int) -> Past:
        """Returns what the rows may see of the past with both labels and times.

        Where the rows of a dataset lie is found when this is first asked, in time linear in all rows; the liked items
        are those of `history`.

        Args:
            rows: Rows of this dataset.
            max_liked: Liked items per row at most.
            max_disliked: Disliked items per row at most.
        """
        return self._find_past().read(rows.index, rows.item, max_liked=max_liked, max_disliked=max_disliked)

    def past_index(self) -> PastIndex:
        """Returns where the past of all rows of the table lies; `Rows.index` counts in it."""
        return self._find_past()

    def history_groups(self, rows: Rows) -> Array:
        """Returns int64 [n_rows]: rows of one user that see the same history share a number."""
        return rows.user.astype(np.int64) * (len(self._index.positives) + 1) + self._index.end[rows.index]

    def trained_on(self, rows: Rows) -> PreparedData:
        """Returns the same data with these rows as its training split; those of other splits leave them.

        Counts of training rows per user and item, which decide warm and cold, stay those of the whole split, and so do
        histories.
        """
        train, places = SPLITS.index("train"), self.split_places()
        kept = (places != train) & self._kept
        kept[rows.index] = True
        view = copy.copy(self)
        view._own_kept = kept
        if (places[rows.index] != train).any():
            view._own_places = places.copy()
            view._own_places[rows.index] = train
        return view

    def counting(self, rows: Rows) -> PreparedData:
        """Returns the same data where these rows count as training rows of users and items; its splits stay."""
        view = copy.copy(self)
        view.user_train_rows = np.bincount(rows.user, minlength=self.n_users + 1)
        view.item_train_rows = np.bincount(rows.item, minlength=self.n_items + 1)
        return view

    def history_index(self) -> HistoryIndex:
        """Returns where the histories of all rows of the table lie; `Rows.index` counts in it."""
        return self._index

    def column(self, name: str) -> Array:
        """Returns one column of the whole table, in its own type; not to be changed.

        Raises:
            DataError: If it cannot be read.
        """
        return self._table.array(name)

    def optional_column(self, name: str) -> Array | None:
        """Returns one column of the whole table, or None where the dataset did not give it."""
        return self._table.array(name) if name in self._table.names() else None

    def split_places(self) -> Array:
        """Returns uint8 [n_rows]: each row's place in `SPLITS`, before `limit`; `len(SPLITS)` outside every split."""
        return self._table.split_places() if self._own_places is None else self._own_places

    def interactions(self) -> pl.DataFrame:
        """Returns all rows: `user`, `item`, `label`, `timestamp`, `split`, `order` and what the recipe kept beside.

        Reads all columns into memory; `rows` reads those of `Rows` only.
        """
        frame = self._table.frame()
        if self._own_kept is not None:
            frame = frame.with_columns(pl.Series("kept", self._own_kept))
        if self._own_places is not None:
            train = pl.Series(self._own_places == SPLITS.index("train"))
            frame = frame.with_columns(split=pl.when(train).then(pl.lit("train")).otherwise(pl.col("split")))
        return frame

    def user_table(self) -> pl.DataFrame:
        """Returns `user` (dense id), `id` (raw id), `train_rows`; padding included."""
        return self._files[USERS].frame()

    def item_table(self) -> pl.DataFrame:
        """Returns `item` (dense id), `id` (raw id), `train_rows`, `title`; padding included."""
        return self._files[ITEMS].frame()

    @property
    def user_attributes(self) -> pl.DataFrame | None:
        """What the dataset says of users, one row per dense id, padding included; None where it says nothing."""
        return self._files[USER_ATTRIBUTES].frame() if USER_ATTRIBUTES in self._files else None

    @property
    def item_attributes(self) -> pl.DataFrame | None:
        """The same of items."""
        return self._files[ITEM_ATTRIBUTES].frame() if ITEM_ATTRIBUTES in self._files else None

    def with_histories(
        self, index: HistoryIndex, titles: Sequence[str], *, past: Callable[[], PastIndex] | None = None
    ) -> PreparedData:
        """Returns the same users and items with other rows: `Rows.index` then counts in `index`.

        Args:
            index: Histories of the other rows.
            titles: Titles by item id; may hold more than the dataset's items, which encoders see as padding.
            past: Gives the past of the other rows with both labels; None = it cannot be asked.
        """
        view = copy.copy(self)
        view._own_index, view._find_past = index, past or _no_past
        view.titles = titles
        return view

    def counts(self) -> dict[str, int]:
        """Returns rows per split after `limit`, and the users and items of the whole table."""
        return dict(self.manifest["counts"])

    def full_counts(self) -> dict[str, int]:
        """Returns the same before `limit`."""
        return dict(self.manifest["full_counts"])

    @property
    def _kept(self) -> Array:
        return self._table.array("kept") if self._own_kept is None else self._own_kept

    @property
    def _index(self) -> HistoryIndex:
        if self._own_index is not None:
            return self._own_index
        return HistoryIndex(
            positives=self._files[POSITIVES].array("item"),
            start=self._table.array("history_start"),
            end=self._table.array("history_end"),
            repeats=int(self.manifest["history"]["repeats"]),
        )

    def _past_rows(self) -> pl.DataFrame:
        """Returns the columns of the whole table that decide the past."""
        names = (*COLUMNS, SAMPLED) if SAMPLED in self._table.names() else COLUMNS
        return pl.DataFrame({name: self._table.series(pl.col(name)) for name in names})

    def _column(self, name: str, index: Array, dtype: type[np.generic]) -> Array:
        return self._table.array(name)[index].astype(dtype, copy=False)


def _no_past() -> PastIndex:
    raise RunError("these rows are given with their histories alone; what their users disliked is not known")
