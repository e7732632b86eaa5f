"""Gradients of one global batch, added up over the processes that had a share of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from collm.process_group import ProcessGroup


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
