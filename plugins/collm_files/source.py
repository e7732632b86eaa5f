"""The dataset source: files -> usable rows -> labels, order, split -> table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from collm.component import BuildContext
from collm.contracts.data import SPLITS, InteractionTable
from collm.data.split import (
    LAST_OUT_NOTE,
    RANDOM_NOTE,
    split_at_random,
    split_by_dates,
    split_by_global_time,
    split_last_out,
)
from collm.data.table import Attributes, Recipe, build_table, with_order
from collm.errors import DataError
from collm.files import file_digest
from collm.ingest.bad_rows import BadRows
from collm.ingest.label_values import rare_class
from collm.ingest.read_rows import sample_file
from collm.ingest.table_files import file_format, parts_of
from collm.ingest.times import FIRST_YEAR, LAST_YEAR
from collm_files import rows, titles
from collm_files.attributes import read_attributes
from collm_files.config import FilesConfig

# Outside every time that is accepted: all rows are before, between or after the two dates of the spec.
_START, _END = date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 1, 2)
TIE_RULE = "rows of one user at the same moment keep the order of the file"
FILE_ORDER_RULE = "there are no times: a user's rows keep the order of the file"
NO_TIMES_NOTE = "no timestamps: history follows the order of the file, whose line numbers stand in place of times"


def build(config: FilesConfig, *, context: BuildContext) -> FilesSource:  # noqa: ARG001 - the factory contract
    """Builds `files`."""
    return FilesSource(config)


class FilesSource:
    """Reads interactions and titles from files of the user's own."""

    def __init__(self, config: FilesConfig) -> None:
        """Takes the settings; nothing is read yet."""
        self.config = config

    def content_hash(self) -> str:
        """Returns a digest of the files' bytes and of the formats that they are read in.

        Raises:
            DataError: If a file is missing; names it.
        """
        digest = hashlib.sha256()
        for role, path in self._files().items():
            for part in parts_of(path):
                name = part.path.relative_to(path).as_posix() if path.is_dir() else ""
                digest.update(f"{role}\0{name}\0{file_format(part.path)}\0{file_digest(part.path)}\0".encode())
        return digest.hexdigest()

    def look(self) -> None:
        """Reads the first rows of each file alone.

        Raises:
            DataError: If a file is missing or unreadable, or lacks a column that the spec names.
        """
        columns = self.config.columns
        self._files()
        wanted = ["user", "item", self.config.label.source, *self._optional()]
        names = {role: getattr(columns, role) for role in wanted}
        rows.check_names(self.config.interactions, names, sample_file(self.config.interactions).rows.columns)
        if self.config.items is not None and columns.title is not None:
            titled = {"items_key" if columns.items_key else "item": columns.items_key or columns.item}
            has = sample_file(self.config.items).rows.columns
            attributes = {f"{rows.ATTRIBUTE}{name}": name for name in self.config.item_attributes}
            rows.check_names(self.config.items, {**titled, "title": columns.title, **attributes}, has)
        if self.config.users is not None:
            keyed = {"users_key" if columns.users_key else "user": columns.users_key or columns.user}
            attributes = {f"{rows.ATTRIBUTE}{name}": name for name in self.config.user_attributes}
            rows.check_names(self.config.users, {**keyed, **attributes}, sample_file(self.config.users).rows.columns)

    def load(self) -> InteractionTable:
        """Reads the files.

        Raises:
            DataError: If a file is missing or unreadable, lacks a column, or no rows, positives or split are left;
                `BadRowsError` where more rows are unusable than `max_bad_rows`.
        """
        config = self.config
        self._files()
        bad = BadRows(allowed=config.max_bad_rows)
        frame, notes = self._rows(bad)
        named, title_notes = self._titles(frame, bad)
        named, cut_note = titles.cut_titles(named, config.longest_title)
        bad.check()
        if frame.is_empty():
            raise DataError(f"{config.interactions}: holds no usable rows")
        frame, more = self._without_duplicates(frame)
        self._check_labels(frame)
        rare = rare_class(int(frame["label"].sum()), frame.height)
        frame = self._split(_ordered(frame))
        known, attribute_notes = self._attributes()
        notes = (
            *notes,
            *self._split_notes(),
            *filter(None, [rare]),
            *more,
            *title_notes,
            *cut_note,
            *attribute_notes,
            *bad.notes(),
        )
        tie_rule = TIE_RULE if config.columns.timestamp else FILE_ORDER_RULE
        kept = [name for name in frame.columns if name not in ("moment", "title")]
        table = build_table(frame.select(kept), named, Recipe(tie_rule=tie_rule, notes=notes), known)
        return replace(table, bad_rows=bad.frame() if len(bad) else None)

    def _files(self) -> dict[str, Path]:
        given = {"interactions": self.config.interactions, "items": self.config.items, "users": self.config.users}
        files = {role: path for role, path in given.items() if path is not None}
        for role, path in files.items():
            if not path.exists():
                raise DataError(f"dataset.{role}: '{path}': no such file; a relative path starts at the spec's folder")
        return files

    def _rows(self, bad: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """Reads the interactions: user, item, label, rating, timestamp, moment, split, row, maybe title."""
        config, path = self.config, self.config.interactions
        label_from = config.label.source
        wanted = ["user", "item", label_from, *self._optional()]
        names = {role: getattr(config.columns, role) for role in wanted}
        required = ("user", "item", label_from, *(("timestamp",) if "timestamp" in names else ()))
        frame = rows.read_columns(path, names, required=required, bad=bad, encoding=config.encoding)
        notes: tuple[str, ...] = ()
        where: dict[str, Any] = {"file": path.name, "bad": bad}
        if "rating" in names:
            frame, notes = rows.without_unrated(
                frame,
                config.label.not_rated or (),
                label_from_rating=label_from == "rating" and config.label.lowest is None,
            )
            frame = rows.sound_ratings(frame, lowest=config.label.lowest, highest=config.label.highest, **where)
        if label_from == "label":
            frame = rows.with_label_column(frame, column=names["label"], **where)
        if "split" in names:
            frame = rows.with_split_column(frame, **where)
        line = pl.col("line")
        if "timestamp" in names and frame.height:
            frame, form = rows.with_times(frame, column=names["timestamp"], form=config.times, **where)
            notes = (f"timestamps read as {form}", *notes)
        else:
            notes = (NO_TIMES_NOTE, *notes)
            frame = frame.with_columns(line.alias("timestamp"), line.alias("moment"))
        return _with_missing(frame, config).rename({"line": "row"}), notes

    def _optional(self) -> list[str]:
        columns, config = self.config.columns, self.config
        optional = ["rating"] if config.label.source == "label" and columns.rating else []
        optional += ["timestamp"] if columns.timestamp else []
        optional += ["split"] if config.split.by == "column" else []
        return optional + (["title"] if columns.title and config.items is None else [])

    def _titles(self, frame: pl.DataFrame, bad: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
        columns, path = self.config.columns, self.config.items
        if path is not None:
            assert columns.title is not None
            key = columns.items_key or columns.item
            found = titles.read_titles(path, key=key, title=columns.title, bad=bad, encoding=self.config.encoding)
            titles.check_match(frame, found, interactions=self.config.interactions, items=path, key=key)
            found, notes = titles.without_missing_words(found)
            return found, (*notes, *titles.untitled_note(frame["item"], found))
        if columns.title is None:
            return pl.DataFrame(schema={"item": pl.String, "title": pl.String}), (titles.NONE_NOTE,)
        found, notes = titles.titles_beside(frame)
        return found, (*notes, *titles.untitled_note(frame["item"], found))

    def _attributes(self) -> tuple[Attributes, tuple[str, ...]]:
        columns, encoding = self.config.columns, self.config.encoding
        users = items = None
        notes: tuple[str, ...] = ()
        if self.config.users is not None:
            key, names = columns.users_key or columns.user, self.config.user_attributes
            users, notes = read_attributes(self.config.users, names, side="user", key=key, encoding=encoding)
        if self.config.items is not None and self.config.item_attributes:
            key, names = columns.items_key or columns.item, self.config.item_attributes
            items, more = read_attributes(self.config.items, names, side="item", key=key, encoding=encoding)
            notes = (*notes, *more)
        return Attributes(users, items), notes

    def _without_duplicates(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
        rule = self.config.duplicates
        kept = frame.sort("moment", "row").unique(["user", "item"], keep="last", maintain_order=True).sort("row")
        n_more = frame.height - kept.height
        if rule == "keep-all" or not n_more:
            return frame, (f"{n_more} rows repeat a user and item and are kept",) if n_more else ()
        if rule == "refuse":
            first = frame.filter(pl.struct("user", "item").is_duplicated())["row"].head(5).to_list()
            raise DataError(
                f"{self.config.interactions}: {n_more} rows repeat a user and item (first in lines "
                f"{', '.join(map(str, first))}), dataset.duplicates is 'refuse'; 'keep-last' or 'keep-all' go on"
            )
        return kept, (f"{n_more} rows repeat a user and item; of each pair only the newest is kept",)

    def _check_labels(self, frame: pl.DataFrame) -> None:
        found = frame["label"].unique().to_list()
        if len(found) > 1:
            return
        class_name = "positive" if found == [0] else "negative"
        if self.config.label.source == "label":
            detail = f"column '{self.config.columns.label}' is {found[0]} in all {frame.height} rows"
        else:
            above = self.config.label.positive_above
            detail = f"ratings run from {frame['rating'].min()} to {frame['rating'].max()}, positive_above is {above}"
        raise DataError(f"{self.config.interactions}: no row is {class_name}: {detail}; both are needed to learn from")

    def _split(self, frame: pl.DataFrame) -> pl.DataFrame:
        rule, time = self.config.split, frame["timestamp"]
        if rule.by == "quantiles":
            split = split_by_global_time(time, valid=rule.valid or 0.0, test=rule.test or 0.0)
        elif rule.by == "dates":
            assert rule.valid_from is not None and rule.test_from is not None
            split = split_by_dates(time, train=_START, valid=rule.valid_from, test=rule.test_from, end=_END)
        elif rule.by == "leave-last-out":
            split = split_last_out(frame["user"], frame["order"])
        elif rule.by == "random":
            shares = {"valid": rule.valid or 0.0, "test": rule.test or 0.0}
            split = split_at_random(frame.height, **shares, seed=rule.seed or 0)
        else:
            split = frame["split"]
        frame = frame.with_columns(split.alias("split"))
        self._check_splits(frame)
        return frame

    def _check_splits(self, frame: pl.DataFrame) -> None:
        counts = dict(frame["split"].value_counts().iter_rows())
        if not (empty := [name for name in SPLITS if not counts.get(name)]):
            return
        has = ", ".join(f"{name or 'none'} {n}" for name, n in counts.items())
        detail = f"of {frame.height} rows split by {self.config.split.by}: {has}"
        if self.config.split.by in ("quantiles", "dates"):
            first, last = (datetime.fromtimestamp(frame["timestamp"].sort()[place], UTC).date() for place in (0, -1))
            detail += f"; times run from {first} to {last}"
        raise DataError(
            f"dataset.split: no rows for {', '.join(empty)} ({detail}); choose another rule, shares or dates"
        )

    def _split_notes(self) -> tuple[str, ...]:
        notes = {"leave-last-out": (LAST_OUT_NOTE,), "random": (RANDOM_NOTE,)}
        return notes.get(self.config.split.by, ())


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Orders rows of one second by their microseconds where the file has them."""
    finer = with_order(frame.select("user", pl.col("moment").alias("timestamp"), "row"))
    return frame.with_columns(finer["order"])


def _with_missing(frame: pl.DataFrame, config: FilesConfig) -> pl.DataFrame:
    """Adds the canonical columns that the file does not have, and the label of a rating."""
    if "rating" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("rating"))
    if "label" not in frame.columns:
        frame = frame.with_columns((pl.col("rating") > config.label.positive_above).cast(pl.Int8).alias("label"))
    if "split" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("split"))
    return frame
