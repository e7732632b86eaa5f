"""The list of a finished folder's files with sizes and digests: damage is found before a number is read from it.

`done` is written last: its first line says when and holds the digest of the list that follows. In a folder that an
earlier version finished it has no list: such a folder stays readable, and what its files should hold is not known.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from collm.errors import DataError, RunError
from collm.files import (
    TEMPORARY_SUFFIX,
    file_digest,
    folder_files,
    full_disk_named,
    sync,
    write_atomically,
    write_failure,
)

DONE, LOCK = "done", "lock"
# Written to after the run was finished, too: what was there then must still be its beginning.
GROWING = "events.jsonl"
_DONE = re.compile(rb"[0-9T:Z-]{20} files sha256 (?P<digest>[0-9a-f]{64})\n(?P<files>.*)", re.DOTALL)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileFacts:
    """What a file held when its folder was finished.

    Attributes:
        size: Bytes; of a file that grows, the bytes at its beginning that count.
        sha256: Hex digest of them.
    """

    size: int
    sha256: str


def finish_folder(folder: Path, names: Sequence[str] | None = None) -> None:
    """Forces a folder's files to disk, lists them, and marks the folder as done.

    Args:
        folder: The folder, whose work is finished.
        names: The files that count, where they are there; None = all.

    Raises:
        RunError: If something cannot be read or written.
    """
    listed: dict[str, FileFacts] = {}
    for name in own_files(folder) if names is None else names:
        path = folder / name
        if names is not None and not path.exists():
            continue
        try:
            sync(path)
            listed[name] = FileFacts(path.stat().st_size, file_digest(path))
        except OSError as error:
            raise write_failure(path, error) from error
    write_atomically(folder / DONE, list_text(listed))


def list_text(files: Mapping[str, FileFacts]) -> str:
    """Returns the content of `done` for a list of files."""
    content = json.dumps({"schema": 1, "files": {name: asdict(each) for name, each in files.items()}}, indent=1) + "\n"
    digest = hashlib.sha256(content.encode()).hexdigest()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"{now} files sha256 {digest}\n{content}"


def read_list(data: bytes, place: str) -> tuple[str, dict[str, FileFacts]] | None:
    """Returns digest and files of a list, None where the text has none.

    Args:
        data: Content of `done`.
        place: Where it lies, for the message.

    Raises:
        RunError: If it is damaged.
    """
    mark = _DONE.fullmatch(data)
    if mark is None:
        return None
    content, digest = mark["files"], mark["digest"].decode()
    if hashlib.sha256(content).hexdigest() != digest:
        raise RunError(f"{place}: damaged: its contents are not those that were written")
    return digest, {
        name: FileFacts(each["size"], each["sha256"]) for name, each in json.loads(content)["files"].items()
    }


def damage(folder: Path, contents: Collection[str] | None = None, *, but: Collection[str] = ()) -> str:
    """Says what is damaged in a finished folder, empty where nothing is or no list is there to compare with.

    Args:
        folder: A folder with `done`.
        contents: Files whose digests are compared, None = all of them; sizes always are.
        but: Files that are not looked at.
    """
    try:
        listed = listed_files(folder)
        if listed is None:
            return ""
        listed = {name: facts for name, facts in listed.items() if name not in but}
        return first_fault(folder, listed, listed if contents is None else contents)
    except RunError as error:
        return str(error)


def require_whole(folder: Path, *, advice: str) -> None:
    """Refuses a finished folder whose files are not what they were.

    Args:
        folder: A folder with `done`.
        advice: What to do, for the message.

    Raises:
        RunError: With the file that is damaged.
    """
    if found := damage(folder):
        raise RunError(f"{found}; {advice}")


def listed_files(folder: Path) -> dict[str, FileFacts] | None:
    """Returns the files that a finished folder lists, None where an earlier version finished it without a list.

    Raises:
        RunError: If the list is damaged.
    """
    done = folder / DONE
    found = read_list(_read(done), str(done))
    return None if found is None else found[1]


def remove_contents(folder: Path, names: Sequence[str] | None = None) -> None:
    """Empties a damaged folder under its lock, `done` first, so that its work starts anew.

    Args:
        folder: The folder.
        names: The files that count; None = all.

    Raises:
        RunError: If something cannot be removed.
    """
    try:
        (folder / DONE).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name == LOCK or not (names is None or path.name in names):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise write_failure(Path(error.filename or folder), error) from error


def first_fault(folder: Path, listed: Mapping[str, FileFacts], contents: Collection[str]) -> str:
    """Says which of the listed files is damaged first, empty where none is.

    Args:
        folder: The folder.
        listed: Name -> what it should hold.
        contents: Files whose digests are compared; sizes always are.
    """
    for name, facts in listed.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            return f"{path}: missing ({error.strerror})"
        if size < facts.size or (size > facts.size and name != GROWING):
            return f"{path}: damaged: {size:,} bytes, {facts.size:,} were written"
    for name, facts in listed.items():
        path = folder / name
        if name not in contents:
            continue
        try:
            found = _beginning(path, facts.size) if name == GROWING else file_digest(path)
        except (DataError, OSError) as error:
            return f"{path}: cannot be read ({error})"
        if found != facts.sha256:
            return f"{path}: damaged: its contents are not those that were written"
    return ""


def own_files(folder: Path) -> Iterator[str]:
    """Yields the names of a folder's files but its mark, its lock and temporary ones."""
    for name in folder_files(folder):
        if name not in (DONE, LOCK) and not name.endswith(TEMPORARY_SUFFIX):
            yield name


def _beginning(path: Path, n_bytes: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while n_bytes and (chunk := stream.read(min(n_bytes, _CHUNK_BYTES))):
            digest.update(chunk)
            n_bytes -= len(chunk)
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path}: missing") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing_together(folder: Path, names: tuple[str, ...]) -> Iterator[dict[str, Path]]:
    """Gives temporary paths that take their final names together, after `done` was taken away.

    A finished folder stays finished, with its old files, until the new ones are whole and on disk.

    Args:
        folder: The folder; made if missing.
        names: Files to write.

    Yields:
        Name -> path to write to.

    Raises:
        RunError: If something cannot be written.
    """
    temporary = {name: folder / f".{name}.{os.getpid()}-next{TEMPORARY_SUFFIX}" for name in names}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with full_disk_named(folder):
            yield temporary
        written = {name: path for name, path in temporary.items() if path.exists()}
        for path in written.values():
            sync(path)
        (folder / DONE).unlink(missing_ok=True)
        for name, path in written.items():
            path.replace(folder / name)
        sync(folder)
    except OSError as error:
        raise write_failure(folder, error) from error
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
