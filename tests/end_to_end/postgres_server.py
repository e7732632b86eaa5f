"""A real PostgreSQL 15 server in a folder of its own, with a password, so that tests can look for leaks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

BINARIES = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "s3cret/p@ss:word"
QUOTED = "s3cret%2Fp%40ss%3Aword"
# initdb refuses to run as root.
UNPRIVILEGED = ("postgres", "nobody")


class Server:
    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="collm-postgres-"))
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        secret = self._folder / "secret"
        secret.write_text(PASSWORD + "\n", encoding="utf-8")
        secret.chmod(0o644)
        self._call("initdb", "-D", "data", "-U", "tester", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, password: str = QUOTED) -> str:
        return f"postgresql://tester:{password}@127.0.0.1:{self.port}/postgres"

    def _call(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(BINARIES / name), *arguments],
            cwd=self._folder,
            user=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def start_server() -> Server:
    """Starts a server, or skips the test with the reason."""
    if not (BINARIES / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed: {BINARIES} has no initdb")
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed: pip install 'collm[postgresql]'")
    if os.geteuid() == 0 and _unprivileged() is None:
        pytest.skip("the tests run as root and there is no other user to run PostgreSQL as")
    return Server()


def _unprivileged() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in UNPRIVILEGED if name in names), None)
