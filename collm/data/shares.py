"""How the micro-batches of one global batch are dealt out to several processes."""

from __future__ import annotations

from collections.abc import Sequence


def deal(costs: Sequence[float], n_processes: int) -> list[list[int]]:
    """Gives every process about the same work: the heaviest piece first, to whoever has least.

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
