"""A log of interactions in parquet files as a DuckDB view with bounded memory, and the checks of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

_LAST_SECOND = 4_102_444_800  # 2100; milliseconds are beyond


@dataclass(frozen=True)
class Work:
    """What one preparation reads, writes and may use.

    Attributes:
        log: Parquet files with `user`, `item` (whole numbers or text), `rating`, `timestamp` (seconds since 1970).
        out: Folder of the result; made if missing.
        memory_gb: Memory of DuckDB in GB; what it needs beyond is written to disk.
        threads: Processor threads.
    """

    log: tuple[Path, ...]
    out: Path
    memory_gb: float
    threads: int

    @property
    def scratch(self) -> Path:
        """The folder of everything that is removed at the end."""
        return self.out / "scratch"

    @property
    def prepared(self) -> Path:
        """The prepared dataset."""
        return self.out / "prepared"


def connect(work: Work) -> duckdb.DuckDBPyConnection:
    """Opens a database on disk with bounded memory; its view `log` has the rows of all files, numbered from 1."""
    sql = duckdb.connect(str(work.scratch / "tables.duckdb"))
    sql.execute(f"SET memory_limit = '{work.memory_gb}GB'")
    sql.execute(f"SET threads = {work.threads}")
    sql.execute(f"SET temp_directory = {quoted(work.scratch / 'spilled')}")
    sql.execute("SET preserve_insertion_order = false")
    files = listed(work.log)
    sql.execute(
        f"""
        CREATE TABLE files AS
        SELECT file_name AS filename, (SUM(num_rows) OVER (ORDER BY file_name) - num_rows)::BIGINT AS before
        FROM parquet_file_metadata({files})
        """
    )
    sql.execute(
        f"""
        CREATE VIEW log AS
        SELECT "user", item, rating, "timestamp", before + file_row_number + 1 AS "row"
        FROM read_parquet({files}, filename = true, file_row_number = true) JOIN files USING (filename)
        """
    )
    return sql


def check_log(sql: duckdb.DuckDBPyConnection) -> None:
    """Looks at every row once.

    Raises:
        SystemExit: If values are missing, a rating is not finite, or times are not whole seconds since 1970.
    """
    kinds = dict(sql.execute("SELECT column_name, column_type FROM (DESCRIBE log)").fetchall())
    if "INT" not in kinds["timestamp"]:
        raise SystemExit(
            f"the log's column timestamp is {kinds['timestamp']}; seconds since 1970 as whole numbers only"
        )
    ((n_rows, n_bad, first, last),) = sql.execute(
        """
        SELECT COUNT(*), COUNT(*) FILTER (
            WHERE "user" IS NULL OR item IS NULL OR "timestamp" IS NULL OR rating IS NULL
                  OR NOT isfinite(rating::DOUBLE)
        ), MIN("timestamp"), MAX("timestamp") FROM log
        """
    ).fetchall()
    if n_bad or not n_rows:
        raise SystemExit(
            f"{n_bad} of {n_rows} rows of the log lack a user, item, time or finite rating; leave them out"
        )
    if last > _LAST_SECOND:
        raise SystemExit(f"times of the log run from {first} to {last}, which are not seconds since 1970; convert them")


def quoted(path: Path) -> str:
    """Returns a path as text of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def listed(paths: Sequence[Path]) -> str:
    """Returns paths as a list of SQL."""
    return f"[{', '.join(map(quoted, paths))}]"


def disk_gb(folder: Path) -> float:
    """Returns what the files below a folder take, in GB; hard links count once."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({each.st_ino: each.st_size for each in found}.values()) / 1e9
