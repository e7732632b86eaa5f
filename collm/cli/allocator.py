"""The C library's allocator on Linux, set so that freed memory is used again instead of being returned and fetched."""

from __future__ import annotations

import ctypes
import os
import sys

# Names and numbers of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Activations of a pass stay below; larger blocks still go back to the system once they are freed.
MAPPED_FROM_BYTES = 256 * 2**20
# The largest value there is.
TRIM_FROM_BYTES = 2**31 - 1
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


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
