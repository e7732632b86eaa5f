"""What a run was made with: versions, processor, memory, devices. No user name, no environment variable, no token."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

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
    }
