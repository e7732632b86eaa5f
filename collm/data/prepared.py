"""A prepared dataset: a folder of parquet files and a manifest, written once, then only read.

Files: `interactions.parquet` (one line per row of the table, with the offsets of its history), `positives.parquet` (the
flat array that they point into), `users.parquet`, `items.parquet`, `manifest.json`, and `quarantine.csv` where rows of
the source were left out. Anything that reads parquet can use them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS, DatasetSource, InteractionTable, Limit, Visibility
from collm.data.bad_rows import QUARANTINE
from collm.data.checks import check_table, table_counts
from collm.data.history import HistoryIndex, index_histories, last_positives
from collm.data.wheels import file_sha256
from collm.errors import DataError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
FILES = ("interactions.parquet", "positives.parquet", "users.parquet", "items.parquet")

Array = np.ndarray[Any, Any]


class HistoryRule(Protocol):
    """The part of a spec that decides which history a row sees."""

    @property
    def visibility(self) -> Visibility:
        """Which earlier positives a row sees."""
        ...


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


def draw_whole_users(rows: Rows, n: int, seed: int) -> Rows:
    """Draws users at random until their rows number at least `n`.

    A smaller `n` with the same seed draws a subset of the same users.

    Args:
        rows: Where to draw from.
        n: Rows wanted, at least 1; the last user drawn may go beyond it.
        seed: Decides the draw.

    Returns:
        All rows of the drawn users, in their order; `rows` itself where it holds `n` rows or fewer.
    """
    return draw_whole_groups(rows, rows.user, n, seed)


def draw_whole_groups(rows: Rows, groups: Array, n: int, seed: int) -> Rows:
    """Draws groups of rows at random until their rows number at least `n`.

    A smaller `n` with the same seed draws a subset of the same groups.

    Args:
        rows: Where to draw from.
        groups: int64 [n_rows] group of each row.
        n: Rows wanted, at least 1; the last group drawn may go beyond it.
        seed: Decides the draw.

    Returns:
        All rows of the drawn groups, in their order; `rows` itself where it holds `n` rows or fewer.
    """
    if n >= len(rows):
        return rows
    _, which, n_rows = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(seed).permutation(len(n_rows))
    n_groups = int(np.searchsorted(np.cumsum(n_rows[drawn]), n)) + 1
    is_drawn = np.zeros(len(n_rows), dtype=bool)
    is_drawn[drawn[:n_groups]] = True
    return rows.take(is_drawn[which])


def prepare(source: DatasetSource, *, limit: Limit, history: HistoryRule, seed: int, folder: Path) -> None:
    """Reads a dataset, checks it, finds every row's history, and writes the prepared folder.

    Histories and training counts come from the full table; `limit` only decides which rows the splits give out.

    Args:
        source: The dataset.
        limit: Rows per split at most (whole users are drawn).
        history: Which earlier positives a row sees.
        seed: Decides which users the limits draw.
        folder: Where to write; made if missing. The caller makes the folder's appearance atomic.

    Raises:
        DataError: If the source is malformed or its counts differ from the recipe's.
    """
    table = source.load()
    check_table(table)
    table_frame = table.frame.sort("row")
    index = index_histories(table_frame, history.visibility)
    frame = table_frame.with_columns(
        pl.Series("history_start", index.start),
        pl.Series("history_end", index.end),
        pl.Series("kept", _kept(table_frame, limit, seed)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "interactions.parquet")
    pl.DataFrame({"item": index.positives}).write_parquet(folder / "positives.parquet")
    train = frame.filter(pl.col("split") == "train")
    _entities(table.user_ids, train["user"], "user").write_parquet(folder / "users.parquet")
    items = _entities(table.item_ids, train["item"], "item")
    items.with_columns(pl.Series("title", list(table.titles))).write_parquet(folder / "items.parquet")
    manifest = _manifest(table, frame, limit=limit, seed=seed, visibility=history.visibility, repeats=index.repeats)
    if table.bad_rows is not None:
        table.bad_rows.write_csv(folder / QUARANTINE)
    manifest["source_sha256"] = source.content_hash()
    manifest["files"] = {name: _file_facts(folder / name) for name in FILES}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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
        item_train_rows: int64 [n_items + 1] likewise.
        manifest: Content of `manifest.json`.
    """

    def __init__(self, *, manifest: dict[str, Any], frames: dict[str, pl.DataFrame]) -> None:
        """Takes the manifest and the content of the parquet files by file stem; `open` reads both."""
        users, items, table = frames["users"], frames["items"], frames["interactions"]
        self.manifest = manifest
        self.user_ids: list[str] = users["id"].to_list()
        self.item_ids: list[str] = items["id"].to_list()
        self.titles: list[str] = items["title"].to_list()
        self.n_users, self.n_items = len(self.user_ids) - 1, len(self.item_ids) - 1
        self.user_train_rows: Array = users["train_rows"].to_numpy()
        self.item_train_rows: Array = items["train_rows"].to_numpy()
        self.notes: tuple[str, ...] = tuple(manifest["notes"])
        self.tie_rule: str = manifest["tie_rule"]
        self.visibility: Visibility = manifest["history"]["visibility"]
        self._positives: Array = frames["positives"]["item"].to_numpy()
        self._start: Array = table["history_start"].to_numpy()
        self._end: Array = table["history_end"].to_numpy()
        self._table = table
        self._frames = frames

    @classmethod
    def open(cls, folder: Path) -> PreparedData:
        """Opens a folder that `prepare` (or someone else, to the same form) wrote.

        Raises:
            DataError: If a file is missing, unreadable, or not the one that the manifest describes.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: not a prepared dataset, '{MANIFEST}' cannot be read ({error})") from error
        if manifest.get("schema") != SCHEMA_VERSION:
            raise DataError(
                f"{folder / MANIFEST}: schema is {manifest.get('schema')}, this version reads {SCHEMA_VERSION}"
            )
        return cls(manifest=manifest, frames={Path(name).stem: _read(folder / name, manifest) for name in FILES})

    def rows(self, split: str) -> Rows:
        """Returns the rows of a split in source order, after `limit`.

        Raises:
            DataError: If there is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"split '{split}' does not exist; splits are {', '.join(SPLITS)}")
        chosen = (self._table["split"] == split).fill_null(False) & self._table["kept"]
        return _rows(self._table, chosen.arg_true().to_numpy().astype(np.int64))

    def history(self, rows: Rows, max_items: int) -> Array:
        """Returns what the rows may see of the past.

        Args:
            rows: Rows of this dataset.
            max_items: Items per row at most.

        Returns:
            int64 [n_rows, max_items] item ids: the last visible positives, oldest first, left-padded with 0.
        """
        repeats = int(self.manifest["history"]["repeats"])
        index = HistoryIndex(self._positives, self._start[rows.index], self._end[rows.index], repeats)
        return last_positives(index, rows.item, max_items)

    def history_groups(self, rows: Rows) -> Array:
        """Returns int64 [n_rows]: rows of one user that see the same history share a number."""
        return rows.user.astype(np.int64) * (len(self._positives) + 1) + self._end[rows.index]

    def trained_on(self, rows: Rows) -> PreparedData:
        """Returns the same data with these rows as its training split.

        Counts of training rows per user and item, which decide warm and cold, stay those of the whole split.

        Args:
            rows: Some of the rows of the training split.
        """
        kept = (self._table["split"] != "train").fill_null(True).to_numpy() & self._table["kept"].to_numpy()
        kept[rows.index] = True
        view = copy.copy(self)
        view._table = self._table.with_columns(pl.Series("kept", kept))
        return view

    def interactions(self) -> pl.DataFrame:
        """Returns all rows: `user`, `item`, `label`, `timestamp`, `split`, `order` and what the recipe kept beside."""
        return self._table

    def user_table(self) -> pl.DataFrame:
        """Returns `user` (dense id), `id` (raw id), `train_rows`; padding included."""
        return self._frames["users"]

    def item_table(self) -> pl.DataFrame:
        """Returns `item` (dense id), `id` (raw id), `train_rows`, `title`; padding included."""
        return self._frames["items"]

    def with_histories(self, index: HistoryIndex, titles: Sequence[str]) -> PreparedData:
        """Returns the same users and items with other rows: `Rows.index` then counts in `index`.

        Args:
            index: Histories of the other rows.
            titles: Titles by item id; may hold more than the dataset's items, which encoders see as padding.
        """
        view = copy.copy(self)
        view._positives, view._start, view._end = index.positives, index.start, index.end
        view.titles = list(titles)
        view.manifest = self.manifest | {"history": self.manifest["history"] | {"repeats": index.repeats}}
        return view

    def counts(self) -> dict[str, int]:
        """Returns rows per split after `limit`, and the users and items of the whole table."""
        return dict(self.manifest["counts"])

    def full_counts(self) -> dict[str, int]:
        """Returns the same before `limit`."""
        return dict(self.manifest["full_counts"])


def _rows(frame: pl.DataFrame, index: Array) -> Rows:
    user, item, label, timestamp, row = (
        frame[name].to_numpy()[index].astype(dtype)
        for name, dtype in (
            ("user", np.int64),
            ("item", np.int64),
            ("label", np.int8),
            ("timestamp", np.int64),
            ("row", np.int64),
        )
    )
    return Rows(user, item, label, timestamp, row, index)


def _kept(frame: pl.DataFrame, limit: Limit, seed: int) -> Array:
    """Returns bool [n_rows]: rows that their split gives out. Rows outside every split are never given out."""
    kept = np.zeros(frame.height, dtype=bool)
    for name in SPLITS:
        rows = _rows(frame, (frame["split"] == name).fill_null(False).arg_true().to_numpy().astype(np.int64))
        n = getattr(limit, name)
        kept[(rows if n is None else draw_whole_users(rows, n, seed)).index] = True
    return kept


def _entities(raw_ids: Any, trained: pl.Series, name: str) -> pl.DataFrame:
    """Returns one line per dense id, padding included: the id, the raw id, its rows in the full training split."""
    n_rows = np.bincount(trained.to_numpy(), minlength=len(raw_ids)).astype(np.int64)
    return pl.DataFrame({name: np.arange(len(raw_ids), dtype=np.int32), "id": list(raw_ids), "train_rows": n_rows})


def _manifest(
    table: InteractionTable, frame: pl.DataFrame, *, limit: Limit, seed: int, visibility: Visibility, repeats: int
) -> dict[str, Any]:
    full = table_counts(table)
    kept = frame.filter("kept")["split"].value_counts()
    counts = {**full, **dict(kept.iter_rows())}
    cut = [f"{name} {counts[name]} of {full[name]} rows" for name in SPLITS if counts[name] < full[name]]
    notes = [*table.notes]
    if cut:
        notes.append(
            f"dataset.limit: {', '.join(cut)} (whole users drawn, seed {seed}); warm/cold use all training rows"
        )
    return {
        "schema": SCHEMA_VERSION,
        "counts": counts,
        "full_counts": full,
        "expected": dict(table.expected),
        "limit": limit.model_dump(),
        "seed": seed if cut else None,
        "history": {"visibility": visibility, "repeats": repeats, "items": "label 1"},
        "tie_rule": table.tie_rule,
        "notes": notes,
    }


def _file_facts(path: Path) -> dict[str, Any]:
    return {
        "bytes": path.stat().st_size,
        "rows": pl.scan_parquet(path).select(pl.len()).collect().item(),
        "sha256": file_sha256(path),
    }


def _read(path: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    expected = manifest["files"].get(path.name, {}).get("rows")
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove the folder and prepare the dataset again") from error
    if frame.height != expected:
        raise DataError(f"{path}: holds {frame.height} rows, the manifest says {expected}; prepare the dataset again")
    return frame
