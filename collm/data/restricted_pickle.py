"""Reads a pandas DataFrame out of a pickle without running anything that the pickle names.

Every global that a pickle asks for is looked up in the short list of `pickle_standins`; any other name ends the reading
at once. Pandas is not imported. Needs pickle protocol 3 or later (older ones rebuild bytes through `_codecs`, which is
not on the list).
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from collm.data.pickle_standins import (
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
from collm.errors import DataError

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
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return _frame(_RestrictedUnpickler(stream).load())
    except RefusedError as error:
        raise DataError(
            f"{name}: refused as unsafe, nothing of it was run: {error}; only plain pandas tables are read. "
            "Get the file again from its publisher"
        ) from error
    except _MALFORMED as error:
        raise DataError(
            f"{name}: not a readable pickled table ({type(error).__name__}: {error}); get it again"
        ) from error


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
