"""Batches of row numbers under a token budget, and dealing them out; from lengths and groups alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Batches per pool: within a pool rows are sorted by length, so this trades padding against how far shuffling reaches.
POOL_BATCHES = 32


def token_budget_batches(lengths: Array, *, max_tokens: int, max_rows: int | None = None) -> list[Array]:
    """Cuts rows, sorted by length, into batches whose padded size stays within a budget.

    Args:
        lengths: int [n] tokens per row.
        max_tokens: Rows times longest row at most; a longer row is a batch of its own.
        max_rows: Rows per batch at most.

    Returns:
        Row numbers, int64 each; every row once.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if not len(lengths):
        return []
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for end in range(1, len(order)):
        n_rows = end + 1 - start
        if n_rows * int(lengths[order[end]]) > max_tokens or (max_rows is not None and n_rows > max_rows):
            batches.append(order[start:end])
            start = end
    return [*batches, order[start:]]


def like_sized_batches(lengths: Array, *, size: int, generator: np.random.Generator) -> list[Array]:
    """Cuts shuffled rows into batches of `size` rows of about the same length.

    Rows are shuffled, sorted by length within pools of `POOL_BATCHES` batches, and the batches shuffled. So every row
    may be in any batch of an epoch, and a batch's rows are a random draw among those of their length.

    Args:
        lengths: int [n] tokens per row.
        size: Rows per batch; one batch may have fewer.
        generator: Decides the order.

    Returns:
        Row numbers, int64 each; every row once; ceil(n / size) batches.
    """
    order = generator.permutation(len(lengths))
    batches: list[Array] = []
    for start in range(0, len(order), size * POOL_BATCHES):
        rows = order[start : start + size * POOL_BATCHES]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[first : first + size] for first in range(0, len(rows), size)]
    return [batches[place] for place in generator.permutation(len(batches))]


def shuffled_in_chunks(groups: Array, generator: np.random.Generator, size: int) -> Array:
    """Returns a permutation of rows in which up to `size` rows of one group appear together.

    Args:
        groups: int64 [n] group of each row.
        generator: Decides which rows appear together and where.
        size: Rows of a group per chunk at most; 1 is a plain permutation.

    Returns:
        int64 [n] row numbers.
    """
    order = generator.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order][:1] - 1))
    within = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    chunk = np.cumsum((within % size) == 0) - 1
    place = generator.permutation(int(chunk[-1]) + 1 if len(chunk) else 0)
    return order[np.argsort(place[chunk], kind="stable")]


def grouped_batches(lengths: Array, shared: Array, groups: Array, *, max_tokens: int) -> list[Array]:
    """Cuts rows into batches in which rows of one group are together and their shared tokens count once.

    A group above the budget is split, its shared tokens counting once in each piece. Groups of like shared length come
    together, so that padding inside attention stays small.

    Args:
        lengths: int [n] tokens per row.
        shared: int [n] leading tokens that a row shares with its group.
        groups: int [n] group numbers.
        max_tokens: Distinct tokens per batch at most; a longer row is a batch of its own.

    Returns:
        Row numbers, int64 each; every row once; a function of the arguments alone.
    """
    lengths, shared = np.asarray(lengths, dtype=np.int64), np.asarray(shared, dtype=np.int64)
    if not len(lengths):
        return []
    batches: list[Array] = []
    current: list[Array] = []
    size = 0
    for rows in _groups_by_shared_length(shared, np.asarray(groups)):
        for piece, cost in _pieces(rows, lengths, shared, max_tokens):
            if current and size + cost > max_tokens:
                batches.append(np.concatenate(current))
                current, size = [], 0
            current.append(piece)
            size += cost
    batches.append(np.concatenate(current))
    return batches


def _groups_by_shared_length(shared: Array, groups: Array) -> list[Array]:
    """Returns each group's rows; groups in rising order of shared length, then of number."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    members = np.split(order, starts)
    longest = np.array([int(shared[rows].max()) for rows in members])
    return [members[i] for i in np.argsort(longest, kind="stable")]


def _pieces(rows: Array, lengths: Array, shared: Array, max_tokens: int) -> list[tuple[Array, int]]:
    """Splits one group into pieces within the budget, with their costs in distinct tokens."""
    prefix = int(shared[rows].max())
    pieces, start, cost = [], 0, prefix
    for i, row in enumerate(rows):
        own = int(lengths[row] - shared[row])
        if i > start and cost + own > max_tokens:
            pieces.append((rows[start:i], cost))
            start, cost = i, prefix
        cost += own
    pieces.append((rows[start:], cost))
    return pieces


def deal(costs: Sequence[float], n_processes: int) -> list[list[int]]:
    """Gives every process about the same work: the heaviest piece first, to the process with least work.

    Pieces are dealt whole, so that what is computed together does not depend on the number of processes.

    Args:
        costs: Work of each piece, at least 0.
        n_processes: Processes, at least 1.

    Returns:
        Numbers of each process's pieces, rising; every piece once. With fewer pieces than processes some get none. A
        function of the arguments alone, so that every process knows all shares.
    """
    loads = [0.0] * n_processes
    shares: list[list[int]] = [[] for _ in range(n_processes)]
    for piece in sorted(range(len(costs)), key=lambda piece: (-costs[piece], piece)):
        # Among equals the one with fewest pieces, so that pieces without cost do not pile up.
        lightest = min(range(n_processes), key=lambda process: (loads[process], len(shares[process]), process))
        loads[lightest] += costs[piece]
        shares[lightest].append(piece)
    return [sorted(share) for share in shares]
