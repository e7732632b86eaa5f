"""A `collm serve` of its own process, and what asks it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from generated import call, command, write_data

BASE = """\
name: {name}
dataset: {{name: movielens-small, path: data}}
encoder: {{name: mf-bias, fit: {{epochs: 1}}}}
evaluate: {{resamples: 0}}
"""
LANGUAGE = """\
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning: {name: default, batch_size: 16, text: {epochs: 1, warmup_steps: 2}, collaborative: {epochs: 1, warmup_steps: 2}}
"""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: Any


class ServedRun:
    """A server that runs while the `with` block does."""

    def __init__(self, folder: Path, run: str, *options: str) -> None:
        self._command = command("serve", run, "--port", "0", *options)
        self._folder = folder
        self.lines: list[str] = []

    def __enter__(self) -> ServedRun:
        self.process = subprocess.Popen(
            self._command, cwd=self._folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(listening,), daemon=True)
        self._reader.start()
        assert listening.wait(120), self.lines
        self.host, port = re.findall(r"listening on http://(.+):(\d+);", "\n".join(self.lines))[0]
        self.port = int(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.terminate()
        code = self.process.wait(120)
        self._reader.join()
        return code

    def ask(
        self, path: str, body: Any = None, *, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Sends one request over a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        sent = json.dumps(body).encode() if raw is None and body is not None else raw
        method = "GET" if sent is None else "POST"
        connection.request(method, path, sent, {"Content-Type": "application/json"} | dict(headers or {}))
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        is_json = "json" in (reply.headers["content-type"] or "")
        return Reply(reply.status, dict(reply.headers.items()), json.loads(text) if is_json else text.decode())

    def timed(self, path: str, body: Any) -> tuple[float, Reply]:
        """Returns the seconds of a request, and its reply."""
        started = time.perf_counter()
        reply = self.ask(path, body)
        return time.perf_counter() - started, reply

    def _read(self, listening: threading.Event) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("listening on "):
                listening.set()
        listening.set()


def make_runs(root: Path) -> None:
    """Makes two finished runs in a folder: an encoder alone (`mf`), and CoLLM (`hybrid`)."""
    write_data(root / "data")
    for name, more in (("mf", ""), ("hybrid", LANGUAGE)):
        (root / f"{name}.yaml").write_text(BASE.format(name=name) + more, encoding="utf-8")
        done = call(root, "run", f"{name}.yaml")
        assert done.returncode == 0, done.stderr


def run_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "runs").glob(f"{name}-[0-9a-f]*")
    return found
