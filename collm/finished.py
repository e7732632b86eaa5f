"""Whether a run is finished, and for the same inputs: answered without torch, so that asking again takes a moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm.component import BuildContext, is_location
from collm.errors import DataError
from collm.registry import Registry
from collm.runs.store import RunFolder
from collm.spec.fingerprint import fingerprint
from collm.spec.model import ResolvedSpec
from collm.stages.stage import core_hash

logger = logging.getLogger(__name__)
CORE = ("contracts", "data", "engine", "metrics", "model", "prompt", "stages")


def input_hashes(spec: ResolvedSpec, registry: Registry, context: BuildContext) -> dict[str, str]:
    """Returns what decides a run's results beside its spec: code and file contents, each hashed.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        context: Cache folder.

    Returns:
        `code` (core and plugins used), `dataset`, and `backbone` where the spec says where its files lie.

    Raises:
        DataError: If files are missing.
    """
    used = [
        (kind, config)
        for kind in ("dataset", "encoder", "backbone", "prompt", "tuning")
        if (config := getattr(spec, kind))
    ]
    plugins = [registry.source_hash(kind, config.name) for kind, config in used]  # type: ignore[arg-type]
    plugins += [registry.source_hash("metric", name) for name in spec.evaluate.metrics]
    plugins += [registry.source_hash("encoder", floor.name) for floor in registry.floors()]
    source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
    hashes = {"code": fingerprint([core_hash(*CORE), plugins]), "dataset": str(source.content_hash())}
    if spec.backbone is not None and _names_a_place(spec.backbone):
        backbone = registry.get("backbone", spec.backbone.name).load_factory()(spec.backbone, context=context)
        hashes["backbone"] = str(backbone.content_hash())
    return hashes


def stored_outcome(
    spec: ResolvedSpec, registry: Registry, *, runs_dir: Path, context: BuildContext, run: str
) -> dict[str, Any] | None:
    """Returns the stored results of a finished run, None where there is work to do.

    A run whose code or files have changed since is not finished: its unchanged stages are reused all the same. Where
    the files are gone, the stored results are shown and that is said.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        runs_dir: Directory of runs.
        context: Cache folder.
        run: Key of the run within its suite, or the spec's name.
    """
    folder = RunFolder(runs_dir, spec.name, spec.spec_hash)
    if not folder.is_done():
        return None
    results = folder.results()
    try:
        changed = _changed(results.get("inputs", {}), input_hashes(spec, registry, context))
    except DataError as error:
        logger.warning("%s: showing stored results; their files cannot be compared: %s", run, error)
        changed = []
    if changed:
        logger.info("%s: finished before, but %s changed since", run, " and ".join(changed))
        return None
    return outcome(folder, run, reused=True)


def outcome(folder: RunFolder, run: str, *, reused: bool) -> dict[str, Any]:
    """Returns a run's results with its key, its folder, and whether they had been there before."""
    return folder.results() | {"run": run, "run_dir": str(folder.path), "reused": reused}


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _names_a_place(config: Any) -> bool:
    fields = type(config).model_fields
    return any(
        is_location(field.json_schema_extra) and getattr(config, name) is not None for name, field in fields.items()
    )
