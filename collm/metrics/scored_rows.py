"""Rows of `scores.parquet` and lists of `ranking.parquet` in the form that metrics read. Knows no metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import ScoredRows

Array = np.ndarray[Any, Any]


def scored_rows(frame: pl.DataFrame) -> ScoredRows:
    """Returns rows of `scores.parquet` as arrays.

    Users and items are numbered by length of the raw id, then the id itself, so that a report resamples the same users
    as the run that wrote the scores did, whatever their dense ids were.

    Args:
        frame: Rows with the columns of `scores.parquet`; those of runs of earlier versions lack `timestamp`.
    """
    return ScoredRows(
        user=_numbered(frame["user"]),
        label=frame["label"].to_numpy(),
        score=frame["score"].to_numpy(),
        logit=_known(frame, "logit", pl.Float64()),
        item=_numbered(frame["item"]) if "item" in frame.columns else None,
        timestamp=_known(frame, "timestamp", pl.Int64()),
        user_train_rows=_known(frame, "user_train_rows", pl.Int64()),
        item_train_rows=_known(frame, "item_train_rows", pl.Int64()),
    )


def list_rows(table: pl.DataFrame, inside: Array) -> ScoredRows:
    """Returns ranked lists as rows for metrics, of the positives that are inside a slice; bool [n_rows]."""
    positive = pl.col("label") == 1
    kept = (
        table.with_columns(pl.Series("inside", inside))
        .sort("user", "rank")
        .with_columns((positive & ~pl.col("inside")).cast(pl.Int64).cum_sum().over("user").alias("gone"))
        .with_columns(pl.col("gone").max().over("user").alias("all_gone"))
        .filter(~(positive & ~pl.col("inside")))
        .filter((pl.col("label") == 1).any().over("user"))
    )
    rank = (kept["rank"].cast(pl.Int64) - kept["gone"]).to_numpy()
    return ScoredRows(
        user=_numbered(kept["user"]),
        item=_numbered(kept["item"]),
        timestamp=_known(kept, "timestamp", pl.Int64()),
        label=kept["label"].to_numpy(),
        score=-rank.astype(np.float64),
        rank=rank,
        user_train_rows=kept["user_train_rows"].to_numpy(),
        item_train_rows=kept["item_train_rows"].to_numpy(),
        candidates=(kept["candidates"].cast(pl.Int64) - kept["all_gone"]).to_numpy(),
    )


def _numbered(ids: pl.Series) -> Array:
    distinct = ids.unique().to_frame("id").sort(pl.col("id").str.len_chars(), "id").with_row_index("code")
    codes = ids.to_frame("id").join(distinct, on="id", how="left", maintain_order="left")["code"]
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def _known(frame: pl.DataFrame, column: str, dtype: pl.DataType) -> Array | None:
    """Returns a column as an array, None where it is not there or has nulls."""
    if column not in frame.columns or frame[column].null_count():
        return None
    return np.asarray(frame[column].cast(dtype).to_numpy())
