"""Reads a pandas DataFrame out of a pickle without running anything that the pickle names.

Every global that a pickle asks for is looked up in the short list of `pickle_standins`; any other name ends the reading
at once. Pandas is not imported. Needs pickle protocol 3 or later (older ones rebuild bytes through `_codecs`, which is
not on the list).
"""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from collm.errors import DataError
from collm.ingest.pickle_standins import (
    ALLOWED,
    Array,
    ArrayStandIn,
    FrameStandIn,
    IndexMarker,
    LabelsStandIn,
    ManagerStandIn,
    RangeIndexMarker,
    RefusedError,
)

# What the pickle machine raises on broken input is open-ended, but made of these.
_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    MemoryError,
    RecursionError,
    ImportError,
)


_LONGEST_S = 10.0
_BYTES_PER_S = 500_000


@dataclass(frozen=True)
class PickledFrame:
    """A table that was pickled.

    Attributes:
        columns: Column name -> array [n_rows], in the table's order.
        index: Row labels [n_rows].
    """

    columns: dict[str, Array]
    index: Array


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise RefusedError(f"it names '{module_name}.{global_name}'") from None


def read_frame(source: bytes | BinaryIO, *, name: str) -> PickledFrame:
    """Reads a pickled DataFrame.

    Args:
        source: The pickle's bytes, or an open binary file.
        name: What to call the file in messages.

    Returns:
        Its columns and row labels as numpy arrays.

    Raises:
        DataError: If the pickle names anything beyond numpy and pandas reconstruction (nothing of it has run then), is
            malformed, or holds something else than one DataFrame.
    """
    content = source if isinstance(source, bytes) else source.read()
    _require_end(content, name)
    try:
        return _frame(_RestrictedUnpickler(io.BytesIO(content)).load())
    except RefusedError as error:
        raise DataError(
            f"{name}: refused as unsafe, nothing of it was run: {error}; only plain pandas tables are read. "
            "Get the file again from its publisher"
        ) from error
    except _MALFORMED as error:
        raise DataError(
            f"{name}: not a readable pickled table ({type(error).__name__}: {error}); get it again"
        ) from error


def load_from_stdin() -> None:
    """Reads the pickle on stdin and forgets it: what a child process does to see whether reading comes to an end."""
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
    with contextlib.suppress(RefusedError, *_MALFORMED):
        _RestrictedUnpickler(sys.stdin.buffer).load()


def _require_end(content: bytes, name: str) -> None:
    """Refuses a pickle that is never read to its end.

    A tuple nested into itself has a hash of which each level doubles the work: 130 bytes keep the pickle machine busy
    for ever, inside one call that no signal interrupts. So a child process reads it first and is ended in time.
    """
    allowed_s = _LONGEST_S + len(content) / _BYTES_PER_S
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import load_from_stdin; load_from_stdin()"
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=nothing)
    try:
        # What a busy machine takes to start a process is not counted.
        if child.stdout is not None:
            child.stdout.read(1)
        child.communicate(content, timeout=allowed_s)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{name}: refused as unsafe: reading it did not end within {allowed_s:.0f} s, as in files made to keep a "
            "machine busy. Get the file again from its publisher"
        ) from error
    finally:
        child.kill()
        child.wait()


def _frame(loaded: Any) -> PickledFrame:
    state = getattr(loaded, "state", None) if isinstance(loaded, FrameStandIn) else None
    manager = state.get("_mgr") if isinstance(state, dict) else None
    if not isinstance(manager, ManagerStandIn) or len(manager.axes) != 2:
        raise RefusedError("it does not hold one pandas DataFrame")
    names, index = (_labels(axis) for axis in manager.axes)
    found: dict[int, Array] = {}
    for block in manager.blocks:
        values = _array(block.values)
        places = _places(block.placement, len(names))
        if values.shape != (len(places), len(index)):
            raise RefusedError(
                f"a block of shape {values.shape} does not fit {len(places)} columns of {len(index)} rows"
            )
        found.update(zip(places, values, strict=True))
    if sorted(found) != list(range(len(names))) or len(set(names.tolist())) != len(names):
        raise RefusedError("its blocks do not give each column once")
    return PickledFrame({str(label): found[place] for place, label in enumerate(names.tolist())}, index)


def _array(value: Any) -> Array:
    if isinstance(value, ArrayStandIn):
        return value.build()
    raise RefusedError(f"a {type(value).__name__} stands where an array belongs")


def _places(placement: Any, n_columns: int) -> list[int]:
    if isinstance(placement, slice):
        return list(range(n_columns))[placement]
    return [int(place) for place in _array(placement)]


def _labels(value: Any) -> Array:
    if not isinstance(value, LabelsStandIn) or not isinstance(value.fields, dict):
        raise RefusedError("an axis is not a plain index")
    if value.kind is RangeIndexMarker:
        bounds = [value.fields.get(key) for key in ("start", "stop", "step")]
        if not all(type(bound) is int for bound in bounds) or len(range(*bounds)) > 2**31:  # type: ignore[arg-type]
            raise RefusedError("a range index has unusable bounds")
        return np.arange(*bounds)  # type: ignore[arg-type]
    if value.kind is not IndexMarker:
        raise RefusedError("an axis is not a plain index")
    return _array(value.fields.get("data"))
