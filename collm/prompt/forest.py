"""Prompts that share a beginning: which rows do, and how many tokens that saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ForestSize:
    """What sharing saves over some rows.

    Attributes:
        n_rows: Rows.
        n_groups: Distinct beginnings.
        n_tokens: Tokens of all prompts.
        n_distinct: Tokens where each beginning is run once.
    """

    n_rows: int
    n_groups: int
    n_tokens: int
    n_distinct: int


def prefix_groups(ids: Array, offsets: Array, shared: Array, keys: Sequence[Array] = ()) -> Array:
    """Groups rows whose leading tokens are the very same.

    Args:
        ids: int [n_tokens] token ids of all prompts, one after the other.
        offsets: int64 [n + 1]: prompt i is ids[offsets[i]:offsets[i + 1]].
        shared: int [n] how many leading tokens may be shared.
        keys: Further int arrays [n] or [n, k] that must agree too: what decides the vector in a shared user slot.

    Returns:
        int64 [n] group numbers, in order of first appearance.
    """
    ids, columns = np.ascontiguousarray(ids), [np.ascontiguousarray(key) for key in keys]
    numbers: dict[tuple[bytes, ...], int] = {}
    groups = np.empty(len(shared), dtype=np.int64)
    for row, (start, n) in enumerate(zip(offsets[:-1], shared, strict=True)):
        name = (ids[start : start + n].tobytes(), *(key[row].tobytes() for key in columns))
        groups[row] = numbers.setdefault(name, len(numbers))
    return groups


def forest_size(offsets: Array, shared: Array, groups: Array) -> ForestSize:
    """Returns how many tokens a forest has beside its prompts.

    Args:
        offsets: int64 [n + 1] as above.
        shared: int [n] shared leading tokens of each row.
        groups: int64 [n] from `prefix_groups`.
    """
    lengths = np.diff(np.asarray(offsets, dtype=np.int64))
    prefix = np.asarray(shared, dtype=np.int64)
    first = np.unique(groups, return_index=True)[1]
    return ForestSize(
        n_rows=len(lengths),
        n_groups=len(first),
        n_tokens=int(lengths.sum()),
        n_distinct=int((lengths - prefix).sum() + prefix[first].sum()),
    )
