"""Which files belong to a category, by the names that the three editions give them."""

from __future__ import annotations

from pathlib import Path

from collm.errors import DataError

_ENDINGS = (".json.gz", ".jsonl.gz", ".json", ".jsonl")
_SHOWN = 8


def review_names(category: str) -> tuple[str, ...]:
    """Returns the names that a reviews file of the category may have: 2018 (5-core, all), 2023, 2014."""
    stems = (f"{category}_5", category, f"reviews_{category}_5", f"reviews_{category}")
    return tuple(stem + ending for stem in stems for ending in _ENDINGS)


def metadata_names(category: str) -> tuple[str, ...]:
    """Returns the names that a metadata file of the category may have."""
    return tuple(f"meta_{category}{ending}" for ending in _ENDINGS)


def locate(folder: Path | None, names: tuple[str, ...], *, field: str, owner: str) -> Path:
    """Finds the one file of these names in a folder or in the folders directly below it.

    Args:
        folder: `dataset.path`.
        names: Names that it may have; compared without regard to case.
        field: Field of the dataset that names the file itself.
        owner: Name of the dataset, for messages.

    Raises:
        DataError: If the folder or the file is missing, or several files fit.
    """
    wanted = names[0] if len(names) == 1 else f"{names[0]} (or as another edition calls it)"
    if folder is None:
        raise DataError(f"dataset.path: '{owner}' needs {wanted}: give the folder that holds it in dataset.path")
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"dataset.path: '{folder}' {found}; '{owner}' needs the folder that holds {wanted}")
    lower = {name.lower() for name in names}
    available = [path for path in (*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))) if path.is_file()]
    matches = [path for path in available if path.name.lower() in lower]
    top = [path for path in matches if path.parent == folder]
    chosen = top or matches
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        several = ", ".join(path.relative_to(folder).as_posix() for path in chosen)
        raise DataError(f"{folder}: several files fit: {several}; name one in dataset.{field}")
    seen = ", ".join(sorted({path.name for path in available})[:_SHOWN]) or "nothing"
    raise DataError(
        f"{folder}: '{owner}' needs {wanted}, found {seen}; a file of another name is given in dataset.{field}"
    )
