"""Windows in reports: cells per window, seeds together, differences paired with the same seed's frozen model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from collm.registry import default_registry
from collm.report.methods import Method, RowSet
from collm.report.windows import window_grids, window_lines
from collm.rescore import Measure
from collm.runs.records import WindowRecord
from collm.stages.evaluate import build_metrics
from collm.stages.score_tables import probabilities

N_ROWS = 240


def record(number: int, seconds: float) -> WindowRecord:
    counts = {"rows": N_ROWS // 2, "users": 20, "new_users": 1, "new_items": 2}
    return WindowRecord(
        number=number, first=number * 10, last=number * 10 + 9, update_seconds=seconds, metrics={}, frozen={}, **counts
    )


def frame(seed: int, gain: float) -> pl.DataFrame:
    """Scores that follow the label more closely in window 1; those of `frozen` do not."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, N_ROWS)
    noise = np.random.default_rng(seed).normal(size=N_ROWS)
    window = np.repeat([0, 1], N_ROWS // 2)
    logit = (label * (0.5 + gain * window) + noise).astype(np.float32)
    return pl.DataFrame(
        {
            "split": ["test"] * N_ROWS,
            "row": np.arange(N_ROWS),
            "user": [f"u{number}" for number in generator.integers(0, 20, N_ROWS)],
            "item": [f"i{number}" for number in range(N_ROWS)],
            "label": label.astype(np.int8),
            "logit": logit,
            "score": probabilities(logit),
            "user_train_rows": [5] * N_ROWS,
            "item_train_rows": [5] * N_ROWS,
            "window": window.astype(np.int32),
            "frozen_logit": (label * 0.5 + noise).astype(np.float32),
        }
    )


def method(name: str, seeds: tuple[int, ...], gain: float) -> Method:
    runs: Any = tuple(
        SimpleNamespace(results=SimpleNamespace(windows=[record(0, seed + 1.0), record(1, 2.0)])) for seed in seeds
    )
    return Method(name, False, seeds, runs, tuple(frame(seed, gain) for seed in seeds))


def measure() -> Measure:
    return Measure("at-least-3", "rest", ("all", "warm"), build_metrics(["auc", "ndcg"], default_registry()), 200)


def lines_of(*methods: Method):
    return window_lines(RowSet(methods, N_ROWS, 20), measure())


def test_each_window_is_measured_by_itself_over_seeds() -> None:
    lines = lines_of(method("updated", (0, 1), 1.5))
    assert [line.window.number if line.window else None for line in lines] == [0, 1, None]
    assert [line.seconds for line in lines] == [1.5, 2.0, 3.5]
    frames = [frame(seed, 1.5) for seed in (0, 1)]
    for line, part in zip(lines, (0, 1, None), strict=True):
        parts = [each if part is None else each.filter(pl.col("window") == part) for each in frames]
        expected = np.mean([roc_auc_score(each["label"], each["logit"]) for each in parts])
        assert line.cells["auc"].value == pytest.approx(expected)
        if part == 0:  # nothing has changed there
            assert not line.gaps
            continue
        gaps = [roc_auc_score(p["label"], p["logit"]) - roc_auc_score(p["label"], p["frozen_logit"]) for p in parts]
        assert line.gaps["auc"].value == pytest.approx(np.mean(gaps), abs=1e-6)
    assert lines[1].gaps["auc"].low > 0


def test_a_frozen_method_has_no_difference_and_others_have_no_window() -> None:
    split = method("split", (0,), 0.0)
    without: Any = SimpleNamespace(results=SimpleNamespace(windows=[]))
    lines = lines_of(method("frozen", (0,), 0.0), Method("split", False, (0,), (without,), split.frames))
    assert {line.method for line in lines} == {"frozen"}
    assert not any(line.gaps for line in lines)


def test_tables_of_windows() -> None:
    about, auc = window_grids(lines_of(method("updated", (0, 1, 2), 1.5), method("frozen", (0, 1, 2), 0.0)))
    assert [cell.text for cell in about.rows[1]] == ["1", "1970-01-01 to 1970-01-01", "120", "20", "1", "2"]
    assert [row[0].text for row in auc.rows] == ["0", "0", "1", "1", "all", "all"]
    updated, frozen = auc.rows[2], auc.rows[3]
    assert updated[3].strong
    assert frozen[3].text == "-"
    assert "Windows 0, 1 have under 30 users" in auc.caption
    assert window_grids(()) == []
