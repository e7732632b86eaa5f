"""A large file of pairs, scored shard by shard: by any number of workers, in any order, every row once.

A shard is a range of rows, and its scores are one parquet file, which appears whole. A command that was killed is
continued by the same one: shards that are there are not scored again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from collm.contracts.backbone import Dtype
from collm.errors import DataError, UsageError
from collm.files import file_digest, remove_leftovers, replacing, write_atomically
from collm.ingest.ids import one_spelling
from collm.ingest.typed_rows import parquet_schema
from collm.runs.files import DONE, LOCK, damage, finish_folder
from collm.trained.model import TrainedModel
from collm.trained.opened import open_run
from collm.trained.pairs_file import REQUIRED, read_pairs, scored_frame, title_notes

REQUEST, TITLES = "scoring.json", "titles.parquet"
# Of runs with a language model, which score some hundred rows a second or fewer, and of encoders.
LANGUAGE_ROWS, ENCODER_ROWS = 5_000, 500_000
_FRACTION = r"^[+-]?\d+\.\d*[1-9]\d*$"


@dataclass(frozen=True)
class Scoring:
    """What is scored by what, into which folder; plain enough to be sent to a worker.

    Attributes:
        run: The run folder.
        pairs: The parquet file.
        folder: Where shards are written.
        n_rows: Rows of the file.
        shard_rows: Rows of a shard; the last one may have fewer.
        cache_dir: User cache, where backbone weights lie.
        dtype: Number format of the language model; None = the run's.
        threads: Processor threads of a worker.
    """

    run: Path
    pairs: Path
    folder: Path
    n_rows: int
    shard_rows: int
    cache_dir: Path
    dtype: Dtype | None = None
    threads: int | None = None

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return -(-self.n_rows // self.shard_rows)

    def rows(self, shard: int) -> range:
        """Returns the rows of a shard, from 0."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.n_rows))

    def path(self, shard: int) -> Path:
        """Returns the file of a shard."""
        return self.folder / f"part-{shard:06d}.parquet"

    def missing(self) -> list[int]:
        """Returns the shards that are to do."""
        return [shard for shard in range(self.n_shards) if not self.path(shard).is_file()]

    def is_done(self) -> bool:
        """Whether everything was scored before."""
        return (self.folder / DONE).is_file()

    def finish(self) -> None:
        """Lists the files with their digests and marks the folder as done; all shards must be there."""
        finish_folder(self.folder, [REQUEST, *(self.path(shard).name for shard in range(self.n_shards))])


@dataclass(frozen=True)
class ScoredShard:
    """What a worker says of a shard that it has scored.

    Attributes:
        shard: Its number.
        rows: Its rows.
        unknown_users: Rows whose user the run does not know.
        unknown_items: Rows whose item it does not know.
        seconds: How long it took.
        notes: Sentences for the user.
    """

    shard: int
    rows: int
    unknown_users: int
    unknown_items: int
    seconds: float
    notes: tuple[str, ...]


class ShardScorer:
    """A worker: the model is loaded once, shards follow."""

    def __init__(self, scoring: Scoring, device: str | None) -> None:
        """Opens the run.

        Args:
            scoring: What is scored.
            device: Device name; None = the first CUDA device, else the processor.
        """
        self._scoring = scoring
        self._model = open_run(
            scoring.run, cache_dir=scoring.cache_dir, device=device, threads=scoring.threads, dtype=scoring.dtype
        )
        titles = scoring.folder / TITLES
        self._titles = dict(pl.read_parquet(titles).iter_rows()) if titles.is_file() else {}

    def score(self, shard: int) -> ScoredShard:
        """Scores a shard and writes its file.

        Raises:
            DataError: If a row is bad; names the lines.
        """
        start, scoring, model = time.monotonic(), self._scoring, self._model
        rows = scoring.rows(shard)
        pairs = read_pairs(scoring.pairs, rows)
        logits = model.pair_logits(
            pairs.users, pairs.items, pairs.seconds(model.data), titles={**pairs.titles, **self._titles}
        )
        frame = scored_frame(pairs, logits, model.data)
        frame = frame.select(pl.Series("row", range(rows.start, rows.stop), dtype=pl.Int64), pl.all())
        with replacing(scoring.path(shard)) as path:
            frame.write_parquet(path)
        users, items = (int((~frame[f"{name}_known"]).sum()) for name in REQUIRED)
        return ScoredShard(shard, len(rows), users, items, time.monotonic() - start, title_notes(pairs, model))


def begin_scoring(scoring: Scoring, model: TrainedModel) -> None:
    """Checks what no shard can check alone, and says in the folder what it is made of.

    Args:
        scoring: What is to be scored; the caller holds the lock of its folder.
        model: The run, opened.

    Raises:
        DataError: If ids have several spellings, or an item several titles.
        UsageError: If the folder holds something else.
    """
    wanted = {
        "schema": 1,
        "run": scoring.run.name,
        "run_done": file_digest(scoring.run / DONE),
        "pairs": file_digest(scoring.pairs),
        "rows": scoring.n_rows,
        "shard_rows": scoring.shard_rows,
        "dtype": scoring.dtype,
    }
    remove_leftovers(scoring.folder)
    file = scoring.folder / REQUEST
    if file.is_file():
        _require_same(scoring.folder, _read(file), wanted)
        if scoring.is_done() and (fault := damage(scoring.folder)):
            raise DataError(f"{fault}; remove {scoring.folder} and repeat the command")
        return
    if any(path.name not in (LOCK, TITLES) for path in scoring.folder.iterdir()):
        raise UsageError(
            f"{scoring.folder}: holds other files; give a new or empty folder, or that of the same command"
        )
    _check_ids(scoring.pairs)
    titles = _titles(scoring.pairs, model)
    if titles is not None:
        with replacing(scoring.folder / TITLES) as path:
            titles.write_parquet(path)
    write_atomically(file, json.dumps(wanted, indent=2) + "\n")


def count_rows(pairs: Path) -> int:
    """Returns the rows of a parquet file.

    Raises:
        DataError: If it is not one, or holds none.
    """
    if not pairs.is_file() or pairs.suffix != ".parquet":
        what = "is not a parquet file" if pairs.is_file() else "no such file"
        raise DataError(
            f"{pairs}: {what}; shards are rows of one parquet file: write the pairs as one, or leave out --launcher"
        )
    parquet_schema(pairs)
    n_rows = int(pl.scan_parquet(pairs).select(pl.len()).collect().item())
    if not n_rows:
        raise DataError(f"{pairs}: has no rows")
    return n_rows


def has_times(pairs: Path) -> bool:
    """Whether a parquet file of pairs says when each is asked."""
    return "time" in parquet_schema(pairs)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{file}: cannot be read ({error}); give a new folder") from error


def _require_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    words = {"run": "run", "run_done": "contents of the run", "pairs": "contents of the pairs", "dtype": "--dtype"}
    words |= {"rows": "number of rows", "shard_rows": "--shard-rows"}
    other = [words.get(name, name) for name, value in wanted.items() if found.get(name) != value]
    if other:
        raise UsageError(
            f"{folder}: was begun with another {', '.join(other)}; give what it was begun with, or a new folder"
        )


def _check_ids(pairs: Path) -> None:
    """Refuses ids whose text would depend on what else is in the same shard."""
    schema = parquet_schema(pairs)
    for name in (each for each in REQUIRED if each in schema):
        if schema[name].is_integer():
            continue
        if schema[name] not in (pl.String, pl.Categorical):
            raise DataError(f"{pairs}: column '{name}' holds {schema[name]}; write ids as text or whole numbers")
        scan = pl.scan_parquet(pairs).select(pl.col(name).cast(pl.String), line=pl.int_range(1, pl.len() + 1))
        first = scan.group_by(name).agg(pl.col("line").min()).collect().drop_nulls()
        plain = first.filter(~pl.col(name).str.contains(_FRACTION))
        spelt = one_spelling(plain[name], plain["line"], name=name, path=pairs)
        if changed := plain.filter(spelt != plain[name]).sort("line").rows():
            old, line = changed[0]
            raise DataError(
                f"{pairs}: line {line}: {name} {old!r} is a whole number in another spelling, or has blanks around it; "
                "write it as plain digits or text, or leave out --launcher"
            )


def _titles(pairs: Path, model: TrainedModel) -> pl.DataFrame | None:
    """Returns item, title of the items that the run does not know; None where it reads no titles.

    Raises:
        DataError: If an item has several.
    """
    if model.language is None or "title" not in parquet_schema(pairs):
        return None
    scan = pl.scan_parquet(pairs).select(pl.col("item", "title").cast(pl.String).str.strip_chars())
    given = scan.filter(pl.col("title") != "").group_by("item").agg(pl.col("title").unique().sort()).collect()
    both = given.filter(pl.col("title").list.len() > 1).sort("item")
    for item, titles in both.iter_rows():
        raise DataError(f"{pairs}: item '{item}' has the titles {titles[0]!r} and {titles[1]!r}; give one")
    known = model.item_places.of(given["item"].to_list())
    return given.filter(pl.Series(known == 0)).select("item", pl.col("title").list.first())
