"""Stage: source files -> splits, ids and histories in parquet."""

from __future__ import annotations

from pathlib import Path

from collm.component import BuildContext
from collm.data.prepared import PreparedData, prepare
from collm.registry import Registry
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.stages.stage import StageResult, StageRunner, core_hash


def prepare_data(
    spec: ResolvedSpec, *, registry: Registry, runner: StageRunner, context: BuildContext
) -> tuple[StageResult, PreparedData]:
    """Prepares the dataset of a spec.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        runner: Runs or skips the stage.
        context: Cache folder.

    Returns:
        The stage and its opened output.

    Raises:
        DataError: If the source is missing, malformed, or its counts differ from its recipe's.
    """
    source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
    payload = {
        "config": config_payload(spec.dataset),
        "visibility": spec.history.visibility,
        "seed": spec.seed if _draws_rows(spec) else None,
        "content": source.content_hash(),
        "plugin": registry.source_hash("dataset", spec.dataset.name),
        "core": core_hash("data"),
    }

    def work(folder: Path) -> dict[str, int]:
        prepare(source, limit=spec.dataset.limit, history=spec.history, seed=spec.seed, folder=folder)
        return PreparedData.open(folder).counts()

    result = runner.run("prepare_data", payload, work)
    return result, PreparedData.open(result.folder)


def _draws_rows(spec: ResolvedSpec) -> bool:
    limit = spec.dataset.limit
    return any(value is not None for value in (limit.train, limit.valid, limit.test))
