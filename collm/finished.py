"""Whether a run is finished, and for the same inputs: answered without torch, so that asking again takes a moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm.component import BuildContext, Kind, inner_components
from collm.hookspecs import REGISTER_HOOKS
from collm.registry import Registry
from collm.runs.records import RunOutcome
from collm.runs.store import RunFolder
from collm.spec.contents import run_hash, spec_contents
from collm.spec.fingerprint import fingerprint
from collm.spec.metric_entries import entry_name
from collm.spec.model import ResolvedSpec
from collm.stages.versions import all_versions

logger = logging.getLogger(__name__)


def run_folder(spec: ResolvedSpec, registry: Registry, *, runs_dir: Path, context: BuildContext) -> RunFolder:
    """Returns the folder of a spec's run: settings and contents of the files named decide its name.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        runs_dir: Directory of runs.
        context: Cache folder.

    Raises:
        DataError: If files are missing.
    """
    return RunFolder(runs_dir, spec.name, run_hash(spec, registry, context))


def input_hashes(spec: ResolvedSpec, registry: Registry, context: BuildContext) -> dict[str, str]:
    """Returns what decides a run's results beside its spec: code and file contents, each hashed.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        context: Cache folder.

    Returns:
        `code` (versions of stages and components), `dataset`, and the field of every place that the spec names.

    Raises:
        DataError: If files are missing.
    """
    plugins = [registry.code_version(kind, name) for kind, name in used_components(spec, registry)]
    contents = spec_contents(spec, registry, context)
    if "dataset" not in contents:
        source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
        contents["dataset"] = str(source.content_hash())
    # Runs stay what they were before there were stages that they do not have; updates name their version in their own.
    unused = {"update"} | ({"rank"} if spec.evaluate.ranking is None else set())
    unused |= {"continue", "windows"} if spec.evaluate.protocol == "split" else set()
    versions = {stage: version for stage, version in all_versions().items() if stage not in unused}
    return {"code": fingerprint([versions, plugins]), **contents}


def used_components(spec: ResolvedSpec, registry: Registry) -> list[tuple[Kind, str]]:
    """Returns kind and name of every component behind a run's numbers: those of its spec, metrics, floors."""
    used = [(kind, config) for _, kind, config in spec.components()]
    ranking = spec.evaluate.ranking
    return [
        *((kind, config.name) for kind, config in used),
        *((kind, inner.name) for _, config in used for kind, inner in inner_components(config)),
        *(("metric", entry_name(entry)) for entry in spec.evaluate.metrics),
        *(("encoder", floor.name) for floor in registry.floors()),
        *(("metric", entry_name(entry)) for entry in (ranking.metrics if ranking is not None else ())),
        *(("encoder", floor.name) for floor in (registry.ranking_floors() if ranking is not None else ())),
    ]


def used_plugins(spec: ResolvedSpec, registry: Registry) -> dict[str, dict[str, Any]]:
    """Returns the distributions whose plugins a run uses.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.

    Returns:
        Distribution -> `version` and `components`: kind and name -> what tells its code from other code. One that only
        follows runs (a tracker) has no components. Of components that were not installed the plugin's name appears.
    """
    found: dict[str, dict[str, Any]] = {}
    for status in registry.host.statuses:
        if status.ok and set(status.hooks) - set(REGISTER_HOOKS.values()):
            found[status.distribution or status.name] = {"version": status.version, "components": {}}
    for kind, name in used_components(spec, registry):
        status = registry.origin(kind, name)
        entry = found.setdefault(status.distribution or status.name, {"version": status.version, "components": {}})
        entry["components"][f"{kind} {name}"] = registry.code_version(kind, name)
    return dict(sorted(found.items()))


def stored_outcome(
    spec: ResolvedSpec,
    registry: Registry,
    *,
    folder: RunFolder,
    context: BuildContext,
    run: str,
    says_changes: bool = True,
) -> RunOutcome | None:
    """Returns the stored results of a finished run, None where there is work to do.

    A run whose code or files have changed since, or whose files are damaged, is not finished: its unchanged stages are
    reused all the same.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        folder: What `run_folder` gives.
        context: Cache folder.
        run: Key of the run within its suite, or the spec's name.
        says_changes: Whether to log what changed since; a caller that only looks ahead leaves that to the run itself.

    Raises:
        DataError: If files are missing; `collm report RUN` shows stored results without them.
    """
    if not folder.is_done():
        return None
    if fault := folder.damage():
        if says_changes:
            logger.warning("%s: %s; the run is repeated", run, fault)
        return None
    changed = _changed(folder.results().inputs, input_hashes(spec, registry, context))
    if changed:
        if says_changes:
            logger.info("%s: finished before, but %s changed since", run, " and ".join(changed))
        return None
    return outcome(folder, run, reused=True)


def outcome(folder: RunFolder, run: str, *, reused: bool) -> RunOutcome:
    """Returns a run's results under its key in this command."""
    return RunOutcome(folder.results().model_copy(update={"run": run}), folder.path, reused)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
