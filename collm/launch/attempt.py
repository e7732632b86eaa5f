"""One command of `collm` in a child process, on whichever machine: started, logged, recorded, ended, tried again."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from collm.errors import RunError
from collm.files import write_atomically
from collm.locks import Holder, held_locks
from collm.visible import without_passwords

# A process that is asked to end writes what it has and gives its locks back.
END_S = 10.0
_POLL_S = 0.2
_TAIL_LINES = 12
_TAIL_BYTES = 8_000
_HEAD = "== "


@dataclass(frozen=True)
class Record:
    """What an attempt leaves beside its log.

    Attributes:
        holder: The child process.
        attempt: Number of this attempt, from 1; higher ones follow a lost machine or a job that was put back in line.
        code: Exit code; None while it runs, and for ever where it was killed together with its machine.
    """

    holder: Holder
    attempt: int
    code: int | None = None


@dataclass(frozen=True)
class Attempt:
    """A command to be run in a child process; called once, and again where its machine was lost.

    Attributes:
        name: What is shown of it, e.g. the key of a run.
        words: The words after `collm`.
        log: File that takes its output; `record` lies beside it.
        runs_dir: Directory whose locks a lost attempt may have left.
        folder: Working directory.
        variables: Environment variables that it gets beside those of the machine it runs on.
    """

    name: str
    words: tuple[str, ...]
    log: Path
    runs_dir: Path
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """The file that says who runs it and how it ended."""
        return self.log.with_suffix(".json")

    def placed(self, device: str | None, threads: int) -> Attempt:
        """Returns the attempt with its share of a machine.

        Args:
            device: Device name; None = the first CUDA device that it sees, else the processor.
            threads: Processor threads, which libraries other than torch keep to as well.
        """
        named = () if device is None else ("--device", device)
        asked = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads))
        return replace(
            self,
            words=(*self.words, *named, "--threads", str(threads)),
            variables=asked | dict(self.variables),
        )

    def __call__(self) -> int:
        """Runs the command and waits for its end, which comes with that of this process, too.

        Returns:
            Its exit code; negative = minus the signal that killed it.
        """
        process, record = self.start(after_lost=True)
        try:
            # Ray interrupts a task at its next instruction, which waiting in the system would never reach.
            while (code := process.poll()) is None:
                time.sleep(_POLL_S)
        except BaseException:
            # An interrupt, or a batch system that takes the machine away.
            end([process])
            raise
        self._write(Record(record.holder, record.attempt, code))
        return code

    def start(self, *, after_lost: bool = False) -> tuple[subprocess.Popen[bytes], Record]:
        """Starts the child.

        Args:
            after_lost: Whether the last attempt is known to have ended, so that its locks are freed: Ray and SLURM call
                an attempt again when they have seen its machine or job go.

        Raises:
            RunError: If the working directory is not there.
        """
        last = read_record(self.record)
        if after_lost and last is not None and last.code is None:
            for lock in held_locks(self.runs_dir, last.holder):
                with contextlib.suppress(OSError):
                    lock.unlink()
        if not self.folder.is_dir():
            here = Holder.this_process().host
            raise RunError(f"{self.folder}: not there on {here}; launched runs need a file system that machines share")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        given = (str(os.getpid()), json.dumps(dict(self.variables)))
        words = [sys.executable, "-m", "collm.cli.child", *given, *self.words]
        with self.log.open("ab") as log:
            said = without_passwords(shlex.join(self.words))
            log.write(f"{_HEAD}{time.strftime('%Y-%m-%d %H:%M:%S')} collm {said}\n".encode())
            log.flush()
            # A session of its own: Ctrl-C reaches the command alone, which decides what becomes of its children.
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _children.append(process)
        record = Record(_holder(process), 1 if last is None else last.attempt + 1)
        self._write(record)
        return process, record

    def _write(self, record: Record) -> None:
        write_atomically(self.record, json.dumps(asdict(record)) + "\n")

    def forget(self) -> None:
        """Removes the record of earlier commands, so that the first attempt of this one frees no locks."""
        self.record.unlink(missing_ok=True)


# The children of this process, for a batch system that takes it away at a moment of its own.
_children: list[subprocess.Popen[bytes]] = []


def end_children() -> None:
    """Ends the children of this process as Ctrl-C does, so that they give their locks back."""
    end(_children)
    _children.clear()


def _holder(process: subprocess.Popen[bytes]) -> Holder:
    here = Holder.this_process()
    try:
        return Holder(process.pid, here.host, psutil.Process(process.pid).create_time())
    except psutil.NoSuchProcess:
        return Holder(process.pid, here.host, time.time())


def read_record(path: Path) -> Record | None:
    """Returns the record of an attempt, None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record(Holder(**content["holder"]), int(content["attempt"]), content["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def end(processes: list[subprocess.Popen[bytes]], patience_s: float = END_S) -> None:
    """Interrupts processes, as Ctrl-C does, and kills those that do not end in time."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + patience_s
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def log_end(log: Path) -> list[str]:
    """Returns the last lines that the newest attempt wrote; empty where it wrote nothing."""
    return list(_last_lines(log))[-_TAIL_LINES:]


def _last_lines(log: Path) -> Iterator[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return
    _, head, newest = f"\n{text}".rpartition(f"\n{_HEAD}")
    # What follows the last head, whose own line is left out.
    lines = newest.splitlines()[1:] if head else text.splitlines()
    yield from (line for line in lines if line.strip())


def how_ended(code: int | None) -> str:
    """Says how a command ended that did not succeed."""
    if code is None:
        return "lost: its process or machine was killed before it could say how it ended"
    if code >= 0:
        return f"exit code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    memory = "; the system kills with SIGKILL when memory runs out: use fewer --workers" if number == 9 else ""
    return f"killed ({name}){memory}"
