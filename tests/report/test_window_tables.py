"""Windows of prequential evaluation in reports: one table for each way of cutting the rows, bold with seeds alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_fakes import WriteRun, scores
from sklearn.metrics import roc_auc_score

from collm.component import BuildContext
from collm.registry import Registry
from collm.report.collect import Reading, collect
from collm.report.figures import report_figures
from collm.report.grid import Grid
from collm.report.summary import summarise
from collm.report.tables import report_tables
from collm.report.windows import of_each_cut
from collm.rescore import Measure


def cut_into(size: int, seed: int = 0) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Made-up scores in windows of `size` rows, all above those without updates."""
    frame = scores(0.3, seed)
    number = np.arange(frame.height) // size
    frame = frame.with_columns(window=pl.Series(number, dtype=pl.Int32), frozen_logit=scores(3.0, seed)["logit"])
    rest = {"users": 1, "new_users": 0, "new_items": 0, "update_seconds": 1.0, "metrics": {}, "frozen": {}}
    counts = enumerate(np.bincount(number).tolist())
    windows = [{"number": n, "first": n * 1000, "last": n * 1000 + 999, "rows": rows, **rest} for n, rows in counts]
    return frame, windows


@pytest.fixture
def written(write_run: WriteRun) -> Any:
    def write(name: str, size: int, seed: int = 0) -> Path:
        frame, windows = cut_into(size, seed)
        return write_run(name, seed=seed, frame=frame, windows=windows)

    return write


def tables(registry: Registry, measure: Measure, *folders: Path) -> dict[str, Grid]:
    collected = collect(folders, Reading(Path("runs"), registry, BuildContext(cache_dir=Path("runs"))))
    return {grid.key: grid for grid in report_tables(summarise(collected, measure)) if grid.key.startswith("windows")}


def test_runs_with_other_windows_have_tables_of_their_own(written: Any, registry: Registry, measure: Measure) -> None:
    folders = written("large", 240), written("small", 120), written("large too", 240, seed=3)
    found = tables(registry, measure, *folders)
    assert [found[key].title for key in ("windows", "windows-2")] == ["Windows of large, large too", "Windows of small"]
    assert [row[2].text for row in found["windows"].rows] == ["240"] * 2
    assert [row[2].text for row in found["windows-2"].rows] == ["120"] * 4
    assert {row[1].text for row in found["windows-auc"].rows} == {"large", "large too"}
    assert {row[1].text for row in found["windows-2-auc"].rows} == {"small"}
    shown = {row[0].text: row[2].text for row in found["windows-2-auc"].rows}
    frame = cut_into(120)[0].filter(pl.col("window") == 3)
    assert float(shown["3"].split()[0]) == pytest.approx(roc_auc_score(frame["label"], frame["logit"]), abs=1e-4)


def test_seeds_with_other_windows_are_not_averaged_by_window(
    written: Any, registry: Registry, measure: Measure
) -> None:
    found = tables(registry, measure, written("same", 240, seed=0), written("same", 160, seed=1))
    assert [row[2].text for row in found["windows"].rows] == ["240"] * 2
    assert [row[2].text for row in found["windows-2"].rows] == ["160"] * 3


def test_equal_windows_stand_in_one_table(written: Any, registry: Registry, measure: Measure) -> None:
    found = tables(registry, measure, written("one", 240), written("two", 240, seed=1))
    assert set(found) == {"windows", "windows-auc", "windows-uauc"}
    assert found["windows"].title == "Windows"


def test_a_difference_is_bold_with_several_seeds_alone(written: Any, registry: Registry, measure: Measure) -> None:
    alone = tables(registry, measure, written("alone", 240))["windows-auc"]
    assert all(row[3].text.startswith("+0.") and "[+0." in row[3].text for row in alone.rows)
    assert not any(row[3].strong for row in alone.rows)
    together = tables(registry, measure, *(written("seeds", 240, seed) for seed in (1, 2, 3)))["windows-auc"]
    assert all(row[3].strong for row in together.rows)


def test_each_cut_has_a_picture(written: Any, registry: Registry, measure: Measure) -> None:
    folders = written("large", 240), written("small", 120)
    collected = collect(folders, Reading(Path("runs"), registry, BuildContext(cache_dir=Path("runs"))))
    summary = summarise(collected, measure)
    assert [len(lines) for lines in of_each_cut(summary.blocks[0].windows)] == [3, 5]
    keys = [each.key for each in report_figures(summary) if each.key.startswith("by-window")]
    assert keys == ["by-window", "by-window-2"]
