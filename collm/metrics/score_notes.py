"""What scores alone show of how far their metrics can be trusted: sentences for the notes of results."""

from __future__ import annotations

import polars as pl

# A model whose scores take so few values that ties decide its metrics is named: at most this share of the rows.
FEW_VALUES = 0.02
FEW_ROWS = 50
# Users with both labels under which intervals are known to be too narrow.
FEW_USERS = 30


def score_notes(scores: pl.DataFrame) -> list[str]:
    """Returns the notes on ties and on few users.

    Args:
        scores: Content of `scores.parquet`.
    """
    return [*tie_notes(scores), *few_users_notes(scores)]


def tie_notes(scores: pl.DataFrame) -> list[str]:
    """Says where scores cannot tell rows apart.

    Args:
        scores: Content of `scores.parquet`.

    Returns:
        One sentence per split whose probabilities round to ties that the logits have not, or whose rows share few
        values.
    """
    notes = []
    rounded = rounded_logits(scores)
    for (split,), part in scores.group_by("split", maintain_order=True):
        n_rows, n_logits = part.height, part["logit"].n_unique()
        if split in rounded:
            notes.append(
                f"{rounded[split]}; AUC, uAUC and NDCG rank by the logit, log loss and accuracy use the probability."
            )
        if n_rows >= FEW_ROWS and n_logits <= n_rows * FEW_VALUES:
            shared = "one value" if n_logits == 1 else f"{n_logits} distinct values"
            notes.append(f"The {n_rows:,} {split} rows share {shared} as their score; ties count half in AUC and uAUC.")
    return notes


def rounded_logits(scores: pl.DataFrame) -> dict[str, str]:
    """Counts the logits that probabilities cannot tell apart.

    Args:
        scores: Columns `split`, `logit` and `score`, the probability.

    Returns:
        Split -> how many, in words, for the splits that have any.
    """
    found = {}
    for (split,), part in scores.group_by("split", maintain_order=True):
        n_logits, n_scores = part["logit"].n_unique(), part["score"].n_unique()
        if n_scores < n_logits:
            lost = f"{n_logits - n_scores} of {n_logits} distinct {split} logits round to the same probability"
            found[str(split)] = lost
    return found


def few_users_notes(scores: pl.DataFrame) -> list[str]:
    """Says where intervals rest on few users, which makes them too narrow (simulated in docs/reports.md).

    Args:
        scores: Content of `scores.parquet`; its boolean columns mark slices.

    Returns:
        One sentence per split with all rows or a slice of fewer than `FEW_USERS` users who have both labels.
    """
    notes = []
    slices = [name for name, dtype in scores.schema.items() if dtype == pl.Boolean]
    for (split,), part in scores.group_by("split", maintain_order=True):
        slice_rows = {"all": part, **{name: part.filter(pl.col(name)) for name in slices}}
        users = {
            name: int((rows.group_by("user").agg(pl.col("label").n_unique())["label"] == 2).sum())
            for name, rows in slice_rows.items()
            if rows.height
        }
        if few := [f"{name} {n}" for name, n in users.items() if n < FEW_USERS]:
            notes.append(
                f"Few {split} users have both labels ({', '.join(few)}): under {FEW_USERS} users 95% intervals are too "
                "narrow; those of NDCG, and of uAUC at few rows per user, cover the true value in 80% to 92% of cases."
            )
    return notes
