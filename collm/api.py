"""The Python interface: `import collm` gives what is here; it does what the command line does, with the same code.

Loads without torch and polars, which come when a run needs them. Warnings and progress go to the logger `collm`.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from collm.arguments import names_of, path_text, whole_number, wrong_argument
from collm.component import BuildContext
from collm.errors import CollmError, RunError, UsageError
from collm.experiment import Request, load_experiment, run_experiment, stored_experiment
from collm.registry import Registry, default_registry
from collm.runs.environment import Provenance, RunOptions
from collm.runs.files import DONE
from collm.runs.records import RunOutcome, RunResults, SuiteOutcome
from collm.runs.remote import mirror_of
from collm.runs.store import RunFolder
from collm.runs.usage import is_run_folder, run_folders
from collm.spec.expand import Suite
from collm.spec.override import override_texts

if TYPE_CHECKING:
    import polars as pl

    from collm.trained.model import TrainedModel

__all__ = ["CollmError", "Result", "RunOutcome", "RunResults", "cache_dir", "load_results", "open_run", "run"]
logger = logging.getLogger(__name__)
AnyPath = str | Path
_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


@dataclass(frozen=True)
class Result:
    """What `run` gives: the finished runs of a suite, or the one run of a spec.

    Attributes:
        name: Name of the spec or suite.
        runs: Finished runs, then ensembles, in the order of the file. Each has `results` (the content of
            `results.json`, typed), `folder` and `reused` (whether it was finished before).
        failed: Key of a run that failed -> its message. Of a spec empty: there the error is raised.
    """

    name: str
    runs: tuple[RunOutcome, ...]
    failed: Mapping[str, str]

    def get(self, method: str, seed: int | None = None) -> RunOutcome:
        """Returns one run.

        Args:
            method: Name of the run in its suite, without its seed; of a spec its name.
            seed: Its seed; may be left out where the suite has one seed.

        Raises:
            RunError: If the run failed, with its message.
            UsageError: If there is no such run, several with different seeds and none is chosen, or the seed is not a
                whole number.
        """
        if not isinstance(method, str):
            raise wrong_argument("method", method, "the name of a run as text")
        seed = None if seed is None else whole_number("seed", seed)
        named = [each for each in self.runs if each.results.run == method]
        found = [each for each in named if seed is None or each.results.seed == seed]
        if len(found) == 1:
            return found[0]
        key = method if seed is None else f"{method}-seed{seed}"
        if not found and (message := self.failed.get(key) or self.failed.get(method)):
            raise RunError(f"{self.name}: {key} failed: {message}")
        seeds = ", ".join(str(each.results.seed) for each in named)
        if named:
            raise UsageError(f"{self.name}: '{method}' has the seeds {seeds}; choose one, e.g. get('{method}', seed=0)")
        names = list(dict.fromkeys(each.results.run for each in self.runs))
        close = difflib.get_close_matches(method, names, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise UsageError(f"{self.name}: no run '{method}'{hint}; its runs: {', '.join(names)}")

    def frame(self) -> pl.DataFrame:
        """Returns all numbers of the runs and of their floors, a row each; columns as those of `load_results`."""
        from collm.report.results_frame import results_frame

        return results_frame((each.folder, each.results) for each in self.runs)


def run(
    spec: AnyPath,
    overrides: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    runs_dir: AnyPath = "runs",
    device: str | None = None,
    threads: int | None = None,
) -> Result:
    """Runs a spec or a suite, as `collm run` does; what is finished is reused.

    An interrupted call is continued by the same call. Of a suite, a run that fails is named in `Result.failed` and in
    the log, and the others go on.

    Args:
        spec: YAML file of a run or a suite.
        overrides: Dotted path of a field -> its value, e.g. `{"encoder.fit.epochs": 5, "tuning": None}`; None removes
            a section, a mapping with `name` replaces one. In a suite they change the base, before its runs do;
            `{"seeds": [0, 1]}` sets the suite's own seeds.
        only: Names of the suite's runs or ensembles that are wanted; empty = all.
        runs_dir: Directory of run folders and stages, or the address of one in an object store (`s3://bucket/runs`).
        device: Device, e.g. `cpu` or `cuda:0`; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.

    Returns:
        The finished runs.

    Raises:
        SpecError: With every mistake of the file and the overrides, each with its place.
        UsageError: If there is no such file, an argument is of another kind, an override cannot be written as YAML, or
            a launcher started several processes.
        CollmError: Of the kind that stopped the run of a spec.
    """
    _require_one_process()
    path = Path(path_text("spec", spec, "the path of a YAML file; give changes of it as overrides"))
    changes = [] if overrides is None else override_texts(overrides)
    names, threads = names_of("only", only), _threads(threads)
    registry, cache, cwd = _registry(), cache_dir(), Path.cwd()
    request = Request(path, cwd, changes, names)
    loaded = load_experiment(request, registry, BuildContext(cache_dir=cache, find=registry.get))
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    content = loaded.content
    if isinstance(content, Suite) and (left_out := content.says_left_out()):
        logger.warning("%s", left_out)
    options = RunOptions(runs_place(runs_dir), cache, _device(device), threads)
    outcome = stored_experiment(content, registry, options)
    if outcome is None:
        started = Provenance.of((), {"working directory": cwd, "spec": path.parent})
        outcome = run_experiment(content, registry, replace(options, provenance=started))
    if isinstance(outcome, SuiteOutcome):
        return Result(outcome.suite, outcome.runs, outcome.failed)
    return Result(outcome.results.name, (outcome,), {})


def _require_one_process() -> None:
    """Refuses the processes of a launcher: each would take itself for the only one."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            "collm.run works in one process, and a launcher started several: start `collm run` with it instead "
            "(docs/cluster.md)"
        )


def load_results(path: AnyPath) -> pl.DataFrame:
    """Reads the numbers of finished runs as one table in long form.

    A row is one metric of one method on one slice of one split. Floors are methods of their own, once per run.

    | column | type | meaning |
    |---|---|---|
    | `run` | text | name of the run folder |
    | `method` | text | name of the run in its suite, without its seed; of a floor the floor's name |
    | `seed` | int64 | seed of the run |
    | `floor` | bool | whether the row is of a floor |
    | `split` | text | `valid` or `test` |
    | `slice` | text | rows that are measured: `all`, `warm`, `cold` |
    | `candidates` | text | what is ranked, of metrics of ranked lists (`evaluate.ranking`); empty for labelled rows |
    | `metric` | text | e.g. `auc`, `ndcg@10` |
    | `value` | float64 | the metric, built-in ones in [0, 1] (docs/metrics.md); null where nothing could be measured |
    | `low`, `high` | float64 | 95% interval, users resampled |
    | `n` | int64 | rows or users that the value averages over |
    | `skipped` | int64 | rows or users that were left out |
    | `reason` | text | why `value` is null |
    | `data` | text | fingerprint of the prepared data, null for ensembles and old runs; compare within one |
    | `notes` | list of text | sentences that belong to the run's numbers |
    | `folder` | text | path of the run folder |

    Args:
        path: A run folder, or a directory of runs, also as the address of one in an object store. Unfinished runs of a
            directory are left out and named in the log.

    Returns:
        The table, runs in order of their folders' names.

    Raises:
        UsageError: If it is neither a run folder nor a directory that holds one.
        RunError: If a run is damaged (where its `results.json` alone was edited, `notes` say so), or none is finished.
    """
    from collm.report.collect import read_run
    from collm.report.results_frame import results_frame

    place = _opened_place(path, "the path of a run folder or of a directory of runs; call load_results for each path")
    if not place.is_dir():
        what = "is a file; give the folder of a run or the directory of runs" if place.exists() else "no such folder"
        raise UsageError(f"{place}: {what}; the working directory is {Path.cwd()}")
    single = is_run_folder(place)
    folders = [place] if single else run_folders(place)
    if not folders:
        raise UsageError(f"{place}: neither a run folder nor a directory that holds one")
    unfinished = [] if single else [each for each in folders if not (each / DONE).is_file()]
    if unfinished:
        logger.warning("%s: not finished, left out: %s", place, ", ".join(each.name for each in unfinished))
    finished = [each for each in folders if each not in unfinished]
    if not finished:
        raise RunError(f"{place}: none of its {len(folders)} runs is finished; repeat their `collm run`")
    return results_frame((each, read_run(each, strict=False).results) for each in finished)


def open_run(
    path: AnyPath,
    *,
    device: str | None = None,
    threads: int | None = None,
    dtype: Literal["bfloat16", "float16", "float32"] | None = None,
) -> TrainedModel:
    """Opens a finished run for scoring and recommending, as `collm score` does.

    Args:
        path: The run folder, or its address in an object store; its stages lie beside it in `stages/`.
        device: Device, e.g. `cpu` or `cuda:0`; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.
        dtype: Number format of the language model's frozen weights; None = the one it was tuned in.

    Returns:
        The model: `score(users, items)` gives probabilities; weights load when they are first needed.

    Raises:
        UsageError: If an argument is of another kind.
        RunError: If the run is not finished, damaged, an ensemble, of another version, or has no language model whose
            number format could be chosen.
    """
    place = _opened_place(path, "the path of a run folder, e.g. the `folder` of one of `Result.runs`")
    device, threads = _device(device), _threads(threads)
    from collm.trained.opened import open_run as opened
    from collm.trained.opened import updates_left_out

    model = opened(place, cache_dir=cache_dir(), registry=_registry(), device=device, threads=threads, dtype=dtype)
    if said := updates_left_out(model):
        logger.warning("%s", said)
    return model


def runs_place(runs_dir: AnyPath) -> Path:
    """Returns the folder of a directory of runs: of an address (`s3://bucket/runs`) the one that mirrors it here.

    Args:
        runs_dir: A path, or an address as text.

    Raises:
        UsageError: If a path is neither text nor a `Path`, an address cannot be used, or a package is missing.
    """
    text = path_text("runs_dir", runs_dir, "the path of a directory, or an address such as s3://bucket/runs")
    if _ONE_SLASH.match(text):
        raise UsageError(f"{text}: an address has two slashes, e.g. s3://bucket/runs; from Python give it as text")
    if "://" not in text:
        return Path(text)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return mirror_of(text, cache_dir(), endpoint or None)


def _opened_place(path: AnyPath, allowed: str) -> Path:
    """Returns the folder of a run or of a directory of runs; of an address, what lies there decides which it is."""
    text = path_text("path", path, allowed).rstrip("/")
    above, _, name = text.rpartition("/")
    if "://" in text and not above.endswith("/"):
        folder = runs_place(above) / name
        if RunFolder.at(folder).is_done():
            return folder
    return runs_place(path)


def _device(device: str | None) -> str | None:
    """Returns a device by its name, also where torch's own object is given; what is none has no known name."""
    return None if device is None else str(device)


def _threads(threads: int | None) -> int | None:
    return None if threads is None else whole_number("threads", threads, at_least=1)


def cache_dir() -> Path:
    """Returns the folder for downloads and converted weights: `COLLM_CACHE`, else the platform's user cache.

    Raises:
        UsageError: If `COLLM_CACHE` begins with `~` and a user that does not exist.
    """
    if chosen := os.environ.get("COLLM_CACHE"):
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise UsageError(f"COLLM_CACHE: '{chosen}' cannot be expanded: {error}") from error
    return platformdirs.user_cache_path("collm", appauthor=False)


def _registry() -> Registry:
    """Returns the installed components; broken plugins are named in the log."""
    registry = default_registry()
    for status in registry.host.statuses:
        if not status.ok:
            logger.warning("%s is broken and left out: %s", status.label(), status.cause)
    return registry
