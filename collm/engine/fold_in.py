"""Vectors of new ids, fitted by their own rows while everything else of the encoder stays as it is, bit by bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from collm.contracts.encoder import FitPhase
from collm.data.prepared import Rows
from collm.engine.device import derive_seed, seed_draws
from collm.engine.encoder_task import EncoderBatcher
from collm.errors import RunError
from collm.model.encoder import EncoderModule, naming_encoder

STEPS = 200
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class FoldIn:
    """How ids are folded in.

    Attributes:
        rows: Rows that involve them.
        marks: Name of a parameter -> bool [rows of it]: which rows of it are theirs.
        share: `rows` as a share of all rows that the encoder learns from. The loss is weighed by it, so that weight
            decay has the strength that it has in a fit on all rows.
        seed: Decides the order of batches.
    """

    rows: Rows
    marks: Mapping[str, torch.Tensor]
    share: float
    seed: int


def fold_in(encoder: EncoderModule, phase: FitPhase, batcher: EncoderBatcher, what: FoldIn) -> int:
    """Trains the marked rows alone: Adam with a rate that falls from 0.05 to 0 over 200 steps.

    Loss and weight decay are those of the phase, and so is the size of batches. The encoder is in evaluation mode:
    without dropout, and running statistics stay.

    Args:
        encoder: Changed in place.
        phase: The last one of its fit.
        batcher: Makes its batches.
        what: Rows and marks.

    Returns:
        Steps made; 0 where there is nothing to train.

    Raises:
        RunError: If a loss is not finite.
    """
    decays = {
        id(parameter): float(group.get("weight_decay", 0.0))
        for group in phase.model.parameter_groups(phase.fit)
        for parameter in group["params"]
    }
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    trained = {
        name: (parameter, what.marks[name].to(device))
        for name, parameter in encoder.named_parameters()
        if id(parameter) in decays and name in what.marks and bool(what.marks[name].any())
    }
    if not trained or not len(what.rows):
        return 0
    encoder.eval()
    parameters = [parameter for parameter, _ in trained.values()]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    for step in range(STEPS):
        batch = batcher(_batch(what, step, phase.fit.batch_size))
        seed_draws(derive_seed(what.seed, "draws", step))
        with naming_encoder(encoder, "loss"):
            loss = phase.model.loss(batch)
        if not math.isfinite(float(loss.detach())):
            raise RunError(f"folding in new ids: loss is {float(loss.detach())} at step {step}")
        gradients = torch.autograd.grad(loss * what.share, parameters, allow_unused=True)
        for (parameter, mark), gradient in zip(trained.values(), gradients, strict=True):
            decayed = parameter.detach() * decays[id(parameter)]
            whole = decayed if gradient is None else gradient + decayed
            # A zero gradient and zero moments give an update of exactly zero.
            parameter.grad = torch.where(mark.view(-1, *[1] * (whole.ndim - 1)), whole, 0.0)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS)
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return STEPS


def _batch(what: FoldIn, step: int, size: int) -> Rows:
    """Returns the rows of a step: all of them where they fit into one batch, else the next of a seeded permutation."""
    n = len(what.rows)
    if n <= size:
        return what.rows
    per_pass = -(-n // size)
    order = np.random.default_rng(derive_seed(what.seed, "batches", step // per_pass)).permutation(n)
    first = step % per_pass * size
    return what.rows.take(order[first : first + size])
