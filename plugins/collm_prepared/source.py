"""The dataset source over a prepared folder."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from collm.component import BuildContext
from collm.contracts.data import SPLITS, DatasetConfig, InteractionTable, Limit, Visibility
from collm.data.checks import SCHEMA
from collm.data.columns import Texts
from collm.data.prepared_files import (
    INTERACTIONS,
    ITEMS,
    MANIFEST,
    NO_TIMES,
    OF_LIMIT,
    POSITIVES,
    USERS,
    files_of,
    read_manifest,
)
from collm.errors import DataError
from collm.files import file_digest
from collm_prepared.check import ITEM_COLUMNS, USER_COLUMNS, check_columns, check_folder, read_attributes

_OF_HISTORIES = ("history_start", "history_end", "kept")


class PreparedFolder:
    """A folder that is used as it is where it can be, and read as a table of interactions otherwise."""

    def __init__(self, config: DatasetConfig, *, context: BuildContext) -> None:
        """Takes the settings; nothing is read yet."""
        del context
        self._config = config

    def content_hash(self) -> str:
        """Returns a digest of manifest and files, after holding each file against the manifest.

        Raises:
            DataError: If a file is missing or is not the one of the manifest.
        """
        return self._content

    def written(self, *, visibility: Visibility, limit: Limit) -> Path | None:
        """Returns the folder where it holds the histories that a spec asks for.

        Raises:
            DataError: With everything in it that is not in the form.
        """
        history = self._manifest.get("history")
        if history is None or history.get("visibility") != visibility or limit.draws:
            return None
        if any(self._manifest.get("limit", {}).get(name) is not None for name in (*SPLITS, "user_rows")):
            return None
        check_folder(self._folder, self._manifest)
        return self._folder

    def look(self) -> None:
        """Reads the manifest.

        Raises:
            DataError: If it is missing or lacks a field.
        """
        assert self._manifest

    def load(self) -> InteractionTable:
        """Reads the table; histories, limits and counts of training rows in it are not looked at.

        Raises:
            DataError: If a file is missing or lacks columns.
        """
        check_columns(self._folder, INTERACTIONS, SCHEMA)
        check_columns(self._folder, USERS, {name: USER_COLUMNS[name] for name in ("user", "id")})
        check_columns(self._folder, ITEMS, {name: ITEM_COLUMNS[name] for name in ("item", "id", "title")})
        lazy = pl.scan_parquet(self._folder / INTERACTIONS, glob=False)
        kept = [name for name in lazy.collect_schema().names() if name not in _OF_HISTORIES]
        users = pl.read_parquet(self._folder / USERS, glob=False, columns=["user", "id"]).sort("user")
        items = pl.read_parquet(self._folder / ITEMS, glob=False, columns=["item", "id", "title"]).sort("item")
        user_attributes, item_attributes = read_attributes(self._folder, self._manifest)
        return InteractionTable(
            frame=lazy.select(kept).collect().rechunk(),
            user_ids=Texts(users["id"]),
            item_ids=Texts(items["id"]),
            titles=Texts(items["title"]),
            tie_rule=self._manifest["tie_rule"],
            # All rows are given out here, whatever limit the folder was written under.
            notes=tuple(each for each in self._manifest["notes"] if not each.startswith(OF_LIMIT)),
            expected=self._manifest.get("full_counts", self._manifest["counts"]),
            user_attributes=user_attributes,
            item_attributes=item_attributes,
            has_times=self._manifest.get("times") != NO_TIMES,
        )

    @property
    def _folder(self) -> Path:
        path = self._config.path
        if path is None or not path.is_dir():
            what = "is not set" if path is None else f"'{path}' is not a folder"
            raise DataError(f"dataset.path: {what}; 'prepared' needs the folder with {MANIFEST} and the parquet files")
        return path

    @functools.cached_property
    def _manifest(self) -> dict[str, Any]:
        manifest = read_manifest(self._folder)
        if missing := [name for name in ("counts", "tie_rule", "notes", "files") if name not in manifest]:
            raise DataError(f"{self._folder / MANIFEST}: '{missing[0]}' is missing; docs/large-data.md has all fields")
        return manifest

    @functools.cached_property
    def _content(self) -> str:
        manifest = self._manifest
        wanted = [name for name in files_of(manifest) if name != POSITIVES or "history" in manifest]
        found = {name: file_digest(self._folder / name) for name in wanted}
        for name, digest in found.items():
            stated = manifest["files"].get(name, {}).get("sha256")
            if digest != stated:
                raise DataError(
                    f"{self._folder / name}: sha256 is {digest}, {MANIFEST} says {stated}: the file was changed or cut "
                    "off after the manifest was written; write both again"
                )
        text = json.dumps([found, {name: manifest[name] for name in sorted(manifest) if name != "files"}])
        return hashlib.sha256(text.encode()).hexdigest()
