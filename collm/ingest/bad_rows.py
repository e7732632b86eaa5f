"""Rows of a source that cannot be used: counted, named by file, line and reason, and never dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.visible import spreadsheet_cell, visible

QUARANTINE = "quarantine.csv"
SCHEMA = {"file": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String}
_TEXT_CHARACTERS = 500
_SHOWN = 5


class BadRowsError(DataError):
    """More rows are unusable than the spec allows.

    Attributes:
        rows: The listed bad rows, columns as in `SCHEMA`.
    """

    def __init__(self, summary: str, advice: str, rows: pl.DataFrame, *, path: Path | None = None) -> None:
        """Takes what is wrong, what to do, and the bad rows; `path` is where they were written."""
        listed = f" All are listed in {path}." if path is not None else ""
        super().__init__(f"{summary}.{listed} {advice}")
        self.rows = rows
        self._summary, self._advice = summary, advice

    def located(self, path: Path) -> BadRowsError:
        """Returns the same error that names the file in which the rows are listed."""
        return BadRowsError(self._summary, self._advice, self.rows, path=path)


@dataclass
class BadRows:
    """Collects what a reader could not use.

    Attributes:
        allowed: Bad rows that the run accepts (`dataset.max_bad_rows`).
        listed: Rows kept with their text at most; beyond it they are counted only.
    """

    allowed: int = 0
    listed: int = 10_000
    _rows: list[tuple[str, int, str, str]] = field(default_factory=list)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _doubts: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, file: str, line: int, reason: str, text: str = "") -> None:
        """Notes one row.

        Args:
            file: File name without folder.
            line: Line in the (decompressed) file, from 1; 0 where the whole file is meant.
            reason: What is wrong, in a few words that are equal for rows with the same fault.
            text: The row as found; cut after 500 characters.
        """
        self._counts[file, reason] = self._counts.get((file, reason), 0) + 1
        if len(self._rows) < self.listed:
            self._rows.append((file, line, reason, text[:_TEXT_CHARACTERS]))

    def doubt(self, file: str, line: int, how: str) -> None:
        """Notes a line that is used, although it can be read in another way."""
        self._doubts.setdefault((file, how), []).append(line)

    def __len__(self) -> int:
        """Returns the number of bad rows, listed or not."""
        return sum(self._counts.values())

    def counts(self) -> dict[str, int]:
        """Returns the bad rows by reason, most frequent first."""
        reasons: dict[str, int] = {}
        for (_, reason), n in self._counts.items():
            reasons[reason] = reasons.get(reason, 0) + n
        return dict(sorted(reasons.items(), key=lambda entry: -entry[1]))

    def frame(self) -> pl.DataFrame:
        """Returns the listed rows as text columns and a line number, in the order they were found."""
        return pl.DataFrame(self._rows, schema=SCHEMA, orient="row")

    def notes(self) -> tuple[str, ...]:
        """Returns the sentences that every results table must state, or nothing where all rows are used as they are."""
        doubts = tuple(f"{file}: {_lines(lines)} {how}" for (file, how), lines in self._doubts.items())
        if not len(self):
            return doubts
        reasons = ", ".join(f"{reason}: {n}" for reason, n in self.counts().items())
        return (f"{self._number()} left out ({reasons}); listed in {QUARANTINE}", *doubts)

    def check(self) -> None:
        """Stops when there are too many.

        Raises:
            BadRowsError: If there are more than `allowed`; names counts by reason, the first rows, and what to do.
        """
        if len(self) <= self.allowed:
            return
        reasons = ", ".join(f"{reason}: {n}" for reason, n in self.counts().items())
        first = "; ".join(
            f"{file}{f' line {line}' if line else ''}: {reason}" for file, line, reason, _ in self._rows[:_SHOWN]
        )
        raise BadRowsError(
            f"{self._number()}, dataset.max_bad_rows allows {self.allowed} ({reasons}). First: {first}",
            f"Correct the file, or set dataset.max_bad_rows: {len(self)} to go on without them",
            self.frame(),
        )

    def _number(self) -> str:
        return f"{len(self)} bad row{'s' if len(self) != 1 else ''}"


def quarantine_csv(rows: pl.DataFrame) -> str:
    """Returns bad rows as CSV in which no cell is a formula for a spreadsheet or steers a terminal."""
    safe = [
        pl.Series(each.name, [None if text is None else spreadsheet_cell(visible(text)) for text in each])
        if each.dtype == pl.String
        else each
        for each in rows.iter_columns()
    ]
    written: str = pl.DataFrame(safe, schema=rows.schema).write_csv()
    return written


def _lines(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if len(numbers) > _SHOWN else "")
    return f"{len(numbers)} line{'s' if len(numbers) != 1 else ''} (line {listed})"
