"""Prepares a log of interactions with DuckDB, out of core, in the form that `dataset: prepared` reads.

Run: python experiments/benchmarks/prepare_with_duckdb.py --log FOLDER_OF_PARQUET_FILES --memory-gb 3 --out OUT
Writes OUT/prepared, and OUT/steps.json with the seconds of each step. Needs duckdb. `duckdb_at_scale.py` generates a
log and measures memory and disk, too.

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
import itertools
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
from duckdb_log import Work, check_log, connect, disk_gb, listed, quoted

from collm.data.prepared_files import write_manifest

POSITIVE_ABOVE = 3.5
SHARE = 0.1  # of rows in validation, and in test
TIE_RULE = "rows of one user at the same moment keep the order of the file"
_BLOCK_ROWS = 4_000_000
_DAY = 86_400
_SHARE_DIGITS = 9  # as in collm.data.split: guards the floor against 0.29 * 100 = 28.999999999999996
logger = logging.getLogger("prepare_with_duckdb")


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
        "number ids": lambda: number_ids(sql),
        "divide by user": lambda: divide(sql, work),
        "order and histories": lambda: [work_on_block(sql, work, block) for block in blocks(sql)],
        "cuts of the split": lambda: cuts.extend(cuts_of_split(sql, work)),
        "sort by row": lambda: write_interactions(sql, work, cuts),
        "positives": lambda: write_positives(sql, work),
        "users and items": lambda: [write_entities(sql, work, name) for name in ("user", "item")],
        "manifest": lambda: write_facts(sql, work),
    }
    for name, step in steps.items():
        started = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - started, 2)
        logger.info("%s: %.1f s, %.2f GB on disk", name, seconds[name], disk_gb(work.out))
    sql.close()
    shutil.rmtree(work.scratch)
    return seconds


def number_ids(sql: duckdb.DuckDBPyConnection) -> None:
    """Numbers raw ids from 1 in the order of their text, and gives each user a block of about `_BLOCK_ROWS` rows."""
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


def write_facts(sql: duckdb.DuckDBPyConnection, work: Work) -> None:
    """Writes the manifest: counts, and what every results table must state."""
    table = quoted(work.prepared / "interactions.parquet")
    counts = dict(sql.execute(f"SELECT split, COUNT(*) FROM read_parquet({table}) GROUP BY split").fetchall())
    ((n_log,),) = sql.execute("SELECT COUNT(*) FROM log").fetchall()
    n_twice = n_log - sum(counts.values())
    for name in ("users", "items"):
        ((counts[name],),) = sql.execute(f"SELECT COUNT(*) FROM {name}").fetchall()
    note = f"{n_twice} rows repeat a user and item; of each pair only the newest is kept"
    manifest = {
        "schema": 1,
        "counts": counts,
        # Of each pair one row is left, so that no row has its own item among earlier positives.
        "history": {"visibility": "strictly-earlier", "repeats": 0},
        "tie_rule": TIE_RULE,
        "notes": [note] if n_twice else [],
    }
    write_manifest(work.prepared, manifest)


def main() -> None:
    """Prepares the log that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="folder with the parquet files of a log")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--memory-gb", type=float, default=6.0, help="what DuckDB keeps in memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    log = tuple(sorted(arguments.log.glob("*.parquet")))
    if not log:
        parser.error(f"--log {arguments.log}: holds no *.parquet; the working directory is {Path.cwd()}")
    seconds = prepare(Work(log, arguments.out, arguments.memory_gb, arguments.threads))
    (arguments.out / "steps.json").write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
