"""The process group of several processes that a launcher started.

Decisions, errors and "I am ready" go through the launcher's key-value store, where waiting has no time limit and can be
interrupted. Tensors (gradients, scores) go through the collective operations of the device.
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
from collm.process_group import SINGLE, Array, ProcessFailed, ProcessGroup

T = TypeVar("T")
FIRST_PAUSE_S, LAST_PAUSE_S = 0.001, 0.2
# How long a failed process waits for the others to report the same error before it aborts the group.
PATIENCE_S = 10.0
FAILED, WHY, LEFT = "collm/failed", "collm/why", "collm/left"
_UNSUPPORTED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def join_group(device: str | None, *, expected: int) -> ProcessGroup:
    """Joins the process group of this launch.

    Args:
        device: Device name given by the user; None = what the launcher assigned.
        expected: Number of processes that the launcher announced.

    Returns:
        The group; of one where nothing else was launched.

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
        return SINGLE
    return LaunchedGroup(
        # The store by which the processes met; torch gives no public way to it.
        distributed.distributed_c10d._get_default_store(),
        index=accelerator.process_index,
        size=expected,
        device=accelerator.device,
        shards=parse_flag_from_env("ACCELERATE_USE_FSDP"),
    )


class LaunchedGroup(ProcessGroup):
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
        self._store, self._device, self._sequence = store, device, 0

    def run_on_main(self, work: Callable[[], T]) -> T:
        """See `ProcessGroup.run_on_main`."""
        key = self._next_key()
        if not self.is_main:
            answer: T = self._value_or_raise(self._wait_for(key))
            return answer
        try:
            result = work()
        except CollmError as error:
            self._publish(key, _described(error))
            raise
        # A bug, or the machine: this process reports it, the others end silently.
        except Exception as error:
            self._publish(key, _described(error))
            raise self._abort(error) from error
        self._publish(key, {"value": result})
        return result

    def run_on_all(self, work: Callable[[], T]) -> T:
        """See `ProcessGroup.run_on_all`."""
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
                self._abort(stop)
            raise
        self._publish(f"{key}/{self.index}", {})
        for message in self._wait_for_all(key) or ():
            self._value_or_raise(message)
        return result

    def sum(self, values: Array) -> Array:
        """See `ProcessGroup.sum`."""
        # Processes come here minutes apart after uneven shares; collective operations do not wait for so long.
        key = self._next_key()
        self._publish(f"{key}/{self.index}", {})
        self._wait_for_all(key)
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device, copy=True)
        self.all_reduce(tensor)
        return tensor.cpu().numpy()

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """See `ProcessGroup.all_reduce`."""
        self._collectively(lambda: distributed.all_reduce(tensor))

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """See `ProcessGroup.broadcast`."""
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            self._collectively(functools.partial(distributed.broadcast, whole, src=0))
            if whole.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(whole)

    def close(self) -> None:
        """See `ProcessGroup.close`."""
        self.run_on_all(lambda: None)
        # The main process may host the store: it leaves last.
        self._store.add(LEFT, 1)
        while self.is_main and self._store.add(LEFT, 0) < self.size:
            time.sleep(0.01)
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def _agree_on_failure(self, key: str, error: Exception) -> Exception:
        """Returns what to raise: the error that all processes share, or that the group is aborted."""
        self._publish(f"{key}/{self.index}", _described(error))
        message = self._wait_for_all(key, patience_s=PATIENCE_S)
        owner = None if message is None else next(each for each in message if each)
        if owner is None or "error" not in owner:
            return self._abort(error)
        return error if owner == _described(error) else _rebuilt(owner)

    def _abort(self, error: BaseException) -> ProcessFailed:
        """Aborts the group; only the first process to fail reports the error."""
        what = str(error) if isinstance(error, CollmError) else f"unexpected {type(error).__name__}: {error}"
        message = f"process {self.index} of {self.size}: {what}"
        if self._store.add(FAILED, 1) > 1:
            return ProcessFailed(self._why(), already_reported=True)
        self._store.set(WHY, message)
        return ProcessFailed(message, already_reported=False)

    def _why(self) -> str:
        return self._store.get(WHY).decode() if self._store.check([WHY]) else "another process failed"

    def _collectively(self, operation: Callable[[], Any]) -> None:
        try:
            operation()
        except RuntimeError as error:
            lost = RunError(f"lost another process, which was killed or ran out of memory ({error})")
            raise self._abort(lost) from error

    def _next_key(self) -> str:
        # All processes communicate in the same order, so a count identifies a message.
        self._sequence += 1
        return f"collm/{self._sequence}"

    def _publish(self, key: str, content: Mapping[str, Any]) -> None:
        self._store.set(key, json.dumps(content))

    def _wait_for(self, key: str) -> dict[str, Any]:
        return (self._poll([key]) or [{}])[0]

    def _wait_for_all(self, key: str, *, patience_s: float | None = None) -> list[dict[str, Any]] | None:
        return self._poll([f"{key}/{index}" for index in range(self.size)], patience_s)

    def _poll(self, keys: list[str], patience_s: float | None = None) -> list[dict[str, Any]] | None:
        """Returns the values of the keys, None where patience ends first.

        Polls instead of waiting inside the store, so that an interrupt or an aborted group is noticed.
        """
        start, pause = time.monotonic(), FIRST_PAUSE_S
        while not self._published(keys):
            if self._published([FAILED]):
                raise ProcessFailed(self._why(), already_reported=True)
            if patience_s is not None and time.monotonic() - start > patience_s:
                return None
            time.sleep(pause)
            pause = min(LAST_PAUSE_S, 1.5 * pause)
        return [json.loads(self._store.get(key)) for key in keys]

    def _published(self, keys: list[str]) -> bool:
        try:
            return bool(self._store.check(keys))
        except RuntimeError as error:
            raise ProcessFailed(
                f"process {self.index} of {self.size} lost the others ({error})", already_reported=False
            ) from error

    def _value_or_raise(self, message: Mapping[str, Any]) -> Any:
        if "error" in message:
            raise _rebuilt(message)
        if "failure" in message:
            raise ProcessFailed(message["failure"], already_reported=True)
        return message.get("value")


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, CollmError):
        return {"error": type(error).__name__, "message": str(error)}
    return {"failure": f"{type(error).__name__}: {error}"}


def _rebuilt(message: Mapping[str, Any]) -> CollmError:
    kind = getattr(errors, message["error"], RunError)
    error: CollmError = kind(message["message"])
    return error
