"""Stage: source files -> splits, ids and histories in parquet."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from collm.component import BuildContext
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.engine.prompt_lists import check_lists
from collm.files import write_atomically
from collm.ingest.bad_rows import BadRowsError, quarantine_csv
from collm.registry import Registry
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.stages.stage import StageResult, StageRunner
from collm.stages.versions import version_of


class PreparedStage(NamedTuple):
    """The finished stage and its opened output."""

    stage: StageResult
    data: PreparedData


def prepare_data(
    spec: ResolvedSpec, *, registry: Registry, runner: StageRunner, context: BuildContext
) -> PreparedStage:
    """Prepares the dataset of a spec.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        runner: Runs or skips the stage.
        context: Cache folder.

    Returns:
        The stage and its opened output.

    Raises:
        DataError: If the source is missing, malformed, or its counts differ from its recipe's, or it lacks what prompts
            shall list of the past. Where too many rows are
            bad, they are listed in `<runs-dir>/quarantine/<stage>.csv`, which the message names.
    """
    source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
    payload = {
        "config": config_payload(spec.dataset),
        "visibility": spec.history.visibility,
        "content": source.content_hash(),
        "files": config_contents(spec.dataset, "dataset"),
        "plugin": registry.code_version("dataset", spec.dataset.name),
        "version": version_of("prepare_data"),
    }

    def work(folder: Path) -> dict[str, int]:
        try:
            prepare(
                source,
                limit=spec.dataset.limit,
                history=spec.history,
                folder=folder,
                recipe=config_payload(spec.dataset),
            )
        except BadRowsError as error:
            raise error.located(_write_quarantine(error, folder)) from error
        return PreparedData.open(folder).counts()

    result = runner.run("prepare_data", payload, work)
    data = PreparedData.open(result.folder)
    check_lists(spec.history, data)
    return PreparedStage(result, data)


def _write_quarantine(error: BadRowsError, folder: Path) -> Path:
    """Writes the bad rows beside the stages: a stage that failed may be cleared away, its list must outlast it."""
    path = folder.parent.parent / "quarantine" / f"{folder.name}.csv"
    write_atomically(path, quarantine_csv(error.rows))
    return path
