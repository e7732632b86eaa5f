"""What a run may know of the machine and of where to write; light, so that a command can say it before torch loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from collm.process_group import SINGLE, ProcessGroup
from collm.runs.environment import UNRECORDED, Provenance


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
