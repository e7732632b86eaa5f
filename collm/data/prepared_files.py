"""The form of a prepared dataset: file names, manifest, and columns read when they are needed (docs/large-data.md)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS
from collm.errors import DataError
from collm.files import file_digest

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
# Of the manifest's `times`, which is left out otherwise: only the order of each user's own rows is known.
NO_TIMES = "none"
# How the manifest's note on rows that `dataset.limit` left out begins.
OF_LIMIT = "dataset.limit: "
INTERACTIONS, POSITIVES, USERS, ITEMS = "interactions.parquet", "positives.parquet", "users.parquet", "items.parquet"
FILES = (INTERACTIONS, POSITIVES, USERS, ITEMS)
USER_ATTRIBUTES, ITEM_ATTRIBUTES = "user_attributes.parquet", "item_attributes.parquet"
# Beside the others only where a dataset says something of its users or items.
OPTIONAL_FILES = (USER_ATTRIBUTES, ITEM_ATTRIBUTES)

Array = np.ndarray[Any, Any]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads a manifest.

    Raises:
        DataError: If there is none, or it is of another version.
    """
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a prepared dataset, '{MANIFEST}' cannot be read ({error})") from error
    found = manifest.get("schema") if isinstance(manifest, dict) else None
    if found != SCHEMA_VERSION:
        raise DataError(f"{folder / MANIFEST}: schema is {found}, this version reads {SCHEMA_VERSION}")
    return dict(manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest with the facts of the folder's files."""
    names = [*FILES, *(name for name in OPTIONAL_FILES if (folder / name).exists())]
    _write_json(folder, {**manifest, "files": {name: file_facts(folder / name) for name in names}})


def files_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the files that a folder with this manifest has."""
    return (*FILES, *(name for name in OPTIONAL_FILES if name in manifest.get("files", {})))


def _write_json(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def take_over(written: Path, folder: Path, *, recipe: Mapping[str, Any], source_sha256: str) -> None:
    """Makes a prepared folder of one that is checked: its files are hard-linked, or copied to another file system."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(written)
    for name in files_of(manifest):
        (folder / name).unlink(missing_ok=True)
        try:
            (folder / name).hardlink_to((written / name).resolve())
        except OSError:
            shutil.copyfile(written / name, folder / name)
    stated = {"full_counts": manifest["counts"], "expected": {}, "limit": {}, "seed": None, **manifest}
    stated |= {"recipe": dict(recipe), "source_sha256": source_sha256}
    _write_json(folder, stated)


def file_facts(path: Path) -> dict[str, Any]:
    """Returns what a manifest holds of a file: `bytes`, `rows`, `sha256`."""
    return {"bytes": path.stat().st_size, "rows": n_rows(path), "sha256": file_digest(path)}


def n_rows(path: Path) -> int:
    """Returns the rows of a parquet file from its footer.

    Raises:
        DataError: If it is missing or no parquet.
    """
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from error


class ColumnFile:
    """A parquet file whose columns are read at their first use."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Checks the file's length against the manifest.

        Raises:
            DataError: If it is missing, unreadable, or not the one that the manifest describes.
        """
        self.path = path
        self._arrays: dict[str, Array] = {}
        self._frame: pl.DataFrame | None = None
        facts = manifest.get("files", {}).get(path.name, {})
        for name, found in (("rows", n_rows(path)), ("bytes", path.stat().st_size)):
            if found != facts.get(name):
                raise DataError(
                    f"{path}: holds {found} {name}, the manifest says {facts.get(name)}; prepare the dataset again"
                )

    def array(self, name: str) -> Array:
        """Returns a column as an array of its own type; kept for the next time.

        Raises:
            DataError: If it cannot be read.
        """
        if name not in self._arrays:
            self._arrays[name] = self.series(pl.col(name)).to_numpy()
        return self._arrays[name]

    def names(self) -> list[str]:
        """Returns the names of the file's columns."""
        return list(pl.read_parquet_schema(self.path))

    def split_places(self) -> Array:
        """Returns uint8 [n_rows]: the place of each row's split in `SPLITS`, `len(SPLITS)` outside every split."""
        if "split" not in self._arrays:
            # No when/then over literals in the stream: polars 2.1 then returns the rows of files beyond about 200,000
            # rows in another order, and other rows would be test rows.
            named = self.series(pl.col("split").cast(pl.Enum(SPLITS), strict=False))
            self._arrays["split"] = named.to_physical().fill_null(len(SPLITS)).cast(pl.UInt8).to_numpy()
        return self._arrays["split"]

    def series(self, expression: pl.Expr) -> pl.Series:
        """Reads one expression of the file's columns, in a stream.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            lazy = pl.scan_parquet(self.path, glob=False).select(expression.alias("value"))
            return lazy.collect(engine="streaming").to_series()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(self.path, error) from error

    def frame(self) -> pl.DataFrame:
        """Returns the whole file; kept for the next time.

        Raises:
            DataError: If it cannot be read.
        """
        if self._frame is None:
            try:
                self._frame = pl.read_parquet(self.path, glob=False)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise _unreadable(self.path, error) from error
        return self._frame


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read ({error}); remove the folder and prepare the dataset again")
