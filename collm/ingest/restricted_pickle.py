"""Reads a pandas DataFrame out of a pickle without running anything that the pickle names.

Every global that a pickle names is looked up in a short list; any other name ends the reading at once. What is on the
list is loaded as an inert record of the call (`_Made`): no class or function of numpy, pandas or Python is handed to
the pickle machine, and nothing is computed before the whole pickle is read. The records are then checked and turned
into arrays. Pandas is not imported. Needs pickle protocol 3 or later (older ones rebuild bytes through `_codecs`, which
is not on the list).
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from collm.errors import DataError

Array = np.ndarray[Any, Any]

# Plain numbers, text and object; no structured, sub-array or void types.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|O8?|U\d{1,6}")
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


class _Refused(Exception):
    """Says why a pickle is not read."""


class _Made:
    """What a pickle builds with a name on the list: its arguments and its state, and nothing done with them.

    Instances and the class itself take a state through `__setstate__` only, so a pickle can set no attribute.
    """

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Any:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _name(name: str) -> type[_Made]:
    return type(name, (_Made,), {"__slots__": ()})


class _Scalar(_Made):
    """A number or text of numpy, which may be anywhere in a table: made at once."""

    __slots__ = ()

    def __new__(cls, dtype: Any, raw: Any) -> Any:
        return _from_bytes(raw, dtype, (1,), "C")[0].item()


_Slice, _NdArray, _DType, _Frame = _name("slice"), _name("ndarray"), _name("dtype"), _name("DataFrame")
_Block, _Manager, _NewIndex = _name("_unpickle_block"), _name("BlockManager"), _name("_new_Index")
_Index, _RangeIndex = _name("Index"), _name("RangeIndex")
_Reconstruct, _FromBuffer = _name("_reconstruct"), _name("_frombuffer")
_ALLOWED: dict[str, type[_Made]] = {
    "builtins.slice": _Slice,
    "numpy.ndarray": _NdArray,
    "numpy.dtype": _DType,
    "pandas.core.frame.DataFrame": _Frame,
    "pandas.DataFrame": _Frame,  # the names of pandas 3
    "pandas.Index": _Index,
    "pandas.RangeIndex": _RangeIndex,
    "pandas.core.internals.managers.BlockManager": _Manager,
    "pandas._libs.internals._unpickle_block": _Block,
    "pandas.core.indexes.base._new_Index": _NewIndex,
    "pandas.core.indexes.base.Index": _Index,
    "pandas.core.indexes.range.RangeIndex": _RangeIndex,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray._reconstruct"] = _Reconstruct
    _ALLOWED[f"{_core}.multiarray.scalar"] = _Scalar
    _ALLOWED[f"{_core}.numeric._frombuffer"] = _FromBuffer


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[f"{module_name}.{global_name}"]
        except KeyError:
            raise _Refused(f"it names '{module_name}.{global_name}'") from None


def read_frame(source: bytes | BinaryIO, *, name: str) -> PickledFrame:
    """Reads a pickled DataFrame.

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
    except _Refused as error:
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
    with contextlib.suppress(_Refused, *_MALFORMED):
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
    state = loaded.state if isinstance(loaded, _Frame) else None
    manager = state.get("_mgr") if isinstance(state, dict) else None
    if not isinstance(manager, _Manager) or len(manager.args) != 2 or len(manager.args[1]) != 2:
        raise _Refused("it does not hold one pandas DataFrame")
    blocks, axes = manager.args
    names, index = (_labels(axis) for axis in axes)
    found: dict[int, Array] = {}
    for block in blocks:
        if not isinstance(block, _Block):
            raise _Refused("its blocks are not those of a table")
        values, places = _array(block.args[0]), _places(block.args[1], len(names))
        if values.shape != (len(places), len(index)):
            raise _Refused(f"a block of shape {values.shape} does not fit {len(places)} columns of {len(index)} rows")
        found.update(zip(places, values, strict=True))
    if sorted(found) != list(range(len(names))) or len(set(names.tolist())) != len(names):
        raise _Refused("its blocks do not give each column once")
    return PickledFrame({str(label): found[place] for place, label in enumerate(names.tolist())}, index)


def _array(made: Any) -> Array:
    if isinstance(made, _FromBuffer) and len(made.args) == 4:
        return _from_bytes(*made.args)
    if not isinstance(made, _Reconstruct) or not made.args or made.args[0] is not _NdArray:
        raise _Refused(f"it holds a {type(made).__name__} in place of an array")
    if not isinstance(made.state, tuple) or len(made.state) != 5:
        raise _Refused("it holds an array without a usable state")
    _, shape, dtype, fortran, data = made.state
    if _plain(dtype).kind != "O":
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")
    shape = _shape(shape)
    if not isinstance(data, list) or len(data) != math.prod(shape):
        raise _Refused("it holds an object array whose length does not fit its shape")
    # Assigning the list to a slice would unpack lists of equal length into a second axis.
    return np.fromiter(data, dtype=object, count=len(data)).reshape(shape, order="F" if fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    plain = _plain(dtype)
    if plain.kind == "O" or not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise _Refused("it holds an array whose bytes cannot be read as plain values")
    return np.frombuffer(bytes(data), dtype=plain).reshape(_shape(shape), order=order)


def _plain(made: Any) -> np.dtype[Any]:
    """Reads a type by its name and byte order; numpy's own state setter trusts a pickled description blindly."""
    if not isinstance(made, _DType) or not made.args:
        raise _Refused("it holds an array without a plain numpy type")
    text = made.args[0]
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise _Refused(f"it holds values of the numpy type {text!r}")
    plain = np.dtype("O" if text.startswith("O") else text)
    if made.state is None:
        return plain
    if not isinstance(made.state, tuple) or len(made.state) < 5 or any(made.state[2:5]):
        raise _Refused("it holds a numpy type with fields")
    order = made.state[1]
    if order not in ("<", ">", "|", "="):
        raise _Refused("it holds a numpy type of an unknown byte order")
    return plain.newbyteorder(order) if order in "<>" and plain.kind != "O" else plain


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise _Refused("it holds an array without a usable shape")
    return shape


def _places(placement: Any, n_columns: int) -> list[int]:
    if isinstance(placement, _Slice):
        return list(range(n_columns))[slice(*placement.args)]
    return [int(place) for place in _array(placement)]


def _labels(made: Any) -> Array:
    kind, fields = made.args if isinstance(made, _NewIndex) and len(made.args) == 2 else (None, None)
    if kind is _RangeIndex and isinstance(fields, dict):
        bounds = [fields.get(key) for key in ("start", "stop", "step")]
        if not all(type(bound) is int for bound in bounds) or len(range(*bounds)) > 2**31:  # type: ignore[arg-type]
            raise _Refused("a range index has unusable bounds")
        return np.arange(*bounds)  # type: ignore[arg-type]
    if kind is not _Index or not isinstance(fields, dict):
        raise _Refused("an axis is not a plain index")
    return _array(fields.get("data"))
