"""Runs one resolved spec: orders its stages, skips what is finished, records what happened."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from collm.component import BuildContext
from collm.contracts.encoder import EncoderConfig, of_encoder
from collm.data.prepared import PreparedData
from collm.engine.device import choose_device, prepare_machine, start_accelerator
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.errors import RunError
from collm.finished import input_hashes, outcome, stored_outcome, used_plugins
from collm.metrics.score_notes import score_notes
from collm.plugins import Observers
from collm.process_group import SINGLE, ProcessGroup
from collm.registry import Registry
from collm.runs.environment import UNRECORDED, Provenance, describe_environment
from collm.runs.records import RunOutcome, RunResults
from collm.runs.store import RunFolder, write_json
from collm.spec.contents import run_hash
from collm.spec.model import ResolvedSpec
from collm.stages.evaluate import (
    Evaluated,
    Scorer,
    evaluate_model,
    floor_metrics,
    floor_notes,
    floors_frame,
    protocol,
    scores_frame,
)
from collm.stages.fit_encoder import default_config, encoder_notes, fit_encoder, inner_payload, load_encoder
from collm.stages.held_out import fit_encoders
from collm.stages.language_model import LanguageModelRun
from collm.stages.prepare_data import PreparedStage, prepare_data
from collm.stages.ranking import FittedEncoder, RankingTask, Reranker
from collm.stages.ranking_results import Rankings, plan_rankings, rank_run
from collm.stages.stage import RunContext, StageResult, StageRunner
from collm.stages.tune import tune

logger = logging.getLogger(__name__)
RESULTS_SCHEMA = 1


@dataclass(frozen=True)
class RunOptions:
    """What a run may know of the machine and of where to write.

    Attributes:
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache for downloads and converted weights.
        device: Device name; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.
        processes: The processes that work on the run together; each calls `run_spec` with the same arguments.
        provenance: How the command was started, for `environment.json`.
    """

    runs_dir: Path
    cache_dir: Path
    device: str | None = None
    threads: int | None = None
    processes: ProcessGroup = SINGLE
    provenance: Provenance = UNRECORDED


def run_spec(
    spec: ResolvedSpec, registry: Registry, options: RunOptions, *, run: str | None = None, wait: bool = True
) -> RunOutcome:
    """Runs a spec, or returns the stored results of a finished run.

    Args:
        spec: The resolved spec.
        registry: Where components come from.
        options: Directories, device, threads, processes.
        run: Key of the run within its suite; default: the spec's name.
        wait: Whether to wait for another process of this host that works on the same run.

    Returns:
        The finished run.

    Raises:
        InUse: If another process of this host works on it and `wait` is off.
        CollmError: Of the kind that stopped the run; what is finished stays and is reused by the same command.
    """
    key, context = run or spec.name, BuildContext(cache_dir=options.cache_dir, find=registry.get)
    processes = options.processes
    folder = RunFolder(
        options.runs_dir, spec.name, processes.run_on_main(functools.partial(run_hash, spec, registry, context))
    )

    def work() -> RunOutcome:
        with contextlib.ExitStack() as held:

            def claim() -> dict[str, Any] | None:
                """Locks the folder, and returns the outcome where the run is finished."""
                held.enter_context(folder.lock(wait=wait, on_wait=logger.warning))
                found = stored_outcome(spec, registry, folder=folder, context=context, run=key)
                return None if found is None else found.plain()

            if (before := processes.run_on_main(claim)) is not None:
                logger.info("%s: finished before, nothing to do (%s)", key, before["run_dir"])
                return RunOutcome.of(before)
            _Run(spec, registry, options, folder, key).execute()
        return RunOutcome.of(processes.run_on_main(lambda: outcome(folder, key, reused=False).plain()))

    return processes.run_on_all(work)


@dataclass(frozen=True)
class _Made:
    """What a run leaves: content of `results.json` and of its parquet files by name."""

    results: RunResults
    tables: Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class _Own:
    """The run's own model: its scores, and how it ranks candidate lists."""

    evaluated: Evaluated
    ranker: FittedEncoder | Reranker


class _Run:
    def __init__(
        self, spec: ResolvedSpec, registry: Registry, options: RunOptions, folder: RunFolder, run: str
    ) -> None:
        self.folder, self.key, self.processes = folder, run, options.processes
        self.timing: dict[str, dict[str, Any]] = {}
        self.stages: dict[str, str] = {}
        self.contents: dict[str, str] = {}
        self.reused: dict[str, Mapping[str, Any] | None] = {}
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
        environment |= {"contents": self.contents, "reused_stages": self.reused}
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
        run = self.context
        spec = run.spec
        prepared = prepare_data(spec, registry=run.registry, runner=run.stages, context=run.build)
        self._record(prepared.stage)
        tasks = plan_rankings(run, prepared.data)
        fitted_floors = {
            component.name: self._encoder_scores(default_config(component), prepared)
            for component in run.registry.floors()
        }
        floors = {name: scored for name, (_, scored) in fitted_floors.items()}
        facts: dict[str, Any] = {}
        notes = list(prepared.data.notes)
        for name, (stage, _) in fitted_floors.items():
            notes.extend(f"Floor {name}: {said}" for said in encoder_notes(stage.facts, scores=True))
        if spec.backbone is not None:
            own = self._language_model(prepared, facts, notes)
        elif spec.encoder is not None:
            fitted, evaluated = self._encoder_scores(spec.encoder, prepared)
            self._record(fitted)
            facts["encoder"] = fitted.stated()
            notes.extend(encoder_notes(fitted.facts, scores=True))
            own = _Own(evaluated, FittedEncoder(spec.encoder, fitted, prepared.data))
        else:
            raise RunError(f"{spec.name}: a spec needs an `encoder`, a `backbone`, or both")
        scoring = own.evaluated.scoring
        self.timing["evaluate"] = own.evaluated.timing()
        if scoring.reused:
            self.reused["evaluate"] = scoring.made
        scores = scores_frame(spec, prepared.data, own.evaluated.logits)
        notes.extend([*score_notes(scores), *floor_notes(floors)])
        tables = {"scores.parquet": scores, "floors.parquet": floors_frame(prepared.data, floors)}
        rankings = self._rankings(prepared, tasks, own, notes)
        if rankings is not None:
            tables["ranking.parquet"] = rankings.frame()
        results = self._results(prepared.data, own.evaluated, floors, facts, notes, rankings)
        return _Made(results, tables)

    def _rankings(
        self, prepared: PreparedStage, tasks: Sequence[RankingTask], own: _Own, notes: list[str]
    ) -> Rankings | None:
        """Ranks the candidate lists of `evaluate.ranking`; None where the spec asks for none."""
        run, config = self.context, self.context.spec.evaluate.ranking
        if config is None:
            return None
        rankings = rank_run(run, prepared, config, tasks, own.ranker)
        for name, stage in rankings.stages.items():
            self._record(stage, name)
        notes.extend(rankings.notes)
        return rankings

    def _language_model(self, prepared: PreparedStage, facts: dict[str, Any], notes: list[str]) -> _Own:
        run = self.context
        fitted = fit_encoders(run, prepared)
        for name, stage in fitted.items():
            self._record(stage, of_encoder(stage.name, name))
            facts[of_encoder("encoder", name)] = stage.stated()
            of = f"Encoder {name}: " if name else ""
            notes.extend(f"{of}{said}" for said in encoder_notes(stage.facts))
        model = LanguageModelRun(run, prepared, fitted=fitted)
        for number, stage in enumerate(tune(model), start=1):
            self._record(stage)
            facts[stage.name] = {"number": number, **stage.stated()}
            notes.extend(each for each in encoder_notes(stage.facts) if each not in notes)
        scorer, payload = functools.cache(model.scorer), model.fingerprint_payload()
        evaluated = evaluate_model(run, prepared.data, scorer, model=payload, shared=True)
        facts["backbone"] = model.describe(evaluated.scoring.facts)
        self.contents["backbone"] = model.setup.backbone.content_hash()
        notes.extend(model.notes(evaluated.scoring.facts))
        return _Own(evaluated, Reranker.of(run, prepared.data, fitted, scorer=scorer, payload=payload))

    def _encoder_scores(self, config: EncoderConfig, prepared: PreparedStage) -> tuple[StageResult, Evaluated]:
        """Fits and scores an encoder or floor on the whole training split."""
        run, data = self.context, prepared.data
        fitted = fit_encoder(run, config, data, upstream=prepared.stage.fingerprint)

        def scorer() -> Scorer:
            encoder = load_encoder(run, fitted, config, data)
            encoder.to(run.accelerator.device)
            batcher = EncoderBatcher.of(encoder, data, run.accelerator.device)
            return lambda rows: encoder_logits(encoder, batcher, rows)

        evaluated = evaluate_model(run, data, scorer, model={"encoder": fitted.fingerprint}, label=config.name)
        return fitted, evaluated

    def _results(
        self,
        data: PreparedData,
        evaluated: Evaluated,
        floors: Mapping[str, Evaluated],
        facts: Mapping[str, Any],
        notes: list[str],
        rankings: Rankings | None,
    ) -> RunResults:
        spec, registry = self.context.spec, self.context.registry
        inputs = input_hashes(spec, registry, self.context.build)
        self.contents |= {name: digest for name, digest in inputs.items() if name != "code"}
        for name, config in spec.all_encoders.items():
            owner = f"encoder {name}" if name else "encoder"
            held = inner_payload(config, registry, self.context.build)
            self.contents |= {f"{owner}, {e['kind']} {e['name']}": e["content"] for e in held if "content" in e}
        content = {
            "schema": RESULTS_SCHEMA,
            "name": spec.name,
            "run": self.key,
            "spec_hash": spec.spec_hash,
            "seed": spec.seed,
            "profile": spec.profile,
            "metrics": evaluated.metrics,
            "floors": floor_metrics(spec, floors),
            "timing": self.timing,
            "stages": self.stages,
            "inputs": inputs,
            "counts": data.counts(),
            "full_counts": data.full_counts(),
            "protocol": protocol(spec, data, registry),
            "floor_needs": {floor.name: sorted(floor.needs) for floor in registry.floors()},
            "facts": facts,
            "notes": notes,
            **({} if rankings is None else rankings.plain()),
        }
        return RunResults.check(content, place=str(self.folder.path / "results.json"))

    def _record(self, stage: StageResult, key: str = "") -> None:
        name = key or stage.name
        self.stages[name] = stage.fingerprint
        if stage.reused:
            self.reused[name] = stage.made
        self.timing[name] = stage.timing()

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
