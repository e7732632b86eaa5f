"""MLflow: settings, learning curves and final metrics of every run, where `MLFLOW_TRACKING_URI` is set."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collm.hookspecs import hookimpl
from collm.runs.store import RunFolder

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DEFAULT_EXPERIMENT = "collm"
FOLDER_TAG = "collm.run_folder"
MAX_PARAM_LENGTH = 6000
PARAMS_PER_CALL = 100

# Run folder -> id of the run that mirrors it.
_ids: dict[Path, str] = {}


@hookimpl
def run_started(run_dir: Path, spec: dict[str, Any]) -> None:
    """Replaces an earlier mirror of the same run folder, and logs what was logged before an interruption."""
    client = _client()
    if client is None:
        return
    from mlflow.entities import Param

    experiment = _experiment(client)
    quoted = run_dir.name.replace("'", "")
    for old in client.search_runs([experiment], filter_string=f"tags.`{FOLDER_TAG}` = '{quoted}'"):
        client.delete_run(old.info.run_id)
    run = client.create_run(experiment, run_name=spec["name"], tags={FOLDER_TAG: quoted})
    _ids[run_dir] = run.info.run_id
    params = [Param(path, str(value)[:MAX_PARAM_LENGTH]) for path, value in _leaves(spec)]
    for start in range(0, len(params), PARAMS_PER_CALL):
        client.log_batch(run.info.run_id, params=params[start : start + PARAMS_PER_CALL])
    for stage, step, values in RunFolder.at(run_dir).logged_steps():
        _log(client, run.info.run_id, {f"{stage}/{name}": value for name, value in values.items()}, step)


@hookimpl
def step_logged(run_dir: Path, stage: str, step: int, values: dict[str, float]) -> None:
    """Logs one step."""
    client = _client()
    if client is not None:
        _log(client, _ids[run_dir], {f"{stage}/{name}": value for name, value in values.items()}, step)


@hookimpl
def run_finished(run_dir: Path, results: dict[str, Any]) -> None:
    """Logs the final metrics and ends the run."""
    client = _client()
    if client is None:
        return
    final = {
        f"{split}.{part}.{_plain(name)}": record["value"]
        for split, slices in results["metrics"].items()
        for part, metrics in slices.items()
        for name, record in metrics.items()
        if record["value"] is not None
    }
    _log(client, _ids[run_dir], final, 0)
    client.set_terminated(_ids.pop(run_dir))


def _client() -> MlflowClient | None:
    address = os.environ.get(ADDRESS)
    if not address:
        return None
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ImportError(f"{ADDRESS} is set, but mlflow is missing: pip install 'collm[trackers]'") from error
    return MlflowClient(tracking_uri=address)


def _experiment(client: MlflowClient) -> str:
    name = os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _log(client: MlflowClient, run_id: str, values: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    client.log_batch(run_id, metrics=[Metric(name, float(value), now, step) for name, value in values.items()])


def _plain(label: str) -> str:
    """Returns a metric's label in the characters that MLflow takes: `ndcg@10` as `ndcg_at_10`."""
    return re.sub(r"[^\w. /-]+", "_", label.replace("@", "_at_")).strip("_")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
