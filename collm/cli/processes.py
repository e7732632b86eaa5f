"""Which process of a launch this is, read from the environment; torch loads only where there is a group to meet."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings

from collm.process_group import SINGLE, ProcessGroup
from collm.runs.parent import end_with_parent

_MPI = ("OMPI_COMM_WORLD", "PMI", "MV2_COMM_WORLD")
_YES = ("1", "true", "yes", "on")


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
