"""A file server on this machine and a set of files to fetch from it."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.fetching.download import Patience
from collm.fetching.fetched import fetch_files
from collm.fetching.remote_files import RemoteFile, RemoteSet
from collm.testing.file_server import FileServer

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
PLACE = "/data.example/sets/x.bin"


class Case:
    """One file, a cache and a patience that writes down its waits instead of waiting."""

    def __init__(self, server: FileServer, tmp_path: Path, waits: list[float]) -> None:
        self.context = BuildContext(tmp_path / "cache", mirror=server.address)
        self.patience = Patience(pauses_s=(1, 2, 3), timeout_s=5, sleep=waits.append)

    def fetch(self, name: str = "x.bin", **published: Any) -> Path:
        return fetch_files(remote_set(name, **published), self.context, patience=self.patience)[0]

    def files(self) -> dict[str, bytes]:
        found = (self.context.cache_dir / "sets").glob("[!.]*")
        return {path.name: path.read_bytes() for path in found}


def remote_set(*names: str, **published: Any) -> RemoteSet:
    files = tuple(RemoteFile(f"https://data.example/sets/{name}", **published) for name in names)
    return RemoteSet(folder="sets", command="collm fetch x", files=files, licence="cite the paper")
