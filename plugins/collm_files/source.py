"""The dataset source: files -> usable rows -> labels, order, split -> table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm.data.table import Attributes, Recipe, build_table
from collm.errors import DataError
from collm.files import file_digest
from collm.ingest.bad_rows import BadRows
from collm.ingest.label_values import rare_class
from collm.ingest.table_files import file_format, parts_of, root_of
from collm_files import rows, selection, titles
from collm_files.attributes import read_attributes
from collm_files.config import FilesConfig
from collm_files.places import Places
from collm_files.reading import SPLIT_FILES, read_interactions, wanted_columns

TIE_RULE = "rows of one user at the same moment keep the order of the file"
FILE_ORDER_RULE = "there are no times: a user's rows keep the order of the file"
ROLES = (*SPLIT_FILES, "items", "users")


def build(config: FilesConfig, *, context: BuildContext) -> FilesSource:
    """Builds `files`."""
    return FilesSource(config, context)


class FilesSource:
    """Reads interactions and titles from files of the user's own."""

    def __init__(self, config: FilesConfig, context: BuildContext) -> None:
        """Takes the settings and where the cache is; nothing is read yet."""
        self.config = config
        self._places = Places({role: place for role in ROLES if (place := getattr(config, role))}, context)

    def content_hash(self) -> str:
        """Returns a digest of the files' bytes and of the formats that they are read in; what has an address is copied.

        Raises:
            DataError: If a file is missing; names it.
        """
        digest = hashlib.sha256()
        for role, path in self._places.files().items():
            root = root_of(path)
            for part in parts_of(path):
                name = "" if part.path == path else part.path.relative_to(root).as_posix()
                digest.update(f"{role}\0{name}\0{file_format(part.path)}\0{file_digest(part.path)}\0".encode())
        return digest.hexdigest()

    def look(self) -> None:
        """Reads the first rows of each file alone.

        Raises:
            DataError: If a file is missing or unreadable, or lacks a column that the spec names.
        """
        for role in self._places.given:
            names = self._names(role)
            columns = self._places.columns(role, whole_lines=not names)
            if names and columns is not None:
                rows.check_names(self._places.given[role], names, columns)

    def _names(self, role: str) -> dict[str, str]:
        """Returns canonical name -> the file's name of the columns that a file must have; none of adjacency lists."""
        columns, config = self.config.columns, self.config
        if role in SPLIT_FILES:
            return {} if config.layout == "adjacency" else wanted_columns(config)
        side = role[:-1]
        own_key = getattr(columns, f"{role}_key")
        keyed = {f"{role}_key" if own_key else side: own_key or getattr(columns, side)}
        titled = {"title": columns.title} if role == "items" and columns.title else {}
        attributes = config.item_attributes if role == "items" else config.user_attributes
        return {**keyed, **titled, **{f"{rows.ATTRIBUTE}{name}": name for name in attributes}}

    def load(self) -> InteractionTable:
        """Reads the files.

        Raises:
            DataError: If a file is missing or unreadable, lacks a column, or no rows, positives or split are left;
                `BadRowsError` where more rows are unusable than `max_bad_rows`.
        """
        with self._places.named():
            return self._load(self._places.files())

    def _load(self, files: Mapping[str, Path]) -> InteractionTable:
        config = self.config
        bad = BadRows(allowed=config.max_bad_rows)
        frame, notes = read_interactions(config, files, bad)
        named, title_notes = self._titles(frame, files, bad)
        named, cut_note = titles.cut_titles(named, config.longest_title)
        bad.check()
        if frame.is_empty():
            raise DataError(f"{config.interactions}: holds no usable rows")
        frame, more = selection.without_duplicates(frame, config)
        frame, filter_note = selection.filtered(frame, config)
        selection.check_labels(frame, config)
        rare = rare_class(int(frame["label"].sum()), frame.height)
        frame, split_notes = selection.split_rows(frame, config)
        frame, negative_notes = selection.with_negatives(frame, config)
        known, attribute_notes = self._attributes(files)
        notes = (
            *self._places.notes(),
            *notes,
            *split_notes,
            *filter(None, [None if negative_notes else rare]),
            *more,
            *filter_note,
            *negative_notes,
            *title_notes,
            *cut_note,
            *attribute_notes,
            *bad.notes(),
        )
        has_times = config.columns.timestamp is not None
        kept = [name for name in frame.columns if name not in ("moment", "title")]
        recipe = Recipe(tie_rule=TIE_RULE if has_times else FILE_ORDER_RULE, notes=notes)
        table = build_table(frame.select(kept), named, recipe, known)
        return replace(table, bad_rows=bad.frame() if len(bad) else None, has_times=has_times)

    def _titles(
        self, frame: pl.DataFrame, files: Mapping[str, Path], bad: BadRows
    ) -> tuple[pl.DataFrame, tuple[str, ...]]:
        columns, path = self.config.columns, files.get("items")
        if path is not None:
            assert columns.title is not None
            key = columns.items_key or columns.item
            found = titles.read_titles(path, key=key, title=columns.title, bad=bad, encoding=self.config.encoding)
            titles.check_match(frame, found, interactions=files["interactions"], items=path, key=key)
            found, notes = titles.without_missing_words(found)
            return found, (*notes, *titles.untitled_note(frame["item"], found))
        if columns.title is None:
            return pl.DataFrame(schema={"item": pl.String, "title": pl.String}), (titles.NONE_NOTE,)
        found, notes = titles.titles_beside(frame)
        return found, (*notes, *titles.untitled_note(frame["item"], found))

    def _attributes(self, files: Mapping[str, Path]) -> tuple[Attributes, tuple[str, ...]]:
        columns, encoding = self.config.columns, self.config.encoding
        users = items = None
        notes: tuple[str, ...] = ()
        if "users" in files:
            key, names = columns.users_key or columns.user, self.config.user_attributes
            users, notes = read_attributes(files["users"], names, side="user", key=key, encoding=encoding)
        if "items" in files and self.config.item_attributes:
            key, names = columns.items_key or columns.item, self.config.item_attributes
            items, more = read_attributes(files["items"], names, side="item", key=key, encoding=encoding)
            notes = (*notes, *more)
        return Attributes(users, items), notes
