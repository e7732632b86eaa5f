"""The files of vectors: headers, ids and values. No pickle is ever loaded, and nothing here imports torch at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.errors import DataError
from collm_vectors.config import PARQUET, Side, VectorsConfig

Array = np.ndarray[Any, Any]
_SHOWN = 5
_KINDS = "fiu"  # numpy's letters of floats, signed and unsigned integers
_TENSOR_TYPES = ("F", "BF", "I", "U")


@dataclass(frozen=True)
class VectorFile:
    """One side's file.

    Attributes:
        side: Whose vectors.
        path: File of vectors.
        ids: File of ids; None where the vectors' file holds them.
        key: Name inside the file; None = the usual ones.
    """

    side: Side
    path: Path
    ids: Path | None
    key: str | None

    @classmethod
    def of(cls, config: VectorsConfig, side: Side) -> VectorFile:
        """Returns the file that a config names for a side."""
        path, ids, key = (getattr(config, f"{side}{end}") for end in ("s", "_ids", "_key"))
        return cls(side, path, ids, key)


@dataclass(frozen=True)
class Header:
    """What a file says of its vectors before they are read.

    Attributes:
        n_rows: Vectors.
        width: Numbers per vector; None where only the values tell (lists in parquet).
        name: Column of ids, or tensor; empty for .npy.
        columns: Columns of values, parquet only.
    """

    n_rows: int
    width: int | None
    name: str = ""
    columns: tuple[str, ...] = ()


def look(config: VectorsConfig) -> Iterator[tuple[str, str]]:
    """Yields (field, sentence) of what headers and ids show to be wrong."""
    widths: dict[Side, int | None] = {}
    for side in ("user", "item"):
        file = VectorFile.of(config, side)
        if not file.path.exists() or (file.ids is not None and not file.ids.exists()):
            continue  # said by itself
        field = f"{side}s"
        try:
            header = read_header(file)
            widths[side] = header.width
            field = f"{side}_ids" if file.ids is not None else field
            read_ids(file, header)
        except DataError as error:
            yield field, str(error)
    if len(widths) == 2 and (fault := width_fault(config, widths["user"], widths["item"])):
        yield "score", fault


def width_fault(config: VectorsConfig, user: int | None, item: int | None) -> str:
    """Says why two widths do not fit the score; empty where they do or one is not known yet."""
    if config.score == "logistic" or user is None or item is None or user == item:
        return ""
    return (
        f"'{config.score}' multiplies a user vector with an item vector, but {config.users.name} has {user} numbers "
        f"per vector and {config.items.name} {item}; bring both to one width, or use `score: logistic`, which takes any"
    )


def read_header(file: VectorFile) -> Header:
    """Reads shape, type and names; no values.

    Raises:
        DataError: If the file is not what its ending says, or its values are not numbers in two dimensions.
    """
    ending = file.path.suffix.lower()
    if ending == ".npy":
        header = Header(*_npy(file.path).shape)
    elif ending in PARQUET:
        header = _parquet_header(file)
    else:
        header = _tensor_header(file)
    if not header.n_rows or header.width == 0:
        raise DataError(f"{file.path}: holds no vectors")
    return header


def read_ids(file: VectorFile, header: Header) -> pl.Series:
    """Reads the raw ids, one per vector, as text.

    Raises:
        DataError: If there are not as many as vectors, or one is empty or appears there twice.
    """
    place = file.path if file.ids is None else file.ids
    if file.ids is None:
        column = pl.read_parquet(file.path, columns=[header.name], glob=False).to_series()
        ids = column.cast(pl.String)
    else:
        ids = pl.Series("id", _lines(file.ids), dtype=pl.String)
    if len(ids) != header.n_rows:
        heading = "; is its first line a heading?" if len(ids) == header.n_rows + 1 else ""
        raise DataError(
            f"{place}: {len(ids):,} ids for the {header.n_rows:,} vectors of {file.path.name}: there must be one per "
            f"vector, in the same order{heading}"
        )
    empty = (ids.is_null() | (ids == "")).arg_true()
    if len(empty):
        raise DataError(f"{place}: no id in row {int(empty[0]) + 1:,}; every vector needs one")
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(twice):
        shown = ", ".join(repr(each) for each in twice.head(_SHOWN))
        raise DataError(
            f"{place}: {len(twice):,} {file.side} ids appear there more than once: {shown}; keep one of each"
        )
    return ids


def read_values(file: VectorFile, header: Header) -> Array:
    """Reads the vectors.

    Returns:
        [n_rows, width] of the file's number type; of .npy it lies on the disk.

    Raises:
        DataError: If vectors are missing or differ in width.
    """
    ending = file.path.suffix.lower()
    if ending == ".npy":
        return _npy(file.path)
    if ending in PARQUET:
        return _parquet_values(file.path, header)
    from safetensors import safe_open

    with safe_open(file.path, framework="pt") as tensors:
        values: Array = tensors.get_tensor(header.name).float().numpy()
    return values


def _npy(path: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: not a .npy array of numbers ({error}); pickles and arrays of objects are never loaded: write it "
            "with numpy.save of a float array [n_rows, width]"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: is an .npz archive of several arrays; save the one of vectors with numpy.save")
    if array.ndim != 2 or array.dtype.kind not in _KINDS:
        raise DataError(f"{path}: holds {array.dtype} {list(array.shape)}, must be numbers [n_rows, width]")
    return array


def _parquet_header(file: VectorFile) -> Header:
    try:
        schema = pl.read_parquet_schema(file.path)
        n_rows = int(pl.scan_parquet(file.path, glob=False).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file.path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
    name = _chosen(file, list(schema), "column of ids", (file.side, f"{file.side}_id", "id"))
    if not (schema[name] == pl.String or schema[name].is_integer()):
        raise DataError(f"{file.path}: column '{name}' is {schema[name]}; ids are text or whole numbers")
    others = {column: dtype for column, dtype in schema.items() if column != name}
    lists = [column for column, dtype in others.items() if isinstance(dtype, pl.List | pl.Array)]
    if len(lists) > 1:
        raise DataError(f"{file.path}: {', '.join(lists)} are columns of lists; leave the one of vectors")
    if lists:
        dtype: Any = others[lists[0]]
        if not dtype.inner.is_numeric() or (isinstance(dtype, pl.Array) and len(dtype.shape) != 1):
            raise DataError(f"{file.path}: column '{lists[0]}' is {dtype}; a vector is a list of numbers")
        return Header(n_rows, dtype.shape[0] if isinstance(dtype, pl.Array) else None, name, tuple(lists))
    strange = [f"{column} ({dtype})" for column, dtype in others.items() if not dtype.is_numeric()]
    if strange:
        raise DataError(
            f"{file.path}: {', '.join(strange[:_SHOWN])}: beside '{name}' there must be one column of lists, or "
            "numeric columns alone, one per dimension"
        )
    whole = [column for column, dtype in others.items() if dtype.is_integer()]
    if whole and len(whole) < len(others):
        raise DataError(
            f"{file.path}: {', '.join(whole[:_SHOWN])}: whole numbers beside columns of fractions are ids, counts or "
            "an index rather than dimensions; leave them out of the file (pandas: to_parquet(index=False)), or write "
            "them as floats if they are dimensions"
        )
    return Header(n_rows, len(others), name, tuple(others))


def _parquet_values(path: Path, header: Header) -> Array:
    frame = pl.read_parquet(path, columns=list(header.columns), glob=False)
    if header.width is not None and not isinstance(frame.dtypes[0], pl.Array):
        if n_null := sum(frame.null_count().row(0)):
            raise DataError(f"{path}: {n_null:,} numbers of vectors are missing (null)")
        table: Array = frame.to_numpy()
        return table
    column = frame.to_series()
    lists = column if isinstance(column.dtype, pl.List) else column.arr.to_list()
    widths = lists.list.len()
    if widths.null_count() or widths.n_unique() > 1:
        counts = widths.value_counts(sort=True).head(_SHOWN).iter_rows()
        shown = ", ".join(f"{'none' if width is None else width} ({n:,})" for width, n in counts)
        raise DataError(f"{path}: vectors differ in width: numbers per vector (vectors): {shown}")
    flat = lists.explode(empty_as_null=False, keep_nulls=True)
    if flat.null_count():
        raise DataError(f"{path}: {flat.null_count():,} numbers of vectors are missing (null)")
    vectors: Array = flat.to_numpy().reshape(len(column), -1)
    return vectors


def _tensor_header(file: VectorFile) -> Header:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file.path, framework="np") as tensors:
            names = sorted(tensors.keys())
            usual = (*(names if len(names) == 1 else ()), f"{file.side}s", file.side)
            name = _chosen(file, names, "tensor of vectors", usual)
            part = tensors.get_slice(name)
            shape, dtype = list(part.get_shape()), str(part.get_dtype())
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file.path}: cannot be read as safetensors ({error})") from error
    if len(shape) != 2 or not dtype.startswith(_TENSOR_TYPES):
        raise DataError(f"{file.path}: tensor '{name}' is {dtype} {shape}, must be numbers [n_rows, width]")
    return Header(shape[0], shape[1], name)


def _chosen(file: VectorFile, names: Sequence[str], what: str, usual: Sequence[str]) -> str:
    """Returns the name that the settings give, or the first usual one that the file has."""
    if file.key is None:
        found = [name for name in usual if name in names]
        if found:
            return found[0]
        asked = f"called {', '.join(usual)}"
    elif file.key in names:
        return file.key
    else:
        close = difflib.get_close_matches(file.key, names, n=1)
        asked = f"'{file.key}'" + (f" (did you mean '{close[0]}'?)" if close else "")
    has = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    raise DataError(f"{file.path}: no {what} {asked}; the file has {has or 'nothing'}; name it in {file.side}_key")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text, from byte {error.start:,}; it holds one raw id per line") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
