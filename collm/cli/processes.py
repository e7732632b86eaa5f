"""Which process of a launch this is, read from the environment; torch loads only where there is a group to meet."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings

from collm.process_group import SINGLE, ProcessGroup, end_with_parent

_MPI = ("OMPI_COMM_WORLD", "PMI", "MV2_COMM_WORLD")
_YES = ("1", "true", "yes", "on")
# Names and numbers of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Activations of a pass stay below; larger blocks still go back to the system once they are freed.
MAPPED_FROM_BYTES = 256 * 2**20
# The largest value there is.
TRIM_FROM_BYTES = 2**31 - 1
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def n_processes() -> int:
    """Returns how many processes the launcher started: 1 where there was none."""
    return _number("WORLD_SIZE", "SIZE", default=1)


def is_main_process() -> bool:
    """Whether this is the process that writes and prints: the only one, or the first of several."""
    return n_processes() == 1 or _number("RANK", "RANK", default=0) == 0


def meet(device: str | None) -> ProcessGroup:
    """Meets the other processes of this launch; a process without others works alone.

    All but the main one fall silent: their log lines and warnings would repeat its own.

    Args:
        device: Device name given by the user.
    """
    expected = n_processes()
    if expected == 1:
        return SINGLE
    end_with_parent(os.getppid())
    # Accelerate's default for FSDP makes transformers load empty weights in all processes but one.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if is_main_process():
        # Launchers and batch systems end processes this way: the locks go with it, whatever machine comes next.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    else:
        logging.getLogger().addHandler(logging.NullHandler())
        warnings.simplefilter("ignore")
    from collm.engine.launched import join_group

    return join_group(device, expected=expected)


def started_less_than_asked() -> bool:
    """Whether `accelerate launch --cpu --num_processes N` started one process only, as it does without MPI."""
    asked = _says_yes("ACCELERATE_USE_CPU") and "MASTER_PORT" in os.environ
    return asked and n_processes() == 1 and "WORLD_SIZE" not in os.environ


def _number(torch_name: str, mpi_suffix: str, *, default: int) -> int:
    """Reads torch's variable or, where Accelerate was set to use processors, that of an MPI launcher."""
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return int(os.environ[torch_name])
    if _says_yes("ACCELERATE_USE_CPU"):
        for prefix in _MPI:
            if found := os.environ.get(f"{prefix}_{mpi_suffix}"):
                return int(found)
    return default


def _says_yes(name: str) -> bool:
    return os.environ.get(name, "").lower() in _YES


def keep_freed_memory() -> bool:
    """Asks glibc to keep what is freed, up to 2 GiB, for the next allocation of this process.

    By default it returns activations of some megabytes to the system and is handed zeroed pages for the next ones, page
    by page: 5% of the time of scoring on a processor (docs/speed.md). In training steps it keeps them by itself.

    Only for processes that are all ours: the command line and what it forks. A program that imports `collm` keeps its
    own.

    Returns:
        Whether it was set: not without glibc, nor where the environment sets its allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # The second call would turn off glibc's own adjustment of the first value, so both are set.
    return all(
        mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1
        for name, value in ((_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), (_M_TRIM_THRESHOLD, TRIM_FROM_BYTES))
    )
