"""A directory of runs in an object store, with a folder of this machine that mirrors it.

Everything works on the mirror. A run or stage is finished when the store has it: what is finished is put there whole
and got from there whole. Of each put the files come first, below a name made of their digests, and `done` last, which
lists them: what has no `done` does not exist, and two puts of the same stage never mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import psutil

from collm.errors import InUse, RunError, UsageError
from collm.files import file_digest, temporary_for, write_failure
from collm.locks import Lock
from collm.runs.files import (
    DONE,
    LOCK,
    FileFacts,
    damage,
    first_fault,
    list_text,
    own_files,
    read_list,
    remove_contents,
)
from collm.runs.objects import Objects, open_objects
from collm.runs.remote_lock import RemoteLock
from collm.runs.store_address import check_address
from collm.visible import shown

logger = logging.getLogger(__name__)
MARK, MIRRORS, STAGES = "store.json", "stores", "stages"
_GETTING = ".getting"
_POLL_S = 0.5


def mirror_of(address: str, cache_dir: Path, endpoint: str | None = None) -> Path:
    """Returns the folder of this machine that mirrors a store; makes it where it is missing.

    Args:
        address: Address of the directory of runs, e.g. `s3://bucket/runs`.
        cache_dir: User cache.
        endpoint: Address of the server, for `s3://` of other stores than Amazon's.

    Raises:
        UsageError: If the address cannot be used, or a package is missing.
        RunError: If the folder cannot be made.
    """
    protocol, _, rest = address.partition("://")
    address = f"{protocol.lower()}://{rest.rstrip('/')}"
    check_address(address)
    if endpoint is not None and "@" in endpoint:
        raise UsageError("AWS_ENDPOINT_URL: holds a user or password; give an address without them")
    of = {"address": address, "endpoint": endpoint if protocol.lower() == "s3" else None}
    digest = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
    root = cache_dir / MIRRORS / digest
    mark = root / MARK
    if not mark.is_file():
        temporary = temporary_for(mark)
        try:
            root.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({**of, "mirror": secrets.token_hex(8)}) + "\n", encoding="utf-8")
            # The first of several processes names the mirror.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, mark)
        except OSError as error:
            raise write_failure(mark, error) from error
        finally:
            temporary.unlink(missing_ok=True)
    return root


_remotes: dict[Path, Remote] = {}


def remote_of(root: Path) -> Remote | None:
    """Returns the store that a directory of runs mirrors, None where it is a directory of its own.

    Raises:
        RunError: If its mark is damaged.
    """
    root = root.absolute()
    if root not in _remotes:
        mark = root / MARK
        if not mark.is_file():
            return None
        try:
            content = json.loads(mark.read_text(encoding="utf-8"))
            _remotes[root] = Remote(root, content["address"], content["endpoint"], content["mirror"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{mark}: damaged; delete {root} and repeat the command") from error
    return _remotes[root]


def place_of(runs_dir: Path) -> str:
    """Returns what messages call a directory of runs: the address of the store that it mirrors, else its path."""
    remote = remote_of(runs_dir)
    return str(runs_dir) if remote is None else shown(remote.address)


class Remote:
    """The store that one folder mirrors.

    Attributes:
        root: The mirror.
        address: Address of the store.
    """

    def __init__(self, root: Path, address: str, endpoint: str | None, mirror: str) -> None:
        """Takes what the mark of the mirror says; nothing is asked of the store yet."""
        self.root, self.address = root, address
        self._endpoint, self._mirror = endpoint, mirror
        self._opened: Objects | None = None
        self._held: set[str] = set()
        self._warned: set[str] = set()

    @property
    def objects(self) -> Objects:
        """The objects of the store, which exists: where it does not, nothing would be found in silence."""
        if self._opened is None:
            check_address(self.address)
            objects = open_objects(self.address, self._endpoint)
            objects.folders()
            self._opened = objects
        return self._opened

    def bring(self, folder: Path, *, digests: bool = True) -> bool:
        """Returns whether a run or stage is finished in the store; then it lies in the mirror as it is there.

        Args:
            folder: Its folder in the mirror.
            digests: Whether digests of files in the mirror are compared, too, or their sizes alone.

        Raises:
            RunError: If the store cannot be used.
        """
        key = self._key(folder)
        while (listed := self._list(key)) is not None:
            if self._is_here(folder, listed[1], digests=digests):
                return True
            if key in self._held:
                return self._get(key, folder, listed)
            try:
                with Lock(folder / LOCK):
                    return self._get(key, folder, listed)
            except InUse:
                if not self.objects.conditional() or self.objects.read(f"{key}/{LOCK}") is not None:
                    # A process of this machine makes it anew.
                    return (folder / DONE).is_file()
                time.sleep(_POLL_S)
        return False

    def bring_runs(self) -> None:
        """Gets all finished runs of the store that the mirror lacks; their stages are got when they are needed."""
        for name in self.objects.folders():
            if name != STAGES and not name.startswith("."):
                self.bring(self.root / name, digests=False)

    @contextlib.contextmanager
    def hold(self, folder: Path, *, wait: bool, on_wait: Callable[[str], None] | None) -> Iterator[None]:
        """Holds a run or stage in the store, too; the caller holds the lock of its folder.

        What was finished in the mirror and not put (the store could not be reached) is put first.

        Args:
            folder: Its folder in the mirror.
            wait: Whether to wait for another machine that holds it; otherwise that is an error.
            on_wait: Called once with a sentence when waiting begins.

        Raises:
            InUse: If another machine holds it and `wait` is off.
            RunError: If the store cannot be written.
        """
        key = self._key(folder)
        with contextlib.ExitStack() as held:
            if self.objects.conditional():
                lock = RemoteLock(self.objects, f"{key}/{LOCK}", mirror=self._mirror, wait=wait, on_wait=on_wait)
                held.enter_context(lock)
            else:
                self._warn(
                    f"{shown(self.address)}: the store has no conditional writes, so no locks: two machines may "
                    "compute the same stage at the same time; the last put counts"
                )
            self._held.add(key)
            held.callback(self._held.discard, key)
            if (folder / DONE).is_file() and not damage(folder) and self._list(key) is None:
                self.put(folder)
            yield

    def put(self, folder: Path) -> None:
        """Puts a finished run or stage whole.

        Raises:
            RunError: If the store cannot be written; what is in the mirror stays and is put by the next command.
        """
        key = self._key(folder)
        names = [*own_files(folder), DONE]
        files = {name: FileFacts((folder / name).stat().st_size, file_digest(folder / name)) for name in names}
        text = list_text(files)
        found = read_list(text.encode(), key)
        assert found is not None
        for name in names:
            self.objects.put_file(_object(key, found[0], name), folder / name)
        self.objects.write(f"{key}/{DONE}", text.encode())
        logger.info("%s/%s: put in the store (%s)", shown(self.address), key, _megabytes(files))

    def _key(self, folder: Path) -> str:
        return folder.absolute().relative_to(self.root).as_posix()

    def _list(self, key: str) -> tuple[str, dict[str, FileFacts]] | None:
        """Returns digest and files of what the store has finished, None where it has not."""
        held = self.objects.read(f"{key}/{DONE}")
        if held is None:
            return None
        try:
            found = read_list(held.data, f"{shown(self.address)}/{key}/{DONE}")
            if found is None or any(_leaves(name) for name in found[1]):
                raise RunError(f"{shown(self.address)}/{key}/{DONE}: damaged: not a list of files")
        except RunError as error:
            self._warn(f"{error}; the command that makes it puts it anew")
            return None
        return found

    def _is_here(self, folder: Path, files: dict[str, FileFacts], *, digests: bool) -> bool:
        done = folder / DONE
        if not done.is_file() or file_digest(done) != files[DONE].sha256:
            return False
        return not damage(folder, None if digests else ())

    def _get(self, key: str, folder: Path, listed: tuple[str, dict[str, FileFacts]]) -> bool:
        """Gets what the store lists, checked; returns whether it is whole."""
        digest, files = listed
        # Another process may have got it meanwhile.
        if self._is_here(folder, files, digests=True):
            return True
        got = _scratch(self.root / _GETTING)
        try:
            for name in files:
                (got / name).parent.mkdir(parents=True, exist_ok=True)
                self.objects.get_file(_object(key, digest, name), got / name)
            fault = first_fault(got, files, files)
            if not fault:
                _move(got, folder, files, whole=folder.parent.name == STAGES)
        except OSError as error:
            raise write_failure(folder, error) from error
        finally:
            shutil.rmtree(got, ignore_errors=True)
        if fault:
            said = fault.replace(f"{got}/", "")
            self._warn(
                f"{shown(self.address)}/{key}: damaged in the store: {said}; the command that makes it puts it anew"
            )
            return False
        logger.info("%s/%s: got from the store (%s)", shown(self.address), key, _megabytes(files))
        return True

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning("%s", sentence)


def _scratch(getting: Path) -> Path:
    """Returns a folder to get files into; those that killed processes left go."""
    for left in getting.glob("*-*") if getting.is_dir() else ():
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    return getting / f"{os.getpid()}-{secrets.token_hex(4)}"


def _object(key: str, digest: str, name: str) -> str:
    return f"{key}/{digest[:16]}/{name}"


def _leaves(name: str) -> bool:
    """Whether a name of a list leads out of its folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def _move(got: Path, folder: Path, files: dict[str, FileFacts], *, whole: bool) -> None:
    """Puts checked files in place, `done` last; an interrupted attempt at a stage goes."""
    (folder / DONE).unlink(missing_ok=True)
    if whole:
        remove_contents(folder)
    for name in [each for each in files if each != DONE] + [DONE]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(got / name, folder / name)


def _megabytes(files: dict[str, FileFacts]) -> str:
    return f"{sum(each.size for each in files.values()) / 1e6:,.3f} MB"
