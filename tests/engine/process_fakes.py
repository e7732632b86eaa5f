"""A group whose members are threads: words go through a store in memory, sums through a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import torch
from torch import distributed

from collm.engine.launched import LaunchedGroup
from collm.process_group import ProcessGroup


class ThreadTeam(LaunchedGroup):
    """One thread of several."""

    def __init__(self, store: Any, index: int, barrier: Barrier, shared: list[Any], *, shards: bool) -> None:
        super().__init__(store, index=index, size=barrier.parties, shards=shards)
        self._barrier, self._shared = barrier, shared

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self._shared[self.index] = tensor.clone()
        self._barrier.wait(timeout=20)
        tensor.copy_(torch.stack(self._shared).sum(0))
        self._barrier.wait(timeout=20)

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            self._shared[self.index] = tensor
            self._barrier.wait(timeout=20)
            if self.index:
                tensor.detach().copy_(self._shared[0].detach())
            self._barrier.wait(timeout=20)


def in_group(work: Callable[[ProcessGroup], Any], size: int, *, shards: bool = False) -> list[Any]:
    """Runs `work(group)` for every member at once; returns what each returned or raised."""
    store, barrier = distributed.HashStore(), Barrier(size)
    store.set_timeout(timedelta(seconds=20))
    shared: list[Any] = [None] * size

    def member(index: int) -> Any:
        try:
            return work(ThreadTeam(store, index, barrier, shared, shards=shards))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(member, range(size)))
