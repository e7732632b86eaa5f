"""JSON files that hold one value instead of one object per line: arrays of records and what pandas' `to_json` writes.

Such a file is read as a whole, so its size is limited; lines of objects are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import parse_json
from collm.ingest.text_lines import TextLines

LARGEST = 256 << 20
AS_LINES = "write one object per line (pandas: df.to_json(file, orient='records', lines=True))"
_SHOWN_KEYS = 8


def whole_records(path: Path, *, parse: Callable[[str], Any] = parse_json, longest: int = LARGEST) -> list[Any] | None:
    """Reads a file that holds one JSON value.

    Returns:
        Its records in order; None where the file holds lines of their own.

    Raises:
        DataError: If it is one value that is not a table, not JSON, or too large.
    """
    if not _is_one_value(path):
        return None
    bad = BadRows()
    texts: list[str] = []
    size = 0
    for _, text in TextLines(path, bad=bad, longest=longest):
        texts.append(text)
        size += len(text)
        if size > longest:
            break
    if size > longest or "line is longer" in " ".join(bad.counts()):
        raise DataError(f"{path}: is one JSON value of more than {longest >> 20} MB; {AS_LINES}")
    if len(bad):
        raise DataError(f"{path}: cannot be read as JSON: {', '.join(bad.counts())}; get or write the file again")
    try:
        content = parse("\n".join(texts))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is one JSON value that cannot be read ({error}); {AS_LINES}") from error
    return records_of(content, path)


def records_of(content: Any, path: Path) -> list[Any]:
    """Returns the rows of a table in any of the shapes that pandas writes.

    Raises:
        DataError: If the value is not a table; names what it holds.
    """
    if isinstance(content, list):
        return _of_list(content, path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: holds one JSON value that is not a table; {AS_LINES}")
    columns, data = content.get("columns"), content.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # orient='split'
        names = [str(name) for name in columns]
        return [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in data]
    inner = list(content.values())
    tables = [value for value in inner if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(tables) == 1:  # orient='table', or {"ratings": [...]}
        return _of_list(tables[0], path)
    if inner and all(isinstance(value, Mapping) for value in inner):
        return list(_of_mappings(content))
    if inner and all(isinstance(value, list) for value in inner) and len({len(value) for value in inner}) == 1:
        return [dict(zip(content, row, strict=True)) for row in zip(*inner, strict=True)]
    if inner and not any(isinstance(value, Mapping | list) for value in inner):
        return [content]
    keys = ", ".join(list(content)[:_SHOWN_KEYS])
    raise DataError(f"{path}: holds one JSON object with {keys or 'nothing'}, which is not a table; {AS_LINES}")


def _of_list(rows: list[Any], path: Path) -> list[Any]:
    if rows and all(isinstance(row, list) for row in rows):
        raise DataError(f"{path}: is an array of arrays, in which nothing names the columns; {AS_LINES}")
    return rows


def _of_mappings(content: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Gives the rows of {column: {row: value}} or {row: {column: value}}."""
    inner = list(content.values())
    if not _is_by_column(content):
        yield from (dict(row) for row in inner)
        return
    for row in dict.fromkeys(key for column in inner for key in column):
        yield {name: column.get(row) for name, column in content.items()}


def _is_by_column(content: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the outer keys name columns: pandas numbers rows, and names of columns are not numbers."""
    inner = next(iter(content.values()))
    outer_numbers, inner_numbers = (sum(_is_number(key) for key in keys) for keys in (content, inner))
    if bool(outer_numbers) != bool(inner_numbers):
        return not outer_numbers
    return len(inner) >= len(content)


def _is_number(key: str) -> bool:
    return key.lstrip("-").isdecimal()


def _is_one_value(path: Path) -> bool:
    """Whether the first line is not a row by itself."""
    lines = (text for _, text in TextLines(path, bad=BadRows(), longest=LARGEST) if text.strip())
    first = next(lines, "").strip()
    if first.startswith("["):
        return True
    if next(lines, None) is not None:
        # Pretty-printed: the first line is not an object by itself, and not cut off within a value either.
        return first.startswith("{") and first.endswith(("{", "[", ","))
    try:
        content = parse_json(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and _is_table(content)


def _is_table(content: Mapping[str, Any]) -> bool:
    """Whether an object by itself is a table rather than one row that may hold lists."""
    inner = list(content.values())
    if isinstance(content.get("data"), list) and ("columns" in content or "schema" in content):
        return True
    if len(inner) == 1 and isinstance(inner[0], list):
        return all(isinstance(value, dict) for value in inner[0])
    is_columns = all(isinstance(value, list) for value in inner) and len({len(value) for value in inner}) == 1
    return bool(inner) and (all(isinstance(value, dict) for value in inner) or is_columns)
