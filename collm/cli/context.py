"""What every command needs from the outside world: global options, registry, cache folder, the two output streams."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from collm.api import cache_dir, runs_place
from collm.cli.output import emit, emit_json, emit_table, keep_stdout_for_results, say
from collm.errors import UsageError
from collm.visible import ShownFormatter

if TYPE_CHECKING:
    from collm.component import BuildContext
    from collm.registry import Registry
    from collm.runs.environment import Provenance
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec

__all__ = ["CliState", "cache_dir", "emit", "emit_json", "emit_table", "mirror", "say", "state_of"]
SpecArgument = Annotated[
    Path, typer.Argument(metavar="SPEC", help="YAML file of a run or a suite.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override one field, e.g. `encoder.fit.epochs=5` (null removes a section). Repeatable.",
        show_default=False,
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME",
        help="One run or ensemble of a suite: all its seeds, or one as in mf-seed1. Repeatable.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunsDirOption = Annotated[
    Path,
    typer.Option(
        "--runs-dir",
        metavar="DIR",
        parser=runs_place,
        help="Directory of run folders and stages, or its address in an object store, e.g. s3://bucket/runs.",
    ),
]


@dataclass
class CliState:
    """Global options, shared by the commands of one call.

    Attributes:
        debug: Show the traceback of an error.
        strict_plugins: A broken plugin is an error.
        command: The words of the command line after `collm`.
    """

    debug: bool = False
    strict_plugins: bool = False
    command: tuple[str, ...] = ()
    _registry: Registry | None = field(default=None, repr=False)

    def registry(self) -> Registry:
        """Returns the installed components; names broken plugins on stderr, once."""
        if self._registry is None:
            keep_stdout_for_results()
            from collm.registry import default_registry

            self._registry = default_registry(strict=self.strict_plugins)
            for status in self._registry.host.statuses:
                if not status.ok:
                    say(f"warning: {status.label()} is broken and left out: {status.cause}")
                    if self.debug:
                        say(status.traceback)
        return self._registry

    def build_context(self) -> BuildContext:
        """Returns what components are built with."""
        from collm.component import BuildContext

        return BuildContext(cache_dir=cache_dir(), find=self.registry().get)

    def load(self, path: Path, overrides: list[str] | None, only: list[str] | None = None) -> ResolvedSpec | Suite:
        """Reads a spec or suite with its overrides; relative paths in overrides start at the working directory.

        What `only` leaves out of a suite is neither resolved nor looked at.
        """
        from collm.experiment import Request, load_experiment
        from collm.spec.expand import Suite

        request = Request(path, Path.cwd(), overrides or [], only or [])
        loaded = load_experiment(request, self.registry(), self.build_context())
        for warning in loaded.warnings:
            say(f"warning: {warning}")
        if isinstance(loaded.content, Suite) and (said := loaded.content.says_left_out()):
            say(said)
        return loaded.content

    def provenance(self, file: Path) -> Provenance:
        """Returns how this command was started, and the commits of the working directory and of a spec's folder."""
        from collm.runs.environment import Provenance

        places = {"working directory": Path.cwd(), "spec": file.parent}
        return Provenance.of(("collm", *self.command), places)


def state_of(context: typer.Context) -> CliState:
    """Returns the global options of this call; from now on stdout is for its result alone."""
    keep_stdout_for_results()
    state = context.find_object(CliState)
    return state if state is not None else CliState()


def mirror() -> str | None:
    """Returns the base address of a mirror of published files: `COLLM_MIRROR`, None where it is not set.

    Raises:
        UsageError: If it is not an address.
    """
    chosen = os.environ.get("COLLM_MIRROR")
    if not chosen:
        return None
    if "@" in chosen:
        raise UsageError("COLLM_MIRROR: holds a user or password, which are not sent; give an address without them")
    if not chosen.startswith(("http://", "https://")):
        raise UsageError(f"COLLM_MIRROR: '{chosen}' is not an address; it begins with http:// or https://")
    return chosen


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a live display comes after what is written while it runs."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


@contextmanager
def log_lines(*, debug: bool) -> Iterator[None]:
    """Shows what `collm` and its plugins log while the block runs; of other libraries only warnings.

    Args:
        debug: Whether to show the finest lines, too.
    """
    handler = _StderrHandler()
    handler.setFormatter(ShownFormatter("%(message)s"))
    plugins = {name.partition(".")[0] for name in sys.modules if name.startswith("collm_")}
    loggers = [logging.getLogger(name) for name in ("collm", *sorted(plugins))]
    levels = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def find_run(run: Path, runs_dir: Path) -> Path:
    """Returns a run folder given by path or by its name in the runs directory.

    Raises:
        UsageError: If there is none.
    """
    from collm.runs.remote import place_of, remote_of
    from collm.runs.store import RunFolder
    from collm.runs.usage import is_run_folder

    if remote_of(runs_dir) is not None and run.name == str(run):
        # Gets it where the store has it.
        RunFolder.at(runs_dir / run).is_done()
    for folder in (run, runs_dir / run):
        if folder.is_dir() and is_run_folder(folder):
            return folder
    raise UsageError(f"{run}: not a run folder here or in {place_of(runs_dir)}; `collm runs` lists them")
