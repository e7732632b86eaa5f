"""How the rows of one global batch are shared out to several processes; knows lengths and groups, nothing of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def share_rows(lengths: Array, shared: Array, groups: Array, n_processes: int) -> list[Array]:
    """Gives every process about the same number of distinct tokens.

    Rows of one group stay together, because their shared tokens are computed once per process that has any of them;
    only a group that is more than one process's due is cut. The heaviest piece goes first, to whoever has least.

    Args:
        lengths: int [n] tokens per row.
        shared: int [n] leading tokens that a row shares with its group.
        groups: int [n] group numbers.
        n_processes: Processes, at least 1.

    Returns:
        Row numbers of each process, int64 each, rising; every row once. With fewer rows than processes some get none.
        A function of the arguments alone, so that every process knows all shares.
    """
    lengths, shared = np.asarray(lengths, dtype=np.int64), np.asarray(shared, dtype=np.int64)
    due = _cost(np.arange(len(lengths)), lengths, shared, np.asarray(groups)) / n_processes
    pieces: list[tuple[int, Array]] = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        for piece in _pieces(rows, lengths, shared, due):
            pieces.append((_cost(piece, lengths, shared), piece))
    loads = np.zeros(n_processes, dtype=np.int64)
    shares: list[list[Array]] = [[] for _ in range(n_processes)]
    for cost, piece in sorted(pieces, key=lambda each: (-each[0], int(each[1][0]))):
        lightest = int(loads.argmin())
        loads[lightest] += cost
        shares[lightest].append(piece)
    nothing = np.zeros(0, dtype=np.int64)
    return [np.sort(np.concatenate([nothing, *share])) for share in shares]


def _pieces(rows: Array, lengths: Array, shared: Array, due: float) -> list[Array]:
    """Cuts a group that costs more than `due` into as many pieces as it holds dues, if it has the rows."""
    n_pieces = min(len(rows), max(1, int(np.ceil(_cost(rows, lengths, shared) / due)))) if due else 1
    return [np.asarray(piece) for piece in np.array_split(rows, n_pieces)]


def _cost(rows: Array, lengths: Array, shared: Array, groups: Array | None = None) -> int:
    """Returns the distinct tokens of rows: of one group, or of each group that `groups` names."""
    if groups is not None:
        members = (np.flatnonzero(groups == group) for group in np.unique(groups))
        return sum(_cost(each, lengths, shared) for each in members)
    return int((lengths[rows] - shared[rows]).sum() + shared[rows].max(initial=0))
