"""Measures `prepare_with_duckdb.py` on generated rows: seconds, memory and disk of each phase, in a process of its own.

Run: python experiments/benchmarks/duckdb_at_scale.py --rows 20000000 --memory-gb 3 --out OUT
Generates a log in OUT/log, prepares it in OUT/prepared, checks that as a run does, and reads the test rows and their
histories. With --run `collm run` follows, which fits the floors and `popularity`. Prints what it measured and writes
OUT/measured.json. Needs duckdb.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from duckdb_log import disk_gb

_POLL_S = 0.1
_ROWS_AT_ONCE = 4_000_000
SPEC = """
name: prepared-with-duckdb
dataset: {name: prepared, path: prepared}
encoder: {name: popularity}
"""
logger = logging.getLogger("duckdb_at_scale")


def generate(out: Path, n_rows: int) -> None:
    """Writes a log of generated interactions."""
    from collm.testing.interactions import LogShape, write_log

    shutil.rmtree(out / "log", ignore_errors=True)
    write_log(out / "log", LogShape.of_rows(n_rows))


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
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        n_seen += int((data.history(rows.take(slice(first, first + _ROWS_AT_ONCE)), 10) != 0).sum())
    logger.info("%s; a test row sees %.2f items, of 10 at most", data.counts(), n_seen / len(rows))


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
    out, here = arguments.out, Path(__file__).absolute()
    limits = ["--memory-gb", str(arguments.memory_gb), "--threads", str(arguments.threads)]
    itself = [sys.executable, str(here), "--out", str(out), "--rows", str(arguments.rows), "--phase"]
    found: dict[str, Any] = {name: getattr(arguments, name) for name in ("rows", "memory_gb", "threads")}
    found["generate"] = watched([*itself, "generate"], out)
    script = [sys.executable, str(here.with_name("prepare_with_duckdb.py"))]
    found["prepare"] = watched([*script, "--log", str(out / "log"), "--out", str(out), *limits], out)
    found["steps"] = json.loads((out / "steps.json").read_text(encoding="utf-8"))
    found["prepared_gb"] = round(disk_gb(out / "prepared"), 2)
    for phase in ("check", "open"):
        found[phase] = watched([*itself, phase], out)
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
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--memory-gb", type=float, default=6.0, help="what DuckDB keeps in memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--run", action="store_true", help="`collm run` on the result, with floors and popularity")
    parser.add_argument("--phase", choices=("generate", "check", "open"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.phase == "generate":
        generate(arguments.out, arguments.rows)
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
