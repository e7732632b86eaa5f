"""TensorBoard: learning curves and final metrics of every run, where `COLLM_TENSORBOARD` names a folder."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm.hookspecs import hookimpl
from collm.runs.store import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "COLLM_TENSORBOARD"


@hookimpl
def run_started(run_dir: Path, spec: dict[str, Any]) -> None:
    """Begins the run's log anew and writes what was logged before an interruption."""
    log = _log(run_dir)
    if log is None:
        return
    _writer.cache_clear()
    # Nothing but logs is removed, whatever folder the user named.
    for old in log.glob("events.out.tfevents.*"):
        old.unlink(missing_ok=True)
    writer = _writer(log)
    writer.add_text("spec", f"```\n{_yaml(spec)}```")
    for stage, step, values in RunFolder.at(run_dir).logged_steps():
        _write(writer, stage, step, values)


@hookimpl
def step_logged(run_dir: Path, stage: str, step: int, values: dict[str, float]) -> None:
    """Adds one point to the run's curves."""
    log = _log(run_dir)
    if log is not None:
        _write(_writer(log), stage, step, values)


@hookimpl
def run_finished(run_dir: Path, results: dict[str, Any]) -> None:
    """Writes the final metrics and closes the log."""
    log = _log(run_dir)
    if log is None:
        return
    writer = _writer(log)
    for split, slices in results["metrics"].items():
        for part, metrics in slices.items():
            for name, record in metrics.items():
                if record["value"] is not None:
                    writer.add_scalar(f"final/{split}.{part}.{name}", record["value"])
    writer.close()
    _writer.cache_clear()


def _log(run_dir: Path) -> Path | None:
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    log = Path(folder).expanduser() / run_dir.name
    # Named like TensorBoard's own default, the folder of logs may be the folder of runs.
    return log / "tensorboard" if log.resolve() == run_dir.resolve() else log


@functools.cache
def _writer(log: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(f"{FOLDER} is set, but tensorboard is missing: pip install 'collm[trackers]'") from error
    return SummaryWriter(log_dir=str(log))


def _write(writer: SummaryWriter, stage: str, step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        writer.add_scalar(f"{stage}/{name}", value, step)
    writer.flush()


def _yaml(spec: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
