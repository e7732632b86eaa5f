"""`collm score --launcher`: a large file of pairs, scored in shards by several workers."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from collm.cli.context import cache_dir, say
from collm.cli.launching import LocalShare, cluster_share, local_share, parse_launcher
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.contracts.backbone import Dtype
    from collm.registry import Registry
    from collm.trained.shards import ScoredShard, Scoring

_SHOWN_NOTES = 5


@dataclass(frozen=True)
class ShardOptions:
    """Options of `collm score` that belong to shards.

    Attributes:
        launcher: `local`, `ray` or `ray:ADDRESS`; None = one process writes CSV.
        workers: Processes or actors.
        cpus: Cores of a worker.
        gpus: GPUs of a worker; parts of one are allowed.
        shard_rows: Rows of a shard.
        device: Device name.
        dtype: Number format of the language model.
    """

    launcher: str | None
    workers: int | None
    cpus: int | None
    gpus: float | None
    shard_rows: int | None
    device: str | None
    dtype: Dtype | None

    def check(self, output: Path | None) -> bool:
        """Returns whether shards are asked for.

        Raises:
            UsageError: If an option does not fit.
        """
        advice = "; a job of SLURM takes --launcher local"
        kind, _ = parse_launcher(self.launcher, "local", "ray", "ray:ADDRESS", advice=advice)
        if self.launcher is None:
            given: dict[str, float | None] = {"--workers": self.workers, "--shard-rows": self.shard_rows}
            given |= {"--cpus-per-worker": self.cpus, "--gpus-per-worker": self.gpus}
            for option, value in given.items():
                if value is not None:
                    raise UsageError(f"{option}: belongs to --launcher local or ray")
            return False
        if kind == "local" and self.gpus is not None:
            raise UsageError("--gpus-per-worker: belongs to --launcher ray; here CUDA devices are dealt out")
        if output is None:
            raise UsageError("--launcher: writes a folder of shards; name it with -o DIR")
        return True


def score_in_shards(run: Path, pairs: Path, folder: Path, options: ShardOptions, registry: Registry) -> None:
    """Scores a file in shards, or what is missing of them.

    Args:
        run: The run folder.
        pairs: A parquet file.
        folder: Where shards are written.
        options: How; they name a launcher.
        registry: Where components come from.
    """
    from collm.locks import Lock
    from collm.runs.files import LOCK
    from collm.trained.opened import open_run
    from collm.trained.pairs_file import age_notes
    from collm.trained.shards import ENCODER_ROWS, LANGUAGE_ROWS, Scoring, begin_scoring, count_rows, has_times

    n_rows = count_rows(pairs)
    model = open_run(run, cache_dir=cache_dir(), registry=registry, device="cpu", dtype=options.dtype)
    here = local_share(options.workers, options.device, options.cpus) if options.launcher == "local" else None
    scoring = Scoring(
        run.absolute(),
        pairs.absolute(),
        folder.absolute(),
        n_rows,
        options.shard_rows or (ENCODER_ROWS if model.language is None else LANGUAGE_ROWS),
        cache_dir(),
        options.dtype,
        here.threads if here else options.cpus or 1,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / LOCK):
        begin_scoring(scoring, model)
        if scoring.is_done():
            say(f"{folder}: everything was scored before")
            return
        for note in age_notes(model, timed=has_times(pairs)):
            say(note)
        del model
        n_before = scoring.n_shards - len(scoring.missing())
        say(f"{n_rows:,} rows in {scoring.n_shards} shards; finished before: {n_before}")
        if n_before < scoring.n_shards:
            _follow(scoring, _scored(scoring, options, here), n_before)
        scoring.finish()
    say(f"wrote {folder}: {n_rows:,} rows in {scoring.n_shards} parquet files")


def _scored(scoring: Scoring, options: ShardOptions, here: LocalShare | None) -> Generator[ScoredShard, None, None]:
    from collm.launch.scoring import score_here, score_on_ray

    if here is not None:
        return score_here(scoring, here.devices)
    resources = cluster_share(options.cpus, options.gpus, options.device, None)
    address = (options.launcher or "").partition(":")[2] or None
    return score_on_ray(scoring, address, resources, options.workers)


def _follow(scoring: Scoring, shards: Generator[ScoredShard, None, None], n_before: int) -> None:
    """Shows each shard, and every note once."""
    said: set[str] = set()
    n_users = n_items = n_shown = 0
    with contextlib.closing(shards):
        for n_done, each in enumerate(shards, start=n_before + 1):
            n_users, n_items = n_users + each.unknown_users, n_items + each.unknown_items
            say(f"shard {each.shard}: {each.rows:,} rows in {each.seconds:.1f} s ({n_done} of {scoring.n_shards})")
            for note in (note for note in each.notes if note not in said):
                said.add(note)
                n_shown += 1
                if n_shown <= _SHOWN_NOTES:
                    say(note)
    if n_shown > _SHOWN_NOTES:
        say(f"and {n_shown - _SHOWN_NOTES} more sentences about titles that are not used")
    here = "" if not n_before else "; of shards that were finished before they are not counted"
    say(f"{n_users:,} rows of unknown users, {n_items:,} of unknown items{here}")
