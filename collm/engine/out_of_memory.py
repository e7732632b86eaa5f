"""A device that is out of memory: recognised, cleaned up after, and answered by smaller pieces of the same work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from collm.errors import RunError

logger = logging.getLogger(__name__)
T = TypeVar("T")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OutOfMemory:
    """What came of an attempt in place of a result.

    Attributes:
        said: First line of the device's own message.
    """

    said: str


def attempt(work: Callable[[], T]) -> T | OutOfMemory:
    """Does work and returns its result, or says that memory ran out; then all that the work had allocated is free."""
    try:
        return work()
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
        said = (str(error).splitlines() or ["out of memory"])[0]
    # Not within the handler: the traceback there still holds the tensors.
    clear_device_cache(garbage_collection=True)
    return OutOfMemory(said)


class InParts:
    """Scores rows at once or, after memory has run out, in as many parts as it takes."""

    def __init__(self, score: Callable[[Array], torch.Tensor], *, smaller: str) -> None:
        """Takes what scores.

        Args:
            score: Returns the float32 [n] logits of row numbers; a row's logit does not depend on the others.
            smaller: What to set where a single row does not fit.
        """
        self._score, self._smaller = score, smaller
        self._n_parts = 1

    def __call__(self, rows: Array) -> torch.Tensor:
        """Returns float32 [n] logits on the processor.

        Raises:
            RunError: If memory runs out on a single row.
        """
        while True:
            parts = np.array_split(rows, min(self._n_parts, len(rows)))
            done = attempt(lambda: torch.cat([self._score(part).float().cpu() for part in parts]))  # noqa: B023 - called at once
            if not isinstance(done, OutOfMemory):
                return done
            if len(parts) == len(rows):
                raise RunError(f"scoring: a single row does not fit into memory ({done.said}); {self._smaller}")
            if self._n_parts == 1:
                logger.warning("scoring: out of memory (%s); going on with smaller batches", done.said)
            self._n_parts *= 2
