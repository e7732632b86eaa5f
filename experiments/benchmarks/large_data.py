"""Measures preparing generated interactions: seconds and memory of each step, for growing numbers of rows.

Run: python experiments/benchmarks/large_data.py --rows 1000000 10000000 100000000 --folder FOLDER
Writes FOLDER/large-data.json, large-data.md and large-data.svg. Each size runs in a process of its own, on two cores.
100 million rows need 12 GB of memory, 15 GB of disk and about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

N_CORES = 2
FEWEST_ROWS = 5  # of a user and of an item: the 5-core
logger = logging.getLogger("large_data")


class Meter:
    """Seconds and the highest memory of the process in each of several steps, one after the other."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}
        self.base_mib = _peak_mib()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures what happens inside the `with`."""
        _forget_peak()
        started, cpu_started = time.perf_counter(), time.process_time()
        yield
        self.steps[name] = {
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(time.process_time() - cpu_started, 2),
            "peak_mib": round(_peak_mib(), 1),
        }
        logger.info("%s %s", name, self.steps[name])

    def timed(self, module: Any, function: str, name: str) -> None:
        """Lets a function of a module be measured as a step wherever the module calls it."""
        inner: Callable[..., Any] = getattr(module, function)

        def measured(*arguments: Any, **named: Any) -> Any:
            with self.step(name):
                return inner(*arguments, **named)

        setattr(module, function, measured)


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@dataclass
class LogSource:
    """The generated log as a dataset, by the functions that dataset plugins use."""

    folder: Path
    meter: Meter
    table_bytes: int = 0
    counts: tuple[int, int] = (0, 0)

    def content_hash(self) -> str:
        """Returns a digest of the parts."""
        import hashlib

        from collm.digests import file_digest

        parts = sorted(self.folder.glob("*.parquet"))
        return hashlib.sha256("".join(map(file_digest, parts)).encode()).hexdigest()

    def load(self) -> Any:
        """Reads, filters, splits and numbers."""
        import polars as pl

        from collm.data.split import split_by_global_time
        from collm.data.table import Recipe, build_table, keep_frequent, with_label, with_order

        step = self.meter.step
        with step("read"):
            raw = pl.read_parquet(self.folder / "*.parquet").rechunk()
            raw = raw.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
            n_rows = raw.height
        with step("filter"):
            raw = keep_frequent(raw, users=FEWEST_ROWS, items=FEWEST_ROWS, until_stable=True)
        with step("order and labels"):
            raw = with_label(with_order(raw), 4)
        with step("split"):
            raw = raw.with_columns(split_by_global_time(raw["timestamp"], valid=0.1, test=0.1))
        with step("ids"):
            titles = pl.DataFrame({"item": raw["item"].unique()}).with_columns(
                pl.format("Item number {} (2021)", "item").alias("title")
            )
            table = build_table(raw, titles, Recipe(tie_rule="source row"))
        self.counts = (n_rows, raw.height)
        # Text takes 16 bytes a row here, whatever its length up to 12: `estimated_size` counts the letters.
        self.table_bytes = table.frame.height * (table.frame.drop("split").estimated_size() // table.frame.height + 16)
        return table


def measure(folder: Path, n_rows: int, ids: str) -> dict[str, Any]:
    """Prepares a log of `n_rows` rows in this process and returns what it took."""
    import collm.data.prepare as preparing
    from collm.contracts.data import Limit
    from collm.data.prepared import PreparedData
    from collm.data.slices import slice_masks
    from collm.testing.interactions import LogShape, write_log

    raw, prepared = folder / f"raw-{n_rows}-{ids}", folder / f"prepared-{n_rows}-{ids}"
    if not raw.exists():
        write_log(raw, LogShape.of_rows(n_rows), ids="text" if ids == "text" else "int")
    if len(sys.argv) > 1 and "--generate-only" in sys.argv:
        return {}
    shutil.rmtree(prepared, ignore_errors=True)
    meter = Meter()
    meter.timed(preparing, "check_table", "check")
    meter.timed(preparing, "index_histories", "histories")
    meter.timed(preparing, "_write_interactions", "write interactions")
    meter.timed(preparing, "_write_entities", "write users and items")
    meter.timed(preparing, "write_manifest", "hash and manifest")
    source = LogSource(raw, meter)
    started = time.perf_counter()
    history: Any = SimpleNamespace(visibility="strictly-earlier")
    preparing.prepare(source, limit=Limit(), history=history, folder=prepared)
    prepare_s = time.perf_counter() - started
    with meter.step("open"):
        data = PreparedData.open(prepared)
    with meter.step("rows and slices"):
        shares = {}
        for split in ("train", "valid", "test"):
            rows = data.rows(split)
            counts = data.user_train_rows[rows.user], data.item_train_rows[rows.item]
            masks = slice_masks(*counts, warm="at-least-3", cold="rest")
            shares[split] = {name: int(mask.sum()) for name, mask in masks.items()}
    with meter.step("histories of the test split"):
        data.history(rows, 10)
    total_s = time.perf_counter() - started
    return {
        "rows": source.counts[0],
        "rows_after_filter": source.counts[1],
        "users": data.n_users,
        "items": data.n_items,
        "ids": ids,
        "slices": shares,
        "prepare_seconds": round(prepare_s, 2),
        "total_seconds": round(total_s, 2),
        "base_mib": round(meter.base_mib, 1),
        "table_mib": round(source.table_bytes / 2**20, 1),
        "prepared_mib": round(sum(path.stat().st_size for path in prepared.iterdir()) / 2**20, 1),
        "steps": meter.steps,
    }


def summarise(result: dict[str, Any]) -> dict[str, Any]:
    """Adds the highest memory, and what of it a row costs beyond the table."""
    peak = max(step["peak_mib"] for step in result["steps"].values())
    beyond = (peak - result["base_mib"] - result["table_mib"]) * 2**20 / result["rows"]
    cpu = round(sum(step["cpu_seconds"] for step in result["steps"].values()), 1)
    return {**result, "cpu_seconds": cpu, "peak_mib": peak, "bytes_per_row_beyond_table": round(beyond, 1)}


def main() -> None:
    """Measures each size in a process of its own and writes table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ids", choices=("int", "text"), default="int")
    parser.add_argument("--one", action="store_true", help="measure the first size here and print JSON")
    parser.add_argument("--generate-only", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if arguments.one:
        json.dump(measure(arguments.folder, arguments.rows[0], arguments.ids), sys.stdout)
        return
    results = [summarise(_in_process(arguments.folder, n_rows, arguments.ids)) for n_rows in arguments.rows]
    (arguments.folder / "large-data.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (arguments.folder / "large-data.md").write_text(_markdown(results), encoding="utf-8")
    _plot(results, arguments.folder / "large-data.svg")
    sys.stdout.write(_markdown(results))


def _in_process(folder: Path, n_rows: int, ids: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", "--folder", str(folder), "--rows", str(n_rows), "--ids", ids]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(N_CORES), "OMP_NUM_THREADS": str(N_CORES)}
    # Generated by another process, so that its memory is not counted.
    subprocess.run([*command, "--generate-only"], check=True, stdout=subprocess.DEVNULL, env=environment)
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def _markdown(results: list[dict[str, Any]]) -> str:
    steps = list(results[0]["steps"])
    heads = [f"{result['rows']:,} rows" for result in results]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]

    def line(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    for step in steps:
        line(f"{step}, s", [f"{result['steps'][step]['seconds']:.1f}" for result in results])
    line("all, s", [f"{result['total_seconds']:.1f}" for result in results])
    line("processor time of both cores, s", [f"{result['cpu_seconds']:.1f}" for result in results])
    line("microseconds a row", [f"{result['total_seconds'] / result['rows'] * 1e6:.2f}" for result in results])
    line("highest memory, GB", [f"{result['peak_mib'] * 2**20 / 1e9:.2f}" for result in results])
    line("the table itself, GB", [f"{result['table_mib'] * 2**20 / 1e9:.2f}" for result in results])
    line("bytes a row beyond it", [f"{result['bytes_per_row_beyond_table']:.0f}" for result in results])
    line("prepared folder, GB", [f"{result['prepared_mib'] * 2**20 / 1e9:.2f}" for result in results])
    return "\n".join(lines) + "\n"


def _plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "large-data", "svg.fonttype": "none"})
    from matplotlib import pyplot

    rows = [result["rows"] for result in results]
    figure, (seconds, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    total = [result["total_seconds"] for result in results]
    peak = [result["peak_mib"] * 2**20 / 1e9 for result in results]
    table = [result["table_mib"] * 2**20 / 1e9 for result in results]
    seconds.loglog(rows, total, "o-", label="measured")
    seconds.loglog(rows, [total[-1] * n / rows[-1] for n in rows], "--", color="grey", label="proportional to rows")
    seconds.set(xlabel="rows", ylabel="seconds", title="raw files to histories and slices")
    memory.loglog(rows, peak, "o-", label="highest memory of the process")
    memory.loglog(rows, table, "s-", label="the table itself")
    memory.set(xlabel="rows", ylabel="GB", title="memory")
    for axes in (seconds, memory):
        axes.legend()
        axes.grid(visible=True, which="major", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
