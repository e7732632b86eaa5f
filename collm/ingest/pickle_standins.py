"""What a pickled table may name, each as a harmless stand-in defined here.

No class or function of numpy, pandas or Python itself is handed to the pickle machine: a pickle can make instances of
these stand-ins, and change nothing. Numpy's own state setters are avoided because they trust a pickled type description
blindly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

# Plain numbers, text and object; no structured, sub-array or void types.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|O8?|U\d{1,6}")

Array = np.ndarray[Any, Any]


class RefusedError(Exception):
    """Raised inside the pickle machine; carries the message for the user."""


class _Sealed(type):
    """Metaclass of stand-in classes: a pickle may make instances, never change the class."""

    def __setattr__(cls, name: str, value: Any) -> NoReturn:
        raise RefusedError(f"it tries to set '{name}' on a class")


class _Callable:
    """A stand-in for a function. Slots and the refused state keep a pickle from changing it."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise RefusedError(f"it tries to set '{name}' on a function")

    def __setstate__(self, state: Any) -> NoReturn:
        raise RefusedError("it tries to change a function")


class _Marker(metaclass=_Sealed):
    """Stands for a class that only ever appears as an argument."""

    __slots__ = ()

    def __new__(cls, *_: Any) -> NoReturn:
        raise RefusedError(f"it tries to build '{cls.__name__}' directly")


class NdArrayMarker(_Marker):
    """numpy.ndarray."""

    __slots__ = ()


class IndexMarker(_Marker):
    """pandas Index."""

    __slots__ = ()


class RangeIndexMarker(_Marker):
    """pandas RangeIndex."""

    __slots__ = ()


class DTypeStandIn(metaclass=_Sealed):
    """numpy.dtype: a checked name and a byte order."""

    __slots__ = ("dtype",)

    def __init__(self, text: str) -> None:
        self.dtype = np.dtype("O" if text.startswith("O") else text)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise RefusedError("it holds a numpy type with fields or an unknown byte order")
        if state[1] in "<>" and self.dtype.kind != "O":
            self.dtype = self.dtype.newbyteorder(state[1])


class ArrayStandIn(metaclass=_Sealed):
    """An array being rebuilt; `build` makes it once its state is there."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def build(self) -> Array:
        """Returns the array described by the state."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise RefusedError("it holds an array without a usable state")
        _, shape, dtype, fortran, data = self.state
        if _plain(dtype).kind != "O":
            return _from_buffer(data, dtype, shape, "F" if fortran else "C")
        shape = _shape(shape)
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise RefusedError("it holds an object array whose length does not fit its shape")
        # Assigning the list to a slice would unpack lists of equal length into a second axis.
        flat = np.fromiter(data, dtype=object, count=len(data))
        return flat.reshape(shape, order="F" if fortran else "C")


class FrameStandIn(metaclass=_Sealed):
    """pandas DataFrame."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True)
class BlockStandIn:
    """Columns of one type: their values, and where they stand in the table."""

    values: Any
    placement: Any


@dataclass(frozen=True)
class ManagerStandIn:
    """The blocks and the two axes of a table."""

    blocks: Any
    axes: Any


@dataclass(frozen=True)
class LabelsStandIn:
    """An index: which class, and what it holds."""

    kind: Any
    fields: Any


def _plain(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, DTypeStandIn):
        raise RefusedError("it holds an array without a plain numpy type")
    return dtype.dtype


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise RefusedError("it holds an array without a usable shape")
    return shape


def _make_dtype(text: Any, *_: Any) -> DTypeStandIn:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise RefusedError(f"it holds values of the numpy type {text!r}")
    return DTypeStandIn(text)


def _make_array(kind: Any, *_: Any) -> ArrayStandIn:
    if kind is not NdArrayMarker:
        raise RefusedError("it rebuilds an array of another class than numpy.ndarray")
    return ArrayStandIn()


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Array:
    plain = _plain(dtype)
    if plain.kind == "O" or not isinstance(buffer, (bytes, bytearray)) or order not in ("C", "F"):
        raise RefusedError("it holds an array whose bytes cannot be read as plain values")
    return np.frombuffer(bytes(buffer), dtype=plain).reshape(_shape(shape), order=order)


def _buffered_array(buffer: Any, dtype: Any, shape: Any, order: Any) -> ArrayStandIn:
    array = ArrayStandIn()
    array.state = (1, shape, dtype, order == "F", buffer)
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    return _from_buffer(raw, dtype, (1,), "C")[0].item()


def _block(values: Any, placement: Any, *_: Any) -> BlockStandIn:
    return BlockStandIn(values, placement)


def _range(start: Any, stop: Any, step: Any = None) -> slice:
    return slice(start, stop, step)


ALLOWED: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): _Callable(_range),
    ("numpy", "ndarray"): NdArrayMarker,
    ("numpy", "dtype"): _Callable(_make_dtype),
    ("pandas.core.frame", "DataFrame"): FrameStandIn,
    # The names of pandas 3.
    ("pandas", "DataFrame"): FrameStandIn,
    ("pandas", "Index"): IndexMarker,
    ("pandas", "RangeIndex"): RangeIndexMarker,
    ("pandas.core.internals.managers", "BlockManager"): _Callable(ManagerStandIn),
    ("pandas._libs.internals", "_unpickle_block"): _Callable(_block),
    ("pandas.core.indexes.base", "_new_Index"): _Callable(LabelsStandIn),
    ("pandas.core.indexes.base", "Index"): IndexMarker,
    ("pandas.core.indexes.range", "RangeIndex"): RangeIndexMarker,
}
for _core in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Callable(_make_array)
    ALLOWED[f"{_core}.multiarray", "scalar"] = _Callable(_scalar)
    ALLOWED[f"{_core}.numeric", "_frombuffer"] = _Callable(_buffered_array)
