"""Workers that score the shards of a large file: processes of this machine, or actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from collm.errors import CollmError, RunError, UsageError
from collm.launch.launcher import Resources
from collm.launch.on_ray import RETRIES, connect, first_line
from collm.process_group import end_with_parent
from collm.trained.shards import ScoredShard, Scoring, ShardScorer


def score_here(scoring: Scoring, devices: Sequence[str]) -> Generator[ScoredShard, None, None]:
    """Scores the missing shards in processes of this machine.

    Args:
        scoring: What is scored.
        devices: One worker for each; a device may be named several times.

    Yields:
        Each shard when it is done.

    Raises:
        RunError: If a worker was killed.
    """
    context, missing = multiprocessing.get_context("spawn"), scoring.missing()
    queue = context.Queue()
    n_workers = min(len(devices), len(missing))
    for device in devices[:n_workers]:
        queue.put(device)
    pool = ProcessPoolExecutor(n_workers, context, initializer=_begin, initargs=(scoring, queue, os.getpid()))
    try:
        for future in as_completed([pool.submit(_score, shard) for shard in missing]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a worker was killed, perhaps because memory ran out: use fewer --workers or smaller --shard-rows. "
            "Finished shards are kept; the same command goes on"
        ) from error
    finally:
        # Nothing is left to do, or what is left shall not be done: a shard that is at work appears whole or not at all.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


@dataclass
class _Worker:
    """The state of a worker process: what it scores, and the model once it is loaded."""

    scoring: Scoring | None = None
    device: str | None = None
    scorer: ShardScorer | None = None


_worker = _Worker()


def _begin(scoring: Scoring, devices: Any, parent: int) -> None:
    end_with_parent(parent)
    # Ctrl-C reaches every process of a terminal; the command decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.scoring, _worker.device = scoring, devices.get()


def _score(shard: int) -> ScoredShard:
    assert _worker.scoring is not None
    if _worker.scorer is None:
        _worker.scorer = ShardScorer(_worker.scoring, _worker.device)
    return _worker.scorer.score(shard)


def score_on_ray(
    scoring: Scoring, address: str | None, resources: Resources, n_workers: int | None
) -> Generator[ScoredShard, None, None]:
    """Scores the missing shards with actors of a Ray cluster, each of which loads the model once.

    Actors read their rows of the file themselves, so that no rows are moved through the cluster.

    Args:
        scoring: What is scored; its paths lie on a file system that all nodes share.
        address: Address of the cluster, as `connect` takes it.
        resources: What each actor gets.
        n_workers: Number of actors; None = as many as have room.

    Yields:
        Each shard when it is done.

    Raises:
        UsageError: If the cluster cannot be joined, or has no room for the actors.
        RunError: If an actor cannot go on.
    """
    ray = connect(address)
    try:
        missing = scoring.missing()
        n_actors = min(len(missing), _n_actors(ray, resources, n_workers))
        asked = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        actor = ray.remote(ShardScorer).options(**asked, max_restarts=RETRIES, max_task_retries=RETRIES)
        pool = ray.util.ActorPool([actor.remote(scoring, resources.device) for _ in range(n_actors)])
        yield from pool.map_unordered(lambda actor, shard: actor.score.remote(shard), missing)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CollmError):
            raise cause from error
        raise RunError(f"a Ray actor failed: {first_line(error)}; the same command goes on") from error
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()


def _n_actors(ray: Any, resources: Resources, wanted: int | None) -> int:
    """Returns how many actors to start; more than have room would wait for ever."""
    room = 0
    for node in (node["Resources"] for node in ray.nodes() if node["Alive"]):
        cores = int(node.get("CPU", 0.0) // resources.cpus)
        room += min(cores, int(node.get("GPU", 0.0) / resources.gpus + 1e-9)) if resources.gpus else cores
    if room == 0 or (wanted or 0) > room:
        raise UsageError(
            f"--launcher ray: the cluster has room for {room} workers ({resources.describe()}), asked for are "
            f"{wanted or 'as many as have room'}; give fewer --workers, --cpus-per-worker or --gpus-per-worker"
        )
    return wanted or room
