"""Work in shares: scores of batches and sums of gradients over processes, scores of many rows part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from collm.data.prepared import Rows
from collm.engine.progress import progress
from collm.errors import RunError
from collm.process_group import ProcessGroup

Array = np.ndarray[Any, Any]
# Rows whose prompts are in memory together, about 2 kB each, where rows are only scored.
PART_ROWS = 65_536


def score_batches(
    score: Callable[[Array], torch.Tensor], batches: Sequence[Array], n_rows: int, *, processes: ProcessGroup
) -> Array:
    """Scores every batch in one of the processes and gives the whole to all.

    The batches do not depend on the number of processes, so neither does a row's score. Nothing is padded: a process
    that has fewer batches has fewer, or, where the processes must run the model equally often, drops what it repeats.

    Args:
        score: Returns the float32 [batch] logits of some row numbers.
        batches: int64 row numbers each; together every row once.
        n_rows: Number of rows.
        processes: The processes that share the work.

    Returns:
        float32 [n_rows] logits.

    Raises:
        RunError: If a row is in no batch, or in two.
    """
    # Row 0 holds the logits, row 1 how often a row was scored. Adding zeros to a logit leaves its bits alone.
    filled = np.zeros((2, n_rows), dtype=np.float32)
    for rows in batches[processes.index :: processes.size]:
        filled[0, rows] = score(rows).float().cpu().numpy()
        np.add.at(filled[1], rows, 1)
    if processes.shards:
        for _ in range(n_idle_turns(len(batches), processes)):
            score(batches[0])
    filled = processes.sum(filled)
    if n_bad := int((filled[1] != 1).sum()):
        raise RunError(f"scoring: {n_bad} of {n_rows} rows were not scored exactly once")
    logits: Array = filled[0]
    return logits


def n_idle_turns(n_batches: int, processes: ProcessGroup) -> int:
    """Returns how many batches fewer this process has than the first one, where they are dealt out in turn."""
    return -(-n_batches // processes.size) - len(range(processes.index, n_batches, processes.size))


def add_up_gradients(
    parameters: Sequence[torch.Tensor], numbers: Sequence[float], *, processes: ProcessGroup
) -> list[float]:
    """Replaces every gradient by its sum over the processes, and adds up some numbers on the way.

    Losses are divided by the rows of the whole global batch before their backward pass, so that the sum is the exact
    mean however unequal the shares were. What trains is whole in every process (adapters, mapping, encoder: a few
    megabytes), so one collective operation per optimiser step is all that crosses the wires.

    Args:
        parameters: What trains; a gradient that no process has stays None, so that the optimiser passes over it.
        numbers: Further numbers to add up, in float32.
        processes: The processes.

    Returns:
        The sums of `numbers`.
    """
    if processes.size == 1:
        return list(numbers)
    device = parameters[0].device
    present = torch.tensor([float(each.grad is not None) for each in parameters], device=device)
    extra = torch.tensor(list(numbers), dtype=torch.float32, device=device)
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    flat = torch.cat([present, extra, *(gradient.reshape(-1).float() for gradient in gradients)])
    processes.all_reduce(flat)
    sizes = [len(present), len(extra), *(each.numel() for each in parameters)]
    present, extra, *sums = torch.split(flat, sizes)
    for parameter, there, total in zip(parameters, present.tolist(), sums, strict=True):
        if there:
            parameter.grad = total.view_as(parameter).to(parameter.dtype)
    return [float(number) for number in extra]


def scored_in_parts(rows: Rows, score: Callable[[Rows], Array], *, size: int = PART_ROWS) -> Array:
    """Scores rows part by part, so that memory does not grow with their number.

    Rows of a user stay together, since they share the beginnings of their prompts, unless they are more than a part.

    Args:
        rows: Any number of rows.
        score: Returns float32 [n] logits of some of them.
        size: Rows per part.

    Returns:
        float32 [n_rows] logits in the order of the rows.
    """
    if len(rows) <= size:
        return score(rows)
    order = np.argsort(rows.user, kind="stable")
    starts = [0]
    for end in (np.flatnonzero(np.diff(rows.user[order])) + 1).tolist():
        if end - starts[-1] >= size:
            starts.append(end)
    logits = np.empty(len(rows), dtype=np.float32)
    with progress(total=len(rows), unit="rows of all") as ticker:
        for whole in np.split(order, starts[1:]):
            # Twice the size at most: the last user of a part may have as many rows as a part.
            for part in np.array_split(whole, max(1, len(whole) // size)):
                logits[part] = score(rows.take(part))
                ticker.advance(len(part))
    return logits
