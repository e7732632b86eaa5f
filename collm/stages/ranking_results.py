"""Ranks the candidate lists of a run with its model and the floors, and measures them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import Metric
from collm.data.columns import as_series
from collm.data.prepared import PreparedData
from collm.errors import RunError
from collm.files import place_digest, write_atomically
from collm.metrics.evaluate import evaluate
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.metric_entries import entry_config
from collm.spec.ranking import RankingConfig
from collm.stages.evaluate import METRICS, RESAMPLING_SEED, build_metrics
from collm.stages.fit_encoder import default_config, fit_encoder
from collm.stages.prepare_data import PreparedStage
from collm.stages.ranked_lists import sliced_lists
from collm.stages.ranking import CandidateRanker, FittedEncoder, Reranker, read_ranks
from collm.stages.ranking_tasks import RankingTask, ranking_tasks
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

FEWEST_KEPT = 10  # best items that are kept per list at least
FEW_USERS = 100  # at most so many: simulated in experiments/benchmarks/coverage.py
OWN = ""  # the run's own method, beside the floors


@dataclass
class Rankings:
    """What `evaluate.ranking` adds to a run.

    Attributes:
        metrics: Split -> candidates -> slice -> metric -> record.
        floors: Split -> candidates -> slice -> floor -> metric -> record.
        facts: Split -> candidates -> facts of the run's own lists.
        notes: Sentences that belong to every table of rankings.
        frames: Tables of ranked lists, as `ranking.parquet` holds them.
        stages: Name -> stage of the run's own rankings.
    """

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    floors: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    frames: list[pl.DataFrame] = field(default_factory=list)
    stages: dict[str, StageResult] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """Returns the content of `ranking.parquet`."""
        return pl.concat(self.frames)

    def plain(self) -> dict[str, Any]:
        """Returns what `results.json` gets."""
        return {"ranking": self.metrics, "ranking_floors": self.floors, "ranking_facts": self.facts}


def plan_rankings(run: RunContext, data: PreparedData) -> list[RankingTask]:
    """Makes the lists that a run ranks, so that what is wrong with them is said before anything is fitted.

    Raises:
        DataError: If a split has no positive, or the file of candidates cannot be used.
    """
    config = run.spec.evaluate.ranking
    if config is None:
        return []
    metrics = build_metrics(config.metrics, run.registry).values()
    depth = max(FEWEST_KEPT, *(int(getattr(each, "depth", 0)) for each in metrics))
    digest = place_digest(config.file, ()) if config.file is not None else ""
    return ranking_tasks(config, data, depth=depth, file_digest=digest)


def rank_run(
    run: RunContext,
    prepared: PreparedStage,
    config: RankingConfig,
    tasks: Sequence[RankingTask],
    own: FittedEncoder | Reranker,
) -> Rankings:
    """Ranks and measures every list of a run.

    An encoder ranks the whole catalogue too where other candidates are asked for: that costs seconds. A language model
    ranks what is asked for alone.

    Args:
        run: Supplies stages, slices, resamples.
        prepared: Prepared data.
        config: What is ranked.
        tasks: What `plan_rankings` made.
        own: The run's model.
    """
    data, floors = prepared.data, _floors(run, prepared)
    metrics = build_metrics(config.metrics, run.registry)
    found, ranker = Rankings(), CandidateRanker(run, data)
    for task in tasks:
        models: dict[str, FittedEncoder | Reranker] = {OWN: own, **floors}
        if isinstance(own, Reranker) and task.protocol != config.protocol:
            del models[OWN]
        for name, model in models.items():
            stage = ranker.rank(task, model)
            frame = read_ranks(stage)
            table = _with_ids(data, task, name, frame)
            records = _measured(run, config, metrics, stage, table)
            found.frames.append(table)
            _add(found, task, name, stage, records, frame)
        said = (*task.notes, *_task_notes(task, data, config, metrics))
        found.notes += [note for note in said if note not in found.notes]
    found.notes += list(_reranker_notes(found))
    return found


def _floors(run: RunContext, prepared: PreparedStage) -> dict[str, FittedEncoder]:
    """Fits the floors of rankings."""
    found = {}
    for component in run.registry.ranking_floors():
        config = default_config(component)
        stage = fit_encoder(run, config, prepared.data, upstream=prepared.stage.fingerprint)
        found[component.name] = FittedEncoder(config, stage, prepared.data)
    return found


def _add(
    found: Rankings, task: RankingTask, name: str, stage: StageResult, records: Mapping[str, Any], frame: pl.DataFrame
) -> None:
    if name != OWN:
        by_slice = found.floors.setdefault(task.split, {}).setdefault(task.protocol, {})
        for slice_name, values in records.items():
            by_slice.setdefault(slice_name, {})[name] = values
        return
    found.metrics.setdefault(task.split, {})[task.protocol] = dict(records)
    found.stages[f"{stage.name}.{task.split}.{task.protocol.replace(' ', '-')}"] = stage
    lists = frame.group_by("user").agg(pl.col("candidates").first())
    found.facts.setdefault(task.split, {})[task.protocol] = {
        "users": lists.height,
        "positives": int(frame["label"].sum()),
        "candidates": float(lists["candidates"].to_numpy().mean()),
        "depth": task.depth,
        **stage.facts,
    }


def _with_ids(data: PreparedData, task: RankingTask, method: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Returns ranked lists with raw ids and training counts, as `ranking.parquet` holds them."""
    user, item = frame["user"].to_numpy(), frame["item"].to_numpy()
    moments = task.questions.moment[np.searchsorted(task.questions.user, user)]
    return pl.DataFrame(
        {
            "split": [task.split] * len(user),
            "protocol": [task.protocol] * len(user),
            "method": [method] * len(user),
            "user": as_series(data.user_ids).gather(user),
            "item": as_series(data.item_ids).gather(item),
            **{name: frame[name] for name in ("label", "rank", "score", "candidates")},
            "user_train_rows": data.user_train_rows[user],
            "item_train_rows": data.item_train_rows[item],
            "timestamp": pl.Series(moments if data.has_times else [None] * len(user), dtype=pl.Int64),
        }
    )


def _measured(
    run: RunContext, config: RankingConfig, metrics: Mapping[str, Metric], stage: StageResult, table: pl.DataFrame
) -> dict[str, Any]:
    """Returns slice -> metric -> record, computed once per stage and settings."""
    spec = run.spec

    def compute(folder: Path) -> dict[str, Any]:
        content = {
            name: evaluate(metrics, rows, n_resamples=spec.evaluate.resamples, seed=RESAMPLING_SEED)
            for name, rows in sliced_lists(table, spec.evaluate.slices, warm=spec.slices.warm, cold=spec.slices.cold)
        }
        write_atomically(folder / METRICS, json.dumps(content, allow_nan=False) + "\n")
        return {}

    configs = [entry_config(entry, run.registry) for entry in config.metrics]
    payload = {
        "ranks": stage.fingerprint,
        "slices": spec.slices.model_dump(mode="json"),
        "of": [*spec.evaluate.slices],
        "metrics": [config_payload(each) for each in configs],
        "files": [config_contents(each, "metric") for each in configs],
        "resamples": spec.evaluate.resamples,
        "plugins": [run.code("metric", each) for each in configs],
        "version": version_of("metrics"),
    }
    measuring = run.stages.run("metrics", payload, compute, label="rankings")
    path = measuring.folder / METRICS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove this stage's folder and run again") from error


def _task_notes(
    task: RankingTask, data: PreparedData, config: RankingConfig, metrics: Collection[str]
) -> Iterator[str]:
    questions = task.questions
    n_users, n_positives = len(questions), len(questions.positives.items)
    if task.candidates is None:
        seen = "; what the user has met before is left out" if len(questions.left_out.items) else ""
        what = f"the whole catalogue of {data.n_items:,} items{seen}"
    else:
        what = f"{len(task.candidates.items) / n_users:,.0f} on average ({task.protocol})"
    last = " (the last of each)" if config.positives == "last" else ""
    yield (
        f"Ranking, {task.split}: {n_positives:,} positives of {n_users:,} users{last} among {what}. Each user is asked "
        "once, at the time of the first of them; equal scores are ordered at random."
    )
    if n_users <= FEW_USERS and "mrr" in metrics:
        yield (
            f"Ranking, {task.split}: few users ({n_users}); the 95% interval of MRR covers the true value in 81% to "
            "89% of cases at 30 users, in 90% to 95% at 100 (docs/ranking.md)."
        )
    if task.candidates is not None and task.protocol != "file":
        yield (
            f"Metrics over {task.protocol} candidates are biased: they can order methods differently from the whole "
            "catalogue (Krichene & Rendle 2020); compare methods on the whole catalogue where possible."
        )


def _reranker_notes(found: Rankings) -> Iterator[str]:
    for split, by_protocol in found.facts.items():
        for protocol, facts in by_protocol.items():
            if facts.get("shortlist") in (None, "", "nothing"):
                continue
            yield (
                f"Ranking, {split}, candidates {protocol}: the language model ranked the best {facts['size']:,} of "
                f"{facts['candidates']:,.0f} candidates per user, by {facts['shortlist']}; they hold "
                f"{facts['shortlist_recall']:.3f} of a user's positives, the most that it can put first. The others "
                f"follow in the order of {facts['shortlist']}."
            )
