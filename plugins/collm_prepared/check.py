"""Whether a folder is in the prepared form: columns, values, and the histories of some users."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, SPLITS
from collm.data.checks import SCHEMA
from collm.data.columns import count_ids
from collm.data.history import index_histories
from collm.data.prepared_files import (
    FILES,
    INTERACTIONS,
    ITEM_ATTRIBUTES,
    ITEMS,
    POSITIVES,
    USER_ATTRIBUTES,
    USERS,
    ColumnFile,
    files_of,
)
from collm.errors import DataError

HISTORY_COLUMNS = {"history_start": pl.Int64, "history_end": pl.Int64, "kept": pl.Boolean}
USER_COLUMNS = {"user": pl.Int32, "id": pl.String, "train_rows": pl.Int64}
ITEM_COLUMNS = {"item": pl.Int32, "id": pl.String, "train_rows": pl.Int64, "title": pl.String}
N_SAMPLED_USERS = 200

Array = np.ndarray[Any, Any]


def check_columns(folder: Path, file: str, columns: Mapping[str, Any]) -> None:
    """Checks names and types of a file's columns.

    Raises:
        DataError: With every column that is missing or of another type.
    """
    try:
        found = pl.scan_parquet(folder / file, glob=False).collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{folder / file}: cannot be read ({error})") from error
    wrong = [
        f"column '{name}' is {found.get(name, 'missing')}, expected {dtype}"
        for name, dtype in columns.items()
        if found.get(name) != dtype
    ]
    if wrong:
        raise DataError(f"{folder / file}: {'; '.join(wrong)}")


def check_folder(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Checks a folder with histories, a few columns at a time.

    All rows: types, ids, labels, splits, counts, source order, offsets. The users drawn: order, and every history.

    Raises:
        DataError: With all problems found.
    """
    check_columns(folder, INTERACTIONS, {**SCHEMA, **HISTORY_COLUMNS})
    for file, columns in ((POSITIVES, {"item": pl.Int32}), (USERS, USER_COLUMNS), (ITEMS, ITEM_COLUMNS)):
        check_columns(folder, file, columns)

    def opened() -> dict[str, ColumnFile]:
        # Files keep the columns that they have read: opened again for each rule, they are never all in memory.
        return {name: ColumnFile(folder / name, manifest) for name in FILES}

    read_attributes(folder, manifest)
    problems = [*_nulls(opened()), *_entities(opened())]
    if not problems:
        problems = [*_rows(opened()[INTERACTIONS], manifest), *_train_rows(opened()), *_offsets(opened())]
    if not problems:
        problems = list(_histories(opened(), manifest))
    if problems:
        raise DataError(f"{folder}: " + "; ".join(problems))


def read_attributes(folder: Path, manifest: Mapping[str, Any]) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Returns the attributes of users and of items, None where the folder has none.

    Raises:
        DataError: If a file does not have one row per dense id, padding included.
    """
    found = []
    for name, entities in ((USER_ATTRIBUTES, USERS), (ITEM_ATTRIBUTES, ITEMS)):
        attributes = ColumnFile(folder / name, manifest).frame() if name in files_of(manifest) else None
        wanted = manifest["files"][entities]["rows"]
        if attributes is not None and attributes.height != wanted:
            raise DataError(f"{folder / name}: has {attributes.height} rows, {entities} has {wanted}: one per dense id")
        found.append(attributes)
    return found[0], found[1]


def _nulls(files: Mapping[str, ColumnFile]) -> Iterator[str]:
    for name, file in files.items():
        allowed = ("rating", "split") if name == INTERACTIONS else ()
        columns = [
            column for column in pl.scan_parquet(file.path, glob=False).collect_schema() if column not in allowed
        ]
        wanted = [column for column in columns if column in _known_columns(name)]
        counts = pl.scan_parquet(file.path, glob=False).select(pl.col(wanted).null_count()).collect(engine="streaming")
        for column, n_null in counts.row(0, named=True).items():
            if n_null:
                yield f"{name}: column '{column}' lacks a value in {n_null} rows"


def _known_columns(file: str) -> set[str]:
    known = {
        INTERACTIONS: {*SCHEMA, *HISTORY_COLUMNS},
        POSITIVES: {"item"},
        USERS: set(USER_COLUMNS),
        ITEMS: set(ITEM_COLUMNS),
    }
    return known[file]


def _entities(files: Mapping[str, ColumnFile]) -> Iterator[str]:
    for name, key in ((USERS, "user"), (ITEMS, "item")):
        frame = files[name].frame()
        if not np.array_equal(frame[key].to_numpy(), np.arange(frame.height)) or frame.height < 2:
            yield f"{name}: column '{key}' must run 0, 1, 2 ... without gaps"
        elif frame["id"][0] != "" or frame["id"].n_unique() != frame.height:
            yield f"{name}: column 'id' must be unique, with '' first for the padding id 0"


def _rows(table: ColumnFile, manifest: Mapping[str, Any]) -> Iterator[str]:
    label, row, split, kept = table.array("label"), table.array("row"), table.split_places(), table.array("kept")
    if not ((label == 0) | (label == 1)).all():
        yield "column 'label' may hold 0 and 1 alone"
    if not (row[1:] > row[:-1]).all():
        yield f"{INTERACTIONS} must be sorted by 'row', which is unique"
    names = set(table.series(pl.col("split").unique()).drop_nulls().to_list())
    if not names <= set(SPLITS):
        yield f"column 'split' holds {sorted(names - set(SPLITS))}, allowed are {', '.join(SPLITS)} or null"
    if not np.array_equal(kept, split < len(SPLITS)):
        yield "column 'kept' must be true in the rows of a split and false in the others"
    for number, name in enumerate(SPLITS):
        found, stated = int((split == number).sum()), manifest["counts"].get(name)
        if found != stated or not found:
            yield f"{name}: found {found} rows, the manifest says {stated}; every split needs some"


def _train_rows(files: Mapping[str, ColumnFile]) -> Iterator[str]:
    table = files[INTERACTIONS]
    is_train = table.split_places() == SPLITS.index("train")
    if SAMPLED in table.names():
        is_train = is_train & ~table.array(SAMPLED)
    for name, key in ((USERS, "user"), (ITEMS, "item")):
        ids, stated = table.array(key), files[name].frame()["train_rows"].to_numpy()
        if int(ids.min()) < 1 or int(ids.max()) >= len(stated):
            yield f"column '{key}' runs {ids.min()}..{ids.max()}, {name} has 1..{len(stated) - 1}"
        elif n_wrong := int((count_ids(ids, len(stated), where=is_train) != stated).sum()):
            yield f"{name}: column 'train_rows' is wrong for {n_wrong} of {len(stated) - 1}"


def _offsets(files: Mapping[str, ColumnFile]) -> Iterator[str]:
    start, end = (files[INTERACTIONS].array(name) for name in ("history_start", "history_end"))
    items, n_items = files[POSITIVES].array("item"), files[ITEMS].frame().height - 1
    if int(start.min()) < 0 or (end < start).any() or int(end.max()) > len(items):
        yield f"history_start and history_end must lie in 0..{len(items)}, the first not above the second"
    if len(items) and (int(items.min()) < 1 or int(items.max()) > n_items):
        yield f"{POSITIVES}: items run {items.min()}..{items.max()}, {ITEMS} has 1..{n_items}"


def _histories(files: Mapping[str, ColumnFile], manifest: Mapping[str, Any]) -> Iterator[str]:
    """Computes the histories of some users again."""
    n_users = files[USERS].frame().height - 1
    drawn = np.random.default_rng(0).permutation(n_users)[:N_SAMPLED_USERS] + 1
    columns = [*SCHEMA, "history_start", "history_end"]
    wanted = pl.Series(drawn.astype(np.int32))
    lazy = (
        pl.scan_parquet(files[INTERACTIONS].path, glob=False)
        .select(columns)
        .filter(pl.col("user").is_in(wanted.implode()))
    )
    frame = lazy.collect(engine="streaming").sort("user", "order")
    same_user = pl.col("user") == pl.col("user").shift()
    strays = (pl.col("order") == pl.col("order").shift()) | (pl.col("timestamp") < pl.col("timestamp").shift())
    if n_strays := frame.filter(same_user & strays).height:
        yield f"column 'order' repeats or contradicts 'timestamp' in {n_strays} of {frame.height} rows looked at"
        return
    ours = index_histories(frame, manifest["history"]["visibility"])
    start, end = frame["history_start"].to_numpy(), frame["history_end"].to_numpy()
    positives = files[POSITIVES].array("item")
    wrong = end - start != ours.end - ours.start
    for last in _longest_histories(frame["user"].to_numpy(), ours.end):
        theirs = positives[start[last] : end[last]]
        known = ours.positives[ours.start[last] : ours.end[last]]
        mine = frame["user"].to_numpy() == frame["user"][int(last)]
        # One stretch of `positives` per user: all of its rows start there.
        wrong |= mine & (not np.array_equal(theirs, known) or (start[mine] != start[last]).any())
    if wrong.any():
        row = int(frame["row"][int(np.flatnonzero(wrong)[0])])
        yield (
            f"the histories of {int(wrong.sum())} of {frame.height} rows looked at are not those of visibility "
            f"'{manifest['history']['visibility']}', the first is of row {row}"
        )
    if ours.repeats > manifest["history"].get("repeats", 0):
        yield f"history.repeats is {manifest['history'].get('repeats')}, a row looked at needs {ours.repeats}"


def _longest_histories(user: Array, end: Array) -> Iterator[int]:
    """Yields the place of a row with each user's longest history; rows are sorted by user."""
    bounds = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1], [True]]))
    for first, after in itertools.pairwise(bounds):
        yield int(first + np.argmax(end[first:after]))
