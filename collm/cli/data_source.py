"""What the `collm data` commands share: one spec of a file, and its prepared data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.cli.context import cache_dir, say
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.component import BuildContext
    from collm.data.prepared import PreparedData
    from collm.registry import Registry
    from collm.spec.expand import Suite
    from collm.spec.model import ResolvedSpec

KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Run of a suite whose data is looked at.", show_default="its first"),
]


def choose_run(
    loaded: ResolvedSpec | Suite, key: str | None, *, prefer: Callable[[ResolvedSpec], bool] = lambda _: True
) -> tuple[ResolvedSpec, str | None]:
    """Picks one run of a suite; warns where others have other data.

    Returns:
        The spec, and its key in the suite; None where there is no suite.

    Raises:
        UsageError: If there is no run of that key.
    """
    from collm.spec.expand import Suite

    if not isinstance(loaded, Suite):
        if key is not None:
            raise UsageError(f"--key {key}: this file is one spec, not a suite")
        return loaded, None
    specs = {each.key: each.spec for each in loaded.runs}
    if key is not None and key not in specs:
        raise UsageError(f"--key {key}: no run of that key in this suite; there are: {', '.join(specs)}")
    preferred = [name for name, spec in specs.items() if prefer(spec)]
    chosen = key or next(iter(preferred or specs))
    if key is None and any(_view(spec) != _view(specs[chosen]) for spec in specs.values()):
        say(f"runs of this suite differ in data or history; this is '{chosen}', --key shows another")
    return specs[chosen], chosen


def _view(spec: ResolvedSpec) -> tuple[object, ...]:
    return spec.dataset, spec.history


def prepare(spec: ResolvedSpec, registry: Registry, runs_dir: Path) -> tuple[PreparedData, BuildContext]:
    """Opens a spec's prepared data as `collm run` does, preparing it where that was not done yet.

    Returns:
        The data, and what else components are built with.
    """
    from collm.component import BuildContext
    from collm.stages.prepare_data import prepare_data
    from collm.stages.stage import StageRunner

    context = BuildContext(cache_dir=cache_dir(), find=registry.get)
    runner = StageRunner(runs_dir, finished=lambda _: None)
    return prepare_data(spec, registry=registry, runner=runner, context=context)[1], context
