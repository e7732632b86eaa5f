"""What a run is made with: the options of its command, versions, processor, memory, devices, git commits.

Of the machine no user name, path, address, environment variable, password or token is kept.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from collm.process_group import SINGLE, ProcessGroup
from collm.visible import visible, without_secrets

_DISTRIBUTIONS = (
    "collm",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "gguf",
    "pluggy",
    "pydantic",
    "optuna",
    "scikit-learn",
    "polars",
    "numpy",
)
C_LIBRARY = "C library"
# Lists the libraries of this process, on Linux.
MAPPED_FILES = Path("/proc/self/maps")
_PRELOADED_ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")


def describe_environment() -> dict[str, Any]:
    """Returns the facts about this machine and its software that may decide numbers or speed.

    Devices and threads are those of torch where torch is loaded already; this function never loads it.
    """
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(_DISTRIBUTIONS),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch"] = _torch_facts(torch)
    return facts


def package_versions(distributions: tuple[str, ...]) -> dict[str, str | None]:
    """Returns the installed version of each distribution, None where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def processor_name() -> str:
    """Returns the processor's model name as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _torch_facts(torch: Any) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else None,
        "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset").lower(),
        "allocator": allocator(MAPPED_FILES.read_text(encoding="utf-8")) if MAPPED_FILES.is_file() else None,
    }


def allocator(mapped: str) -> str:
    """Returns the name of the memory allocator among the files that a process has mapped.

    Args:
        mapped: The text of `/proc/PID/maps`.
    """
    return next((name for name in _PRELOADED_ALLOCATORS if f"lib{name}" in mapped), C_LIBRARY)


def processor_use(facts: Mapping[str, Any]) -> str:
    """Returns a phrase on threads, how they wait, and the allocator: what speed on a processor depends on.

    Args:
        facts: The part `torch` of `describe_environment`.
    """
    waiting = {"passive": ", which sleep while they wait", "active": ", which spin while they wait"}
    how = waiting.get(facts["wait_policy"], "") if facts["threads"] > 1 else ""
    memory = f"; allocator: {facts['allocator']}" if facts["allocator"] else ""
    return f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}{how}{memory}"


_LIMIT_S = 20.0
# A repository's own settings must not start programs here, nor is its index written.
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false")


@dataclass(frozen=True)
class GitState:
    """The state of one repository.

    Attributes:
        of: What lies in it: `working directory`, `spec`.
        commit: Hex name of the checked-out commit; None before the first one, or where it is not known.
        dirty: Whether files that git follows differ from the commit; None where that is not known.
        untracked: Files and folders that git neither follows nor ignores; None where that is not known.
        unknown: Why something is not known; empty where all is.
    """

    of: tuple[str, ...]
    commit: str | None
    dirty: bool | None
    untracked: int | None
    unknown: str = ""


@dataclass(frozen=True)
class Provenance:
    """How a command was started.

    Attributes:
        command: Its words, passwords and tokens left out; empty where it was not started from the command line.
        git: The repositories around it.
    """

    command: tuple[str, ...] = ()
    git: tuple[GitState, ...] = ()

    @classmethod
    def of(cls, command: Sequence[str], places: Mapping[str, Path]) -> Provenance:
        """Looks at the repositories of some folders.

        Args:
            command: The words of the command line.
            places: What a folder is -> the folder.
        """
        roots: dict[Path, list[str]] = {}
        for name, folder in places.items():
            if (root := _repository(folder)) is not None:
                roots.setdefault(root, []).append(name)
        words = tuple(visible(without_secrets(word), keep="") for word in command)
        return cls(words, tuple(_state(root, tuple(names)) for root, names in roots.items()))

    def plain(self) -> dict[str, Any]:
        """Returns the parts that are known as plain data: `command`, `git`."""
        git = [{key: value for key, value in asdict(each).items() if key != "unknown" or value} for each in self.git]
        return {key: value for key, value in (("command", list(self.command)), ("git", git)) if value}


# Of runs whose start is not known, e.g. from Python.
UNRECORDED = Provenance()


@dataclass(frozen=True)
class RunOptions:
    """What a run may know of the machine and of where to write.

    Attributes:
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache for downloads and converted weights.
        device: Device name; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.
        processes: The processes that work on the run together; each calls `run_spec` with the same arguments.
        provenance: How the command was started, for `environment.json`.
    """

    runs_dir: Path
    cache_dir: Path
    device: str | None = None
    threads: int | None = None
    processes: ProcessGroup = SINGLE
    provenance: Provenance = UNRECORDED


def _repository(folder: Path) -> Path | None:
    folder = folder.resolve()
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def _state(root: Path, of: tuple[str, ...]) -> GitState:
    try:
        head = _ask(root, "rev-parse", "--verify", "--quiet", "HEAD")
        commit = head.stdout.strip() or None
        # With code 1 there is no commit yet; other codes mean that git refuses the repository.
        if head.returncode not in (0, 1):
            return GitState(of, None, None, None, f"git could not read the repository (exit code {head.returncode})")
    except FileNotFoundError:
        return GitState(of, None, None, None, "git is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return GitState(of, None, None, None, f"git could not be asked ({type(error).__name__})")
    try:
        changes = _ask(root, "status", "--porcelain", "--untracked-files=normal")
    except (OSError, subprocess.TimeoutExpired) as error:
        return GitState(of, commit, None, None, f"git could not compare the files ({type(error).__name__})")
    if changes.returncode != 0:
        return GitState(of, commit, None, None, f"git could not compare the files (exit code {changes.returncode})")
    lines = [line for line in changes.stdout.split("\n") if line]
    untracked = sum(line.startswith("?? ") for line in lines)
    return GitState(of, commit, dirty=len(lines) > untracked, untracked=untracked)


def _ask(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_GIT, *words],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
    )
