"""Prepares a log of interactions with DuckDB, out of core, in the form that `dataset: prepared` reads.

Run: python experiments/benchmarks/prepare_with_duckdb.py --rows 20000000 --memory-gb 3 --out FOLDER
Generates a log in FOLDER/log (or takes the parquet files of --log), writes FOLDER/prepared, checks it as a run does,
and reads the test rows and their histories. With --run `collm run` follows, which fits the floors and `popularity`.
Prints seconds, memory and disk of each phase, and writes FOLDER/measured.json. Needs duckdb.

The rules are those of `dataset: files` with {duplicates: keep-last, label: {from: rating, positive_above: 3.5}, split:
{by: quantiles, valid: 0.1, test: 0.1}}. Users are divided into blocks of about equal rows. A block holds all rows of
its users, so pairs, order and histories are found in it alone, in memory. Only the joins with ids and the last sort
look at all rows, and DuckDB writes to disk what does not fit.

On a cluster the SQL stays and the loops become tasks (docs/large-data.md):
- `number_ids`, `cuts_of_split`: counts and distinct ids, which every engine adds up over files.
- `divide`: one task per file of the log writes its rows by block: the one shuffle (`groupby("block")` of Ray Data,
  `repartition("block")` of Spark).
- `work_on_block`: one task per block on any machine (`map_groups`); it holds `_BLOCK_ROWS` rows in memory.
- `write_interactions`: the sort by `row`: one task per range of rows, whose files one process joins (`sink_parquet` of
  polars), as `write_positives` joins those of the blocks, which are in order already.
The folders in --out must then be on a file system or in a bucket that all machines see.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import psutil

POSITIVE_ABOVE = 3.5
SHARE = 0.1  # of rows in validation, and in test
TIE_RULE = "rows of one user at the same moment keep the order of the file"
_BLOCK_ROWS = 4_000_000
_DAY = 86_400
_LAST_SECOND = 4_102_444_800  # 2100; milliseconds are beyond
_POLL_S = 0.1
_SHARE_DIGITS = 9  # as in collm.data.split: guards the floor against 0.29 * 100 = 28.999999999999996
SPEC = """
name: prepared-with-duckdb
dataset: {name: prepared, path: prepared}
encoder: {name: popularity}
"""
logger = logging.getLogger("prepare_with_duckdb")


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


def prepare(work: Work) -> dict[str, float]:
    """Writes the prepared dataset.

    Returns:
        Seconds of each step.
    """
    shutil.rmtree(work.scratch, ignore_errors=True)
    shutil.rmtree(work.prepared, ignore_errors=True)
    for folder in (work.scratch / "blocks", work.scratch / "done", work.scratch / "positives", work.prepared):
        folder.mkdir(parents=True)
    sql = connect(work)
    seconds: dict[str, float] = {}
    cuts: list[int] = []
    steps: dict[str, Callable[[], object]] = {
        "check log": lambda: check_log(sql),
        "number ids": lambda: number_ids(sql, work),
        "divide by user": lambda: divide(sql, work),
        "order and histories": lambda: [work_on_block(sql, work, block) for block in blocks(sql)],
        "cuts of the split": lambda: cuts.extend(cuts_of_split(sql, work)),
        "sort by row": lambda: write_interactions(sql, work, cuts),
        "positives": lambda: write_positives(sql, work),
        "users and items": lambda: [write_entities(sql, work, name) for name in ("user", "item")],
        "manifest": lambda: write_manifest(sql, work),
    }
    for name, step in steps.items():
        started = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - started, 2)
        logger.info("%s: %.1f s, %.2f GB on disk", name, seconds[name], disk_gb(work.out))
    sql.close()
    shutil.rmtree(work.scratch)
    return seconds


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


def number_ids(sql: duckdb.DuckDBPyConnection, work: Work) -> None:
    """Numbers raw ids from 1 in the order of their text, and gives each user a block of about `_BLOCK_ROWS` rows."""
    del work
    for name in ("user", "item"):
        sql.execute(
            f"""
            CREATE TABLE {name}s AS
            SELECT (ROW_NUMBER() OVER ())::INT AS number, raw, n_rows FROM (
                SELECT "{name}" AS raw, COUNT(*) AS n_rows FROM log GROUP BY raw ORDER BY raw::VARCHAR
            )
            """
        )
    sql.execute(
        f"""
        CREATE TABLE blocks AS
        SELECT number, ((SUM(n_rows) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING) - n_rows)
                        // {_BLOCK_ROWS})::INT AS block FROM users
        """
    )


def blocks(sql: duckdb.DuckDBPyConnection) -> list[int]:
    """Returns the blocks of users, in the order of dense ids."""
    return [block for (block,) in sql.execute("SELECT DISTINCT block FROM blocks ORDER BY block").fetchall()]


def divide(sql: duckdb.DuckDBPyConnection, work: Work) -> None:
    """Writes all rows with dense ids and labels into one folder per block of users."""
    sql.execute(
        f"""
        COPY (
            SELECT users.number AS "user", items.number AS item, rating::FLOAT AS rating,
                   "timestamp"::BIGINT AS "timestamp", "row", (rating > {POSITIVE_ABOVE})::TINYINT AS label, block
            FROM log JOIN users ON log."user" = users.raw JOIN items ON log.item = items.raw
                 JOIN blocks ON blocks.number = users.number
        ) TO {quoted(work.scratch / "blocks")}
        (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (block), OVERWRITE_OR_IGNORE)
        """
    )


def work_on_block(sql: duckdb.DuckDBPyConnection, work: Work, block: int) -> None:
    """Keeps the newest row of each pair, orders each user's rows, and finds where its history lies in the block.

    A row sees the positives of its user with a smaller time: `history_end` counts them from the block's first positive.
    """
    parts = quoted(work.scratch / "blocks" / f"block={block}" / "*.parquet")
    sql.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE ordered AS
        SELECT *, ROW_NUMBER() OVER mine - 1 AS "order", SUM(label) OVER earlier AS n_seen FROM (
            SELECT * FROM read_parquet({parts}, hive_partitioning = false)
            QUALIFY ROW_NUMBER() OVER (PARTITION BY "user", item ORDER BY "timestamp" DESC, "row" DESC) = 1
        )
        WINDOW mine AS (PARTITION BY "user" ORDER BY "timestamp", "row"),
               earlier AS (PARTITION BY "user" ORDER BY "timestamp" RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        """
    )
    sql.execute(
        f"""
        COPY (
            SELECT ordered.*, starts.start, {block}::INT AS block FROM ordered JOIN (
                SELECT "user", SUM(SUM(label)) OVER (ORDER BY "user" ROWS UNBOUNDED PRECEDING) - SUM(label) AS start
                FROM ordered GROUP BY "user"
            ) AS starts USING ("user")
        ) TO {quoted(work.scratch / "done" / f"{block:06}.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """
    )
    sql.execute(
        f"""
        COPY (SELECT item FROM ordered WHERE label = 1 ORDER BY "user", "order")
        TO {quoted(work.scratch / "positives" / f"{block:06}.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """
    )
    sql.execute("DROP TABLE ordered")
    shutil.rmtree(work.scratch / "blocks" / f"block={block}")


def cuts_of_split(sql: duckdb.DuckDBPyConnection, work: Work) -> tuple[int, int]:
    """Returns the first second of validation and that of test: times of the rows at two places in time order.

    Counts per day and then per second of one day, so that no sort of all times is needed.
    """
    done = quoted(work.scratch / "done" / "*.parquet")
    days = sql.execute(
        f'SELECT "timestamp" // {_DAY} AS day, COUNT(*) FROM read_parquet({done}) GROUP BY day ORDER BY day'
    ).fetchall()
    sizes = [n for _, n in days]
    found = []
    for share in (2 * SHARE, SHARE):
        place = math.floor(round(sum(sizes) * (1 - share), _SHARE_DIGITS))
        until = list(itertools.accumulate(sizes))
        nth = bisect.bisect_right(until, place)
        ((cut,),) = sql.execute(
            f"""
            SELECT "timestamp" FROM read_parquet({done}) WHERE "timestamp" // {_DAY} = {days[nth][0]}
            ORDER BY "timestamp" LIMIT 1 OFFSET {place - until[nth] + sizes[nth]}
            """
        ).fetchall()
        found.append(int(cut))
    return found[0], found[1]


def write_interactions(sql: duckdb.DuckDBPyConnection, work: Work, cuts: Sequence[int]) -> None:
    """Writes all rows in the order of the log, with their splits; offsets of histories count over all blocks."""
    positives = quoted(work.scratch / "positives" / "*.parquet")
    sql.execute(
        f"""
        CREATE TABLE bases AS
        SELECT block, (SUM(n) OVER (ORDER BY block) - n)::BIGINT AS base FROM (
            SELECT parse_filename(file_name, true)::INT AS block, num_rows AS n FROM parquet_file_metadata({positives})
        )
        """
    )
    sql.execute(
        f"""
        COPY (
            SELECT "user", item, label, rating, "timestamp",
                   CASE WHEN "timestamp" < {cuts[0]} THEN 'train' WHEN "timestamp" < {cuts[1]} THEN 'valid'
                        ELSE 'test' END AS split,
                   "row", "order", (base + start)::BIGINT AS history_start,
                   (base + start + COALESCE(n_seen, 0))::BIGINT AS history_end, TRUE AS kept
            FROM read_parquet({quoted(work.scratch / "done" / "*.parquet")}) JOIN bases USING (block)
            ORDER BY "row"
        ) TO {quoted(work.prepared / "interactions.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """
    )
    shutil.rmtree(work.scratch / "done")


def write_positives(sql: duckdb.DuckDBPyConnection, work: Work) -> None:
    """Joins the positives of the blocks, which lie in the order of users."""
    sql.execute("SET preserve_insertion_order = true")
    parts = listed(sorted((work.scratch / "positives").iterdir()))
    sql.execute(
        f"COPY (SELECT item FROM read_parquet({parts})) TO {quoted(work.prepared / 'positives.parquet')} "
        "(FORMAT parquet, COMPRESSION zstd)"
    )


def write_entities(sql: duckdb.DuckDBPyConnection, work: Work, name: str) -> None:
    """Writes users or items: dense id, raw id as text, rows in training; items are titled by their ids."""
    title = ", CASE WHEN number = 0 THEN '' ELSE 'item ' || raw::VARCHAR END AS title" if name == "item" else ""
    sql.execute(
        f"""
        COPY (
            SELECT number AS "{name}", CASE WHEN number = 0 THEN '' ELSE raw::VARCHAR END AS id,
                   COALESCE(n, 0)::BIGINT AS train_rows{title}
            FROM (SELECT number, raw FROM {name}s UNION ALL SELECT 0, NULL) LEFT JOIN (
                SELECT "{name}" AS number, COUNT(*) AS n
                FROM read_parquet({quoted(work.prepared / "interactions.parquet")}) WHERE split = 'train' GROUP BY ALL
            ) USING (number) ORDER BY number
        ) TO {quoted(work.prepared / f"{name}s.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """
    )


def write_manifest(sql: duckdb.DuckDBPyConnection, work: Work) -> None:
    """Writes counts, what every results table must state, and the digests of the files."""
    table = quoted(work.prepared / "interactions.parquet")
    counts = dict(sql.execute(f"SELECT split, COUNT(*) FROM read_parquet({table}) GROUP BY split").fetchall())
    ((n_log,),) = sql.execute("SELECT COUNT(*) FROM log").fetchall()
    n_twice = n_log - sum(counts.values())
    for name in ("users", "items"):
        ((counts[name],),) = sql.execute(f"SELECT COUNT(*) FROM {name}").fetchall()
    note = f"{n_twice} rows repeat a user and item; of each pair only the newest is kept"
    files = {}
    for path in sorted(work.prepared.glob("*.parquet")):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        ((rows,),) = sql.execute(f"SELECT num_rows FROM parquet_file_metadata({quoted(path)})").fetchall()
        files[path.name] = {"bytes": path.stat().st_size, "rows": rows, "sha256": sha256}
    manifest = {
        "schema": 1,
        "counts": counts,
        # Of each pair one row is left, so that no row has its own item among earlier positives.
        "history": {"visibility": "strictly-earlier", "repeats": 0},
        "tie_rule": TIE_RULE,
        "notes": [note] if n_twice else [],
        "files": files,
    }
    (work.prepared / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def check_prepared(out: Path) -> None:
    """Makes a stage of the result as a run does: every check of `dataset: prepared`, then hard links."""
    from collm.component import BuildContext
    from collm.contracts.data import DatasetConfig, Limit
    from collm.data.prepare import prepare as prepare_stage
    from collm.registry import default_registry

    config = DatasetConfig(name="prepared", path=out / "prepared")
    source = default_registry().get("dataset", "prepared").load_factory()(config, context=BuildContext(cache_dir=out))
    history: Any = SimpleNamespace(visibility="strictly-earlier")
    prepare_stage(source, limit=Limit(), history=history, folder=out / "stage")


def open_prepared(out: Path) -> None:
    """Reads the test rows and their histories, block by block."""
    from collm.data.prepared import PreparedData

    data = PreparedData.open(out / "stage")
    rows, n_seen = data.rows("test"), 0
    for first in range(0, len(rows), _BLOCK_ROWS):
        n_seen += int((data.history(rows.take(slice(first, first + _BLOCK_ROWS)), 10) != 0).sum())
    logger.info("%s; a test row sees %.2f items, of 10 at most", data.counts(), n_seen / len(rows))


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


def watched(command: Sequence[str], out: Path) -> dict[str, float]:
    """Follows a phase in a process of its own.

    Args:
        command: The process's words.
        out: Folder whose disk use is followed.

    Returns:
        `seconds`; `peak_gb`: the highest resident memory of the process and its children together; `disk_gb`: the most
        that lay in `out`.

    Raises:
        SystemExit: If the process fails.
    """
    started, peak, disk = time.perf_counter(), 0.0, 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        # Processes and files may be gone before they are looked at.
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            parent = psutil.Process(process.pid)
            peak = max(peak, sum(each.memory_info().rss for each in (parent, *parent.children(recursive=True))) / 1e9)
            disk = max(disk, disk_gb(out))
        time.sleep(_POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {"seconds": round(time.perf_counter() - started, 1), "peak_gb": round(peak, 2), "disk_gb": round(disk, 2)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the phases one after the other, each in a process of its own; returns what they took."""
    out, log = arguments.out, arguments.log or arguments.out / "log"
    itself = [sys.executable, str(Path(__file__).absolute()), "--out", str(out), "--log", str(log)]
    itself += ["--memory-gb", str(arguments.memory_gb), "--threads", str(arguments.threads)]
    found: dict[str, Any] = {name: getattr(arguments, name) for name in ("rows", "memory_gb", "threads")}
    if arguments.log is None:
        found["generate"] = watched([*itself, "--rows", str(arguments.rows), "--phase", "generate"], out)
    found["prepare"] = watched([*itself, "--phase", "prepare"], out)
    found["steps"] = json.loads((out / "steps.json").read_text(encoding="utf-8"))
    found["prepared_gb"] = round(disk_gb(out / "prepared"), 2)
    for phase in ("check", "open"):
        found[phase] = watched([*itself, "--phase", phase], out)
    if arguments.run:
        shutil.rmtree(out / "runs", ignore_errors=True)
        (out / "spec.yaml").write_text(SPEC, encoding="utf-8")
        words = ["run", str(out / "spec.yaml"), "--runs-dir", str(out / "runs"), "--threads", str(arguments.threads)]
        found["collm run"] = watched([sys.executable, "-m", "collm", *words], out)
    return found


def main() -> None:
    """Measures all phases, or does one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000, help="rows of the log that is generated")
    parser.add_argument("--log", type=Path, help="folder with the parquet files of a log, instead of a generated one")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--memory-gb", type=float, default=6.0, help="what DuckDB keeps in memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--run", action="store_true", help="`collm run` on the result, with floors and popularity")
    parser.add_argument("--phase", choices=("generate", "prepare", "check", "open"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments.log is not None and arguments.phase in (None, "prepare") and not list(arguments.log.glob("*.parquet")):
        parser.error(f"--log {arguments.log}: holds no *.parquet; the working directory is {Path.cwd()}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.phase == "generate":
        from collm.testing.interactions import LogShape, write_log

        shutil.rmtree(arguments.log, ignore_errors=True)
        write_log(arguments.log, LogShape.of_rows(arguments.rows))
    elif arguments.phase == "prepare":
        log = tuple(sorted(arguments.log.glob("*.parquet")))
        work = Work(log, arguments.out, arguments.memory_gb, arguments.threads)
        (arguments.out / "steps.json").write_text(json.dumps(prepare(work)), encoding="utf-8")
    elif arguments.phase == "check":
        check_prepared(arguments.out)
    elif arguments.phase == "open":
        open_prepared(arguments.out)
    else:
        measured = json.dumps(measure(arguments), indent=1) + "\n"
        (arguments.out / "measured.json").write_text(measured, encoding="utf-8")
        sys.stdout.write(measured)


if __name__ == "__main__":
    main()
