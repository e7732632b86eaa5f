"""Runs one resolved spec: orders its stages, skips what is finished, records what happened."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from collm.component import BuildContext
from collm.data.prepared import PreparedData
from collm.engine.device import choose_device, prepare_machine, start_accelerator
from collm.finished import input_hashes, outcome, stored_outcome, used_plugins
from collm.metrics.score_notes import score_notes
from collm.plugins import Observers
from collm.registry import Registry
from collm.runs.environment import RunOptions, describe_environment
from collm.runs.records import RunOutcome, RunResults
from collm.runs.store import RunFolder, write_json
from collm.spec.contents import run_hash
from collm.spec.model import ResolvedSpec
from collm.stages.evaluate import Evaluated, floor_metrics, protocol
from collm.stages.fit_encoder import default_config, encoder_notes, inner_payload
from collm.stages.prepare_data import PreparedStage, prepare_data
from collm.stages.prequential import plan_windows, prequential_notes, window_records, with_windows
from collm.stages.ranking_results import plan_rankings, rank_run
from collm.stages.run_model import Ledger, OwnModel, own_model, score_encoder
from collm.stages.score_tables import floor_notes, floors_frame, scores_frame
from collm.stages.stage import RunContext, StageResult, StageRunner

logger = logging.getLogger(__name__)
RESULTS_SCHEMA = 1


@dataclass(frozen=True)
class Making:
    """How a run's own model is made where its spec alone does not say it, and where the run lies.

    Attributes:
        folder: The run folder.
        model: Makes and scores the model, in place of fitting and tuning what the spec names.
        environment: Plain data that `environment.json` holds beside the usual.
    """

    folder: Path
    model: Callable[[RunContext, PreparedStage, Ledger], OwnModel]
    environment: Mapping[str, Any]


def run_spec(
    spec: ResolvedSpec,
    registry: Registry,
    options: RunOptions,
    *,
    run: str | None = None,
    wait: bool = True,
    making: Making | None = None,
) -> RunOutcome:
    """Runs a spec, or returns the stored results of a finished run.

    Args:
        spec: The resolved spec.
        registry: Where components come from.
        options: Directories, device, threads, processes.
        run: Key of the run within its suite; default: the spec's name.
        wait: Whether to wait for another process that works on the same run.
        making: How its model is made and where it lies; None = as the spec says, under the hash of what decides it.

    Returns:
        The finished run.

    Raises:
        InUse: If another process works on it and `wait` is off.
        CollmError: Of the kind that stopped the run; what is finished stays and is reused by the same command.
    """
    key, context = run or spec.name, BuildContext(cache_dir=options.cache_dir, find=registry.get)
    processes = options.processes
    if making is None:
        digest = processes.run_on_main(functools.partial(run_hash, spec, registry, context))
        folder = RunFolder(options.runs_dir, spec.name, digest)
    else:
        folder = RunFolder.at(making.folder)

    def work() -> RunOutcome:
        with contextlib.ExitStack() as held:

            def claim() -> dict[str, Any] | None:
                """Locks the folder, and returns the outcome where the run is finished."""
                # Where it is, nothing is written: neither a lock nor, in a store that may be read alone, anything else.
                found = stored_outcome(spec, registry, folder=folder, context=context, run=key, says_changes=False)
                if found is not None:
                    return found.plain()
                held.enter_context(folder.lock(wait=wait, on_wait=logger.warning))
                found = stored_outcome(spec, registry, folder=folder, context=context, run=key)
                return None if found is None else found.plain()

            if (before := processes.run_on_main(claim)) is not None:
                logger.info("%s: finished before, nothing to do (%s)", key, before["run_dir"])
                return RunOutcome.of(before)
            _Run(spec, registry, options, folder, key, making).execute()
        return RunOutcome.of(processes.run_on_main(lambda: outcome(folder, key, reused=False).plain()))

    return processes.run_on_all(work)


@dataclass(frozen=True)
class _Made:
    """What a run leaves: content of `results.json` and of its parquet files by name."""

    results: RunResults
    tables: Mapping[str, pl.DataFrame]


class _Run:
    def __init__(
        self,
        spec: ResolvedSpec,
        registry: Registry,
        options: RunOptions,
        folder: RunFolder,
        run: str,
        making: Making | None,
    ) -> None:
        self.folder, self.key, self.processes = folder, run, options.processes
        self.model = None if making is None else making.model
        self.more_environment = {} if making is None else dict(making.environment)
        self.ledger = Ledger()
        self.provenance = options.provenance
        self.hooks = Observers(registry.host)
        prepare_machine(options.threads)
        self.context = RunContext(
            spec=spec,
            registry=registry,
            build=BuildContext(cache_dir=options.cache_dir, find=registry.get),
            stages=StageRunner(
                options.runs_dir,
                finished=self._stage_finished,
                processes=self.processes,
                provenance=options.provenance,
            ),
            accelerator=start_accelerator(choose_device(options.device)),
            observer=self._observer,
        )

    def execute(self) -> None:
        """Executes the run. Only the main process writes the run folder."""
        if not self.processes.is_main:
            self._work()
            return
        spec, folder = self.context.spec, self.folder
        environment = describe_environment() | {
            "processes": self.processes.size,
            "sharded_weights": self.processes.shards,
            **self.provenance.plain(),
            "plugins": used_plugins(spec, self.context.registry),
            **self.more_environment,
        }
        if folder.is_done() and folder.damage():
            folder.clear()
        # A finished run whose code or files changed stays as it is until this attempt has its results.
        if not folder.is_done():
            folder.write_spec(spec.plain())
            folder.write_environment(environment)
        folder.append_event("run_started", name=spec.name, spec_hash=spec.spec_hash)
        self.hooks.notify("run_started", run_dir=folder.path, spec=spec.plain())
        try:
            made = self._work()
        except BaseException as error:
            folder.append_event("run_failed", error=f"{type(error).__name__}: {error}")
            raise
        environment |= {"contents": self.ledger.contents, "reused_stages": self.ledger.reused}
        folder.replace(
            spec.plain(),
            made.results,
            {
                "environment.json": functools.partial(write_json, environment),
                **{name: table.write_parquet for name, table in made.tables.items()},
            },
        )
        folder.append_event("run_finished")
        folder.write_done()
        self.hooks.notify("run_finished", run_dir=folder.path, results=made.results.plain())

    def _work(self) -> _Made:
        run, ledger, config = self.context, self.ledger, self.context.spec.evaluate.ranking
        prepared = prepare_data(run.spec, registry=run.registry, runner=run.stages, context=run.build)
        data = prepared.data
        ledger.add(prepared.stage)
        ledger.notes.extend(data.notes)
        tasks, windows = plan_rankings(run, data), plan_windows(run, data)
        floors: dict[str, Evaluated] = {}
        for component in run.registry.floors():
            stage, floors[component.name] = score_encoder(run, default_config(component), prepared)
            said = encoder_notes(stage.facts, scores=True)
            ledger.notes.extend(f"Floor {component.name}: {each}" for each in said)
        own = own_model(run, prepared, ledger, windows) if self.model is None else self.model(run, prepared, ledger)
        scores = scores_frame(run.spec, data, own.evaluated.logits)
        ledger.notes.extend([*score_notes(scores), *floor_notes(floors)])
        tables = {"scores.parquet": scores, "floors.parquet": floors_frame(data, floors)}
        measured: dict[str, Any] = {"metrics": own.evaluated.metrics, "floors": floor_metrics(run.spec, floors)}
        if own.windows is not None:
            tables["scores.parquet"] = with_windows(scores, own.windows)
            measured["windows"] = window_records(run, data, own.windows)
            ledger.notes.extend(prequential_notes(run, own.windows))
        if config is not None:
            rankings = rank_run(run, prepared, config, tasks, own.ranker)
            for name, stage in rankings.stages.items():
                ledger.add(stage, name)
            ledger.notes.extend(rankings.notes)
            tables["ranking.parquet"] = rankings.frame()
            measured |= rankings.plain()
        return _Made(self._results(data, measured), tables)

    def _results(self, data: PreparedData, measured: Mapping[str, Any]) -> RunResults:
        spec, registry, ledger = self.context.spec, self.context.registry, self.ledger
        inputs = input_hashes(spec, registry, self.context.build)
        ledger.contents |= {name: digest for name, digest in inputs.items() if name != "code"}
        for name, config in spec.all_encoders.items():
            owner = f"encoder {name}" if name else "encoder"
            held = inner_payload(config, registry, self.context.build)
            ledger.contents |= {f"{owner}, {e['kind']} {e['name']}": e["content"] for e in held if "content" in e}
        content = {
            "schema": RESULTS_SCHEMA,
            "name": spec.name,
            "run": self.key,
            "spec_hash": spec.spec_hash,
            "seed": spec.seed,
            "profile": spec.profile,
            "timing": ledger.timing,
            "stages": ledger.stages,
            "inputs": inputs,
            "counts": data.counts(),
            "full_counts": data.full_counts(),
            "protocol": protocol(spec, data, registry),
            "floor_needs": {floor.name: sorted(floor.needs) for floor in registry.floors()},
            "facts": ledger.facts,
            "notes": ledger.notes,
            **measured,
        }
        return RunResults.check(content, place=str(self.folder.path / "results.json"))

    def _stage_finished(self, stage: StageResult) -> None:
        if not self.processes.is_main:
            return
        values = {"stage": stage.name, "seconds": stage.seconds, "reused": stage.reused}
        self.folder.append_event("stage_finished", fingerprint=stage.fingerprint, **values)
        self.hooks.notify("stage_finished", run_dir=self.folder.path, **values)

    def _observer(self, step: int, values: Mapping[str, float]) -> None:
        logged = {"stage": self.context.stages.current, "step": step, "values": dict(values)}
        self.folder.append_event("step_logged", **logged)
        self.hooks.notify("step_logged", run_dir=self.folder.path, **logged)
