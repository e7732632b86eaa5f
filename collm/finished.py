"""Whether a run is finished, and for the same inputs: answered without torch, so that asking again takes a moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm.component import BuildContext, ComponentConfig, inner_components
from collm.errors import DataError
from collm.registry import Registry
from collm.runs.store import RunFolder
from collm.spec.fingerprint import fingerprint
from collm.spec.model import ResolvedSpec
from collm.stages.inner_components import names_a_place
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
        `code` (core and plugins used), `dataset`, and `backbone` or `encoder.backbone` (a backbone inside the
        encoder's settings) where the spec says where its files lie.

    Raises:
        DataError: If files are missing.
    """
    used = [
        (kind, config)
        for kind in ("dataset", "encoder", "backbone", "prompt", "tuning")
        if (config := getattr(spec, kind))
    ]
    inner = {kind: list(inner_components(config)) for kind, config in used}
    plugins = [registry.source_hash(kind, config.name) for kind, config in used]  # type: ignore[arg-type]
    plugins += [registry.source_hash(kind, config.name) for found in inner.values() for kind, config in found]
    plugins += [registry.source_hash("metric", name) for name in spec.evaluate.metrics]
    plugins += [registry.source_hash("encoder", floor.name) for floor in registry.floors()]
    source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
    hashes = {"code": fingerprint([core_hash(*CORE), plugins]), "dataset": str(source.content_hash())}
    backbones: dict[str, ComponentConfig] = {} if spec.backbone is None else {"backbone": spec.backbone}
    backbones |= {f"{at}.{kind}": each for at, found in inner.items() for kind, each in found if kind == "backbone"}
    for label, each in backbones.items():
        if names_a_place(each):
            backbone = registry.get("backbone", each.name).load_factory()(each, context=context)
            hashes[label] = str(backbone.content_hash())
    return hashes


def stored_outcome(
    spec: ResolvedSpec,
    registry: Registry,
    *,
    runs_dir: Path,
    context: BuildContext,
    run: str,
    says_changes: bool = True,
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
        says_changes: Whether to log what changed since; a caller that only looks ahead leaves that to the run itself.
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
        if says_changes:
            logger.info("%s: finished before, but %s changed since", run, " and ".join(changed))
        return None
    return outcome(folder, run, reused=True)


def outcome(folder: RunFolder, run: str, *, reused: bool) -> dict[str, Any]:
    """Returns a run's results with its key, its folder, and whether they had been there before."""
    return folder.results() | {"run": run, "run_dir": str(folder.path), "reused": reused}


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
