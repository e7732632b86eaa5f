"""`collm doctor`: versions, devices, caches, plugins; what is broken and how to fix it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from collm.cli.context import JsonOption, RunsDirOption, cache_dir, emit, emit_json, state_of
from collm.errors import RunError
from collm.registry import Registry
from collm.runs.environment import C_LIBRARY, describe_environment, processor_use
from collm.runs.remote import place_of, remote_of

MIN_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: `ok`, `warning` (works, but look at it) or `broken`.
        subject: What was looked at.
        found: What it is.
        fix: What to do; empty where nothing is to be done.
    """

    state: Literal["ok", "warning", "broken"]
    subject: str
    found: str
    fix: str = ""


def doctor(context: typer.Context, runs_dir: RunsDirOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Look at versions, devices, caches and plugins; say what is broken and how to fix it.

    Example: collm doctor
    """
    findings = [*_software(), *_folders(runs_dir), *_store(runs_dir), *_plugins(state_of(context).registry())]
    if as_json:
        emit_json({"schema": 1, "findings": [asdict(each) for each in findings]})
    else:
        for each in findings:
            fix = f"; {each.fix}" if each.fix else ""
            emit(f"{each.state:<8} {each.subject}: {each.found}{fix}")
    if any(each.state == "broken" for each in findings):
        raise typer.Exit(
            3 if all(each.subject.startswith("plugin") for each in findings if each.state == "broken") else 1
        )


def _software() -> Iterator[Finding]:
    yield Finding("ok", "python", sys.version.split()[0])
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        yield Finding(
            "broken", "torch", f"cannot be imported: {error}", "reinstall it: pip install -c constraints.txt torch"
        )
    facts = describe_environment()
    for name, version in facts["packages"].items():
        if version is None:
            yield Finding("broken", name, "not installed", "pip install -c constraints.txt -e .")
        else:
            yield Finding("ok", name, version)
    yield Finding("ok", "processor", f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']} GB")
    devices = facts.get("torch", {}).get("devices") or []
    yield Finding("ok", "devices", ", ".join(devices) or "no CUDA device: runs use the processor")
    if "torch" in facts and not devices:
        yield _processor_use(facts["torch"])


def _processor_use(facts: dict[str, Any]) -> Finding:
    advice = []
    if facts["allocator"] == C_LIBRARY:
        advice.append("preload tcmalloc")
    if facts["threads"] > 1 and facts["wait_policy"] != "active":
        advice.append("set OMP_WAIT_POLICY=active where nothing else runs")
    fix = f"for faster tuning {' and '.join(advice)}: docs/speed.md#allocator-and-threads" if advice else ""
    return Finding("ok", "threads", processor_use(facts), fix)


def _folders(runs_dir: Path) -> Iterator[Finding]:
    for subject, folder in (("cache", cache_dir()), ("runs directory", runs_dir.absolute())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free_gb = shutil.disk_usage(existing).free / 1e9
        found = f"{folder} ({'exists' if folder.exists() else 'not made yet'}, {free_gb:.1f} GB free)"
        if not os.access(existing, os.W_OK):
            yield Finding("broken", subject, f"{found} is not writable", _other_folder(subject))
        elif free_gb < MIN_FREE_GB:
            yield Finding("warning", subject, found, f"little space: free some, or {_other_folder(subject)}")
        else:
            yield Finding("ok", subject, found)


def _store(runs_dir: Path) -> Iterator[Finding]:
    remote = remote_of(runs_dir)
    if remote is None:
        return
    try:
        locks = remote.objects.conditional()
    except RunError as error:
        yield Finding("broken", "object store", str(error), "see docs/object-storage.md")
        return
    if locks:
        yield Finding("ok", "object store", f"{place_of(runs_dir)}, with locks by conditional writes")
    else:
        yield Finding(
            "warning",
            "object store",
            f"{place_of(runs_dir)} has no conditional writes, so no locks",
            "machines that run at the same time may compute the same stage twice; the last put counts",
        )


def _other_folder(subject: str) -> str:
    return "choose another folder with " + ("COLLM_CACHE" if subject == "cache" else "--runs-dir")


def _plugins(registry: Registry) -> Iterator[Finding]:
    if not registry.host.statuses:
        yield Finding(
            "broken", "plugins", "none installed", "install the project itself: pip install -c constraints.txt -e ."
        )
    for status in registry.host.statuses:
        owner = " ".join(part for part in (status.distribution, status.version) if part)
        if status.ok:
            yield Finding("ok", f"plugin {status.name}", owner)
        else:
            fix = f"update or uninstall {status.distribution or status.module}"
            yield Finding("broken", f"plugin {status.name}", f"{owner}: {status.cause}", fix)
