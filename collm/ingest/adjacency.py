"""Adjacency lists, as LightGCN's data is published: each line a user and then all items of that user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_fault, one_spelling
from collm.ingest.table_files import check_kind, file_format, parts_of
from collm.ingest.text_lines import TextLines
from collm.ingest.typed_rows import LINE, without

_SHOWN = 60


@dataclass(frozen=True)
class AdjacencyList:
    """What the lines hold.

    Attributes:
        rows: `user`, `item` as text and `line` int64: the number of the pair, from 1, in the order of lines and items.
        n_lines: Lines that are not empty.
        n_without_items: Lines with a user alone.
        n_repeated: Lines of a user who had one before.
    """

    rows: pl.DataFrame
    n_lines: int
    n_without_items: int
    n_repeated: int

    def notes(self) -> tuple[str, ...]:
        """Returns what a reader should know of unusual lines."""
        found = []
        if self.n_without_items:
            found.append(f"{self.n_without_items:,} of {self.n_lines:,} lines hold a user without items")
        if self.n_repeated:
            found.append(
                f"{self.n_repeated:,} of {self.n_lines:,} lines belong to a user who has an earlier line, which an "
                "adjacency list seldom has: look whether the file is a table"
            )
        return tuple(found)


def read_adjacency(path: Path, *, bad: BadRows, encoding: str | None = None) -> AdjacencyList:
    """Reads pairs from lines of ids separated by blanks; parts of a folder in the order of their names.

    Args:
        path: Text file, plain or gz, or a folder of such parts.
        bad: Takes lines and pairs that cannot be used.
        encoding: Of lines that are not UTF-8.

    Raises:
        DataError: If it is not a text file, no line holds an item, or an id is written in two ways.
    """
    users: list[str] = []
    items: list[str] = []
    seen: set[str] = set()
    n_lines = n_without = n_repeated = 0
    first = ""
    for part in parts_of(path):
        if file_format(part.path) != "csv":
            raise DataError(f"{part.path}: an adjacency list is a text file (.txt, .dat, .csv, ...; also .gz)")
        check_kind(part.path, parquet=False)
        lines = TextLines(part.path, bad=bad, encoding=encoding)
        for number, text in lines:
            fields = text.split()
            if not fields:
                continue
            if number in lines.broken:
                bad.add(part.path.name, number, "not UTF-8 text", text.encode("utf-8", "replace").decode())
                continue
            n_lines += 1
            first = first or text
            n_without += len(fields) == 1
            n_repeated += fields[0] in seen
            seen.add(fields[0])
            users += [fields[0]] * (len(fields) - 1)
            items += fields[1:]
    if not items:
        found = f"; the first is {first[:_SHOWN]!r}" if first else ""
        raise DataError(f"{path}: none of its {n_lines} lines holds a user and items, separated by blanks{found}")
    raw = pl.DataFrame({"user": users, "item": items}).with_columns(pl.int_range(1, pl.len() + 1).alias(LINE))
    fault = pl.coalesce(id_fault("user"), id_fault("item"))
    frame = without(raw, fault, file=path.name, bad=bad, text_of=lambda place: " ".join(raw.row(place)[:2]))
    ids = [one_spelling(frame[name], frame[LINE], name=name, path=path) for name in ("user", "item")]
    return AdjacencyList(frame.with_columns(*ids), n_lines, n_without, n_repeated)
