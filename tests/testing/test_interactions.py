"""The generated log: its size, its form, and that a seed decides it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from collm.testing import interactions
from collm.testing.interactions import LogShape, write_log


def test_parts_hold_the_rows_and_the_seed_decides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "_PART_ROWS", 400)
    shape = LogShape.of_rows(1000)
    assert (shape.n_users, shape.n_items) == (50, 10)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_log(tmp_path / name, shape, seed=seed)
    frames = [pl.read_parquet(tmp_path / name / "*.parquet") for name in "abc"]
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert frames[0].equals(frames[1]) and not frames[0].equals(frames[2])
    frame = frames[0]
    assert frame.schema == {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    assert frame.height == 1000 and frame["user"].n_unique() <= 50 and frame["item"].n_unique() <= 10
    assert frame["rating"].is_between(0.5, 5).all() and (frame["rating"] * 2 % 1 == 0).all()


def test_ids_as_text(tmp_path: Path) -> None:
    write_log(tmp_path / "log", LogShape(50, 9, 4), ids="text")
    frame = pl.read_parquet(tmp_path / "log" / "*.parquet")
    assert frame["user"].str.len_chars().unique().to_list() == [14]
