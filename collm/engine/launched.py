"""Several processes that a launcher started: what they say to each other, and what they add up.

Words (decisions, errors, "I am here") go through the launcher's key-value store, where waiting has no time limit and
can be interrupted. Numbers (gradients, scores) go through the collective operations of the device.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import distributed

from collm import errors
from collm.engine.device import choose_device, start_accelerator
from collm.errors import CollmError, RunError
from collm.runs.team import ALONE, Array, ProcessFailed, Team

T = TypeVar("T")
FIRST_PAUSE_S, LAST_PAUSE_S = 0.001, 0.2
# How long a process that failed waits for the others to fail likewise, before it gives the team up.
PATIENCE_S = 10.0
FAILED, WHY, LEFT = "collm/failed", "collm/why", "collm/left"
_UNSUPPORTED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def join_team(device: str | None, *, expected: int) -> Team:
    """Meets the other processes of this launch.

    Args:
        device: Device name given by the user; None = what the launcher assigned.
        expected: Number of processes that the launcher announced.

    Returns:
        The team; of one where nothing else was launched.

    Raises:
        RunError: If the launcher's settings cannot be used.
    """
    chosen = choose_device(device)
    if expected > 1 and chosen.index is not None:
        raise RunError(f"--device {device}: the launcher gives each process its own device; leave out the number")
    accelerator = start_accelerator(chosen)
    if accelerator.distributed_type in _UNSUPPORTED:
        raise RunError(
            f"launched with {accelerator.distributed_type.value}: several processes work with plain data parallelism "
            "or with FSDP; change the launcher's settings (docs/cluster.md)"
        )
    if accelerator.num_processes != expected:
        raise RunError(
            f"the launcher announced {expected} processes, but {accelerator.num_processes} met: start with "
            "`accelerate launch` or `torchrun` (docs/cluster.md)"
        )
    if expected == 1:
        return ALONE
    return LaunchedTeam(
        # The store by which the processes met; torch gives no public way to it.
        distributed.distributed_c10d._get_default_store(),
        index=accelerator.process_index,
        size=expected,
        device=accelerator.device,
        shards=parse_flag_from_env("ACCELERATE_USE_FSDP"),
    )


class LaunchedTeam(Team):
    """One of several processes."""

    def __init__(
        self, store: Any, *, index: int, size: int, device: torch.device | str = "cpu", shards: bool = False
    ) -> None:
        """Takes the store that all processes reach, and this process's place among them.

        Args:
            store: A `torch.distributed` store.
            index: Number of this process, from 0.
            size: Number of processes.
            device: Where numbers are added up.
            shards: Whether frozen weights are split over the processes.
        """
        self.index, self.size, self.shards = index, size, shards
        self._store, self._device, self._n_talks = store, device, 0

    def from_main(self, work: Callable[[], T]) -> T:
        """See `Team.from_main`."""
        key = self._next_key()
        if not self.is_main:
            answer: T = self._understand(self._hear(key))
            return answer
        try:
            result = work()
        except CollmError as error:
            self._say(key, _described(error))
            raise
        # A bug, or the machine: the others end without a word, and this process speaks.
        except Exception as error:
            self._say(key, _described(error))
            raise self._end(error) from error
        self._say(key, {"value": result})
        return result

    def together(self, work: Callable[[], T]) -> T:
        """See `Team.together`."""
        key = self._next_key()
        try:
            result = work()
        except ProcessFailed:
            raise
        # Whatever it is, the others must not wait for this process: it is raised again below.
        except Exception as error:
            raise self._agree_on_failure(key, error) from error
        except BaseException as stop:
            if self.is_main:
                self._end(stop)
            raise
        self._say(f"{key}/{self.index}", {})
        for said in self._hear_all(key) or ():
            self._understand(said)
        return result

    def sum(self, values: Array) -> Array:
        """See `Team.sum`."""
        # Processes come here minutes apart after uneven shares; collective operations do not wait for so long.
        key = self._next_key()
        self._say(f"{key}/{self.index}", {})
        self._hear_all(key)
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device, copy=True)
        self.add_up(tensor)
        return tensor.cpu().numpy()

    def add_up(self, tensor: torch.Tensor) -> None:
        """See `Team.add_up`."""
        self._collectively(lambda: distributed.all_reduce(tensor))

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """See `Team.copy_from_main`."""
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            self._collectively(functools.partial(distributed.broadcast, whole, src=0))
            if whole.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(whole)

    def close(self) -> None:
        """See `Team.close`."""
        self.together(lambda: None)
        # The main process may be the one that keeps the store: it leaves last.
        self._store.add(LEFT, 1)
        while self.is_main and self._store.add(LEFT, 0) < self.size:
            time.sleep(0.01)
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def _agree_on_failure(self, key: str, error: Exception) -> Exception:
        """Returns what to raise: the error that all share, or that the team is lost."""
        self._say(f"{key}/{self.index}", _described(error))
        said = self._hear_all(key, patience_s=PATIENCE_S)
        owner = None if said is None else next(each for each in said if each)
        if owner is None or "error" not in owner:
            return self._end(error)
        return error if owner == _described(error) else _made_again(owner)

    def _end(self, error: BaseException) -> ProcessFailed:
        """Gives the team up; the first process that does so is the one that speaks."""
        what = str(error) if isinstance(error, CollmError) else f"unexpected {type(error).__name__}: {error}"
        message = f"process {self.index} of {self.size}: {what}"
        if self._store.add(FAILED, 1) > 1:
            return ProcessFailed(self._why(), told=True)
        self._store.set(WHY, message)
        return ProcessFailed(message, told=False)

    def _why(self) -> str:
        return self._store.get(WHY).decode() if self._store.check([WHY]) else "another process failed"

    def _collectively(self, operation: Callable[[], Any]) -> None:
        try:
            operation()
        except RuntimeError as error:
            lost = RunError(f"lost another process, which was killed or ran out of memory ({error})")
            raise self._end(lost) from error

    def _next_key(self) -> str:
        # All processes talk in the same order, so a count names a talk.
        self._n_talks += 1
        return f"collm/{self._n_talks}"

    def _say(self, key: str, content: Mapping[str, Any]) -> None:
        self._store.set(key, json.dumps(content))

    def _hear(self, key: str) -> dict[str, Any]:
        return (self._await([key]) or [{}])[0]

    def _hear_all(self, key: str, *, patience_s: float | None = None) -> list[dict[str, Any]] | None:
        return self._await([f"{key}/{index}" for index in range(self.size)], patience_s)

    def _await(self, keys: list[str], patience_s: float | None = None) -> list[dict[str, Any]] | None:
        """Returns what stands under the keys, None where patience ends first.

        The store is asked rather than waited in: so an interrupt is noticed, and the end of the team as well.
        """
        start, pause = time.monotonic(), FIRST_PAUSE_S
        while not self._there(keys):
            if self._there([FAILED]):
                raise ProcessFailed(self._why(), told=True)
            if patience_s is not None and time.monotonic() - start > patience_s:
                return None
            time.sleep(pause)
            pause = min(LAST_PAUSE_S, 1.5 * pause)
        return [json.loads(self._store.get(key)) for key in keys]

    def _there(self, keys: list[str]) -> bool:
        try:
            return bool(self._store.check(keys))
        except RuntimeError as error:
            raise ProcessFailed(f"process {self.index} of {self.size} lost the others ({error})", told=False) from error

    def _understand(self, said: Mapping[str, Any]) -> Any:
        if "error" in said:
            raise _made_again(said)
        if "failure" in said:
            raise ProcessFailed(said["failure"], told=True)
        return said.get("value")


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, CollmError):
        return {"error": type(error).__name__, "message": str(error)}
    return {"failure": f"{type(error).__name__}: {error}"}


def _made_again(said: Mapping[str, Any]) -> CollmError:
    kind = getattr(errors, said["error"], RunError)
    error: CollmError = kind(said["message"])
    return error
