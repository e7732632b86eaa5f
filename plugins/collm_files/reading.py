"""The interactions of one file or of one file per split: user, item, label, rating, times, split, source row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from collm.ingest.adjacency import read_adjacency
from collm.ingest.bad_rows import BadRows
from collm_files import rows
from collm_files.config import FilesConfig

# Roles of the files of interactions and the splits that they hold with {by: files}.
SPLIT_FILES = {"interactions": "train", "valid_interactions": "valid", "test_interactions": "test"}
NO_TIMES_NOTE = "no timestamps: history follows the order of the file, whose line numbers take the place of times"
ADJACENCY_NOTE = (
    "adjacency list without timestamps: history follows the order of the items in a user's line, which is not known to "
    "be one of time"
)
ORDER_IS_TIME_NOTE = (
    "no timestamps: each user's rows are taken to be in the order of time (dataset.file_order); how rows of different "
    "users lie in time is not known"
)


def wanted_columns(config: FilesConfig) -> dict[str, str]:
    """Returns canonical name -> the file's name of the columns to read of a table of interactions."""
    columns = config.columns
    wanted = ["user", "item", *config.label.column]
    wanted += ["rating"] if config.label.source == "label" and columns.rating else []
    wanted += ["timestamp"] if columns.timestamp else []
    wanted += ["split"] if config.split.by == "column" else []
    wanted += ["title"] if columns.title and config.items is None else []
    return {role: getattr(columns, role) for role in wanted}


def read_interactions(
    config: FilesConfig, files: Mapping[str, Path], bad: BadRows
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Reads all files of interactions, one after another.

    Args:
        config: The settings.
        files: Role -> file.
        bad: Takes rows that cannot be used.

    Returns:
        Columns user, item, label, rating, timestamp, moment, split, row, maybe title; `row` is the line of the file
        (of an adjacency list the number of the pair), counted on from one file to the next. And notes.

    Raises:
        DataError: If a file cannot be read, or lacks a column.
    """
    given = {role: files[role] for role in SPLIT_FILES if role in files}
    frames: list[pl.DataFrame] = []
    notes: list[str] = []
    n_lines = 0
    for role, path in given.items():
        frame, said = _pairs(path, config, bad) if config.layout == "adjacency" else _table(path, config, bad)
        if config.split.by == "files":
            frame = frame.with_columns(pl.lit(SPLIT_FILES[role], dtype=pl.String).alias("split"))
        frame = _with_missing(frame.with_columns(pl.col("line") + n_lines), config)
        n_lines = int(frame["line"].max() or n_lines)
        frames.append(frame)
        notes += [note if len(given) == 1 else f"{path.name}: {note}" for note in said]
    frame = pl.concat([frame.select(frames[0].columns) for frame in frames])
    if config.columns.timestamp is None:
        frame = frame.with_columns(pl.col("line").alias("timestamp"), pl.col("line").alias("moment"))
        notes.insert(0, _no_times(config))
    return frame.rename({"line": "row"}), tuple(notes)


def _no_times(config: FilesConfig) -> str:
    if config.file_order == "time":
        return ORDER_IS_TIME_NOTE
    return ADJACENCY_NOTE if config.layout == "adjacency" else NO_TIMES_NOTE


def _pairs(path: Path, config: FilesConfig, bad: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    found = read_adjacency(path, bad=bad, encoding=config.encoding)
    return found.rows, found.notes()


def _table(path: Path, config: FilesConfig, bad: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    names, rule = wanted_columns(config), config.label
    required = ("user", "item", *rule.column, *(("timestamp",) if "timestamp" in names else ()))
    frame = rows.read_columns(path, names, required=required, bad=bad, encoding=config.encoding)
    notes: tuple[str, ...] = ()
    where: dict[str, Any] = {"file": path.name, "bad": bad}
    if "rating" in names:
        decides = rule.source == "rating" and rule.lowest is None
        frame, notes = rows.without_unrated(frame, rule.not_rated or (), label_from_rating=decides)
        frame = rows.sound_ratings(frame, lowest=rule.lowest, highest=rule.highest, **where)
    if rule.source == "label":
        frame = rows.with_label_column(frame, column=names["label"], **where)
    if "split" in names:
        frame = rows.with_split_column(frame, **where)
    if "timestamp" in names and frame.height:
        frame, form = rows.with_times(frame, column=names["timestamp"], form=config.times, **where)
        notes = (f"timestamps read as {form}", *notes)
    elif "timestamp" in names:
        none = pl.lit(None, dtype=pl.Int64)
        frame = frame.with_columns(none.alias("timestamp"), none.alias("moment"))
    return frame, notes


def _with_missing(frame: pl.DataFrame, config: FilesConfig) -> pl.DataFrame:
    """Adds the canonical columns that the file does not have, and the label of a rating or a positive."""
    if "rating" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("rating"))
    if "label" not in frame.columns:
        above = config.label.positive_above
        is_positive = pl.lit(1) if config.label.source == "positives" else pl.col("rating") > above
        frame = frame.with_columns(is_positive.cast(pl.Int8).alias("label"))
    if "split" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("split"))
    return frame
