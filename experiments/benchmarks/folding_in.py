"""Folds users in who were not there when an encoder was fitted, and compares with fitting it anew with them.

Run:      python experiments/benchmarks/folding_in.py PATH-OF-ml-100k [--encoders mf-bias lightgcn sasrec din]
Data:     ml-100k of GroupLens, folder or zip
Time:     about 10 minutes on one processor core, no GPU; the numbers are in docs/online.md
Shows:    AUC on the later rows of 150 users, known by their rows up to the third like: as unknown users, folded in,
          and after a refit on all rows; intervals and differences by resampling users
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from accelerate import Accelerator

from collm.component import BuildContext
from collm.contracts.data import InteractionTable, Limit
from collm.contracts.encoder import EncoderConfig, Sizes
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import derive_seed, seed_torch
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.engine.fit_phases import fit_in_phases
from collm.metrics.scored_rows import scored_rows
from collm.metrics.uncertainty import Estimate, user_df, user_draws, user_variance
from collm.model.encoder import EncoderModule
from collm.registry import default_registry
from collm.stages.continued import settled_config
from collm.stages.evaluate import build_metrics
from collm.stages.fit_encoder import build_encoder, load_encoder
from collm.stages.folded import Fitted, folded_encoder, grown_encoder
from collm.stages.stage import RunContext

N_USERS = 150
LIKES = 3
VALID_SHARE = 0.1
RESAMPLES = 1000
REGISTRY = default_registry()


@dataclass
class Strictly:
    """The usual rule of histories."""

    visibility: Any = "strictly-earlier"


@dataclass(frozen=True)
class Table:
    """A table as a source of data."""

    table: InteractionTable

    def content_hash(self) -> str:
        """Returns a name: the files are read once."""
        return "folding-in"

    def load(self) -> InteractionTable:
        """Returns the table."""
        return self.table


def split_users(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Holds users out; their rows up to the third like are `test` with `shown`, the later ones `test` without.

    Of the others, the last tenth of each user's rows is validation. Held-out users have the last dense ids; rows of
    items that only they have are left out.
    """
    users = frame["user"].unique().sort()
    held = pl.Series(np.random.default_rng(seed).permutation(users.to_numpy())[:N_USERS])
    frame = frame.with_columns(held=pl.col("user").is_in(held.implode())).sort("user", "order")
    known = frame.filter(~pl.col("held"))["item"].unique()
    frame = frame.filter(pl.col("item").is_in(known.implode()))
    likes_before = pl.col("label").cast(pl.Int64).cum_sum().over("user") - pl.col("label")
    place = pl.int_range(pl.len()).over("user")
    late = place >= (pl.len().over("user") * (1 - VALID_SHARE))
    frame = frame.with_columns(
        shown=pl.col("held") & (likes_before < LIKES),
        split=pl.when("held").then(pl.lit("test")).when(late).then(pl.lit("valid")).otherwise(pl.lit("train")),
    )
    order = pl.concat([frame.filter(~pl.col("held"))["user"], frame.filter("held")["user"]]).unique(maintain_order=True)
    new_user = {old: place for place, old in enumerate(order.to_list(), start=1)}
    new_item = {old: place for place, old in enumerate(known.sort().to_list(), start=1)}
    return frame.with_columns(
        pl.col("user").replace_strict(new_user, return_dtype=pl.Int32),
        pl.col("item").replace_strict(new_item, return_dtype=pl.Int32),
    ).sort("row")


def prepared(frame: pl.DataFrame, folder: Path) -> PreparedData:
    """Prepares rows."""
    ids = [["", *map(str, range(1, int(frame[name].max()) + 1))] for name in ("user", "item")]  # type: ignore[arg-type]
    table = InteractionTable(frame, ids[0], ids[1], ids[1], "by source row")
    prepare(Table(table), limit=Limit(), history=Strictly(), folder=folder)
    return PreparedData.open(folder)


def fit(run: RunContext, config: EncoderConfig, data: PreparedData, folder: Path) -> EncoderModule:
    """Fits an encoder on the training rows, as `collm run` does."""
    encoder = build_encoder(REGISTRY.get("encoder", config.name), config, data, run.spec, run.build)
    seed_torch(derive_seed(run.spec.seed, "fit", config.name))
    folder.mkdir()
    fit_in_phases(
        encoder,
        encoder.fit_phases(config),
        data,
        batcher=EncoderBatcher.of(encoder, data, run.accelerator.device),
        title=f"fit {config.name}",
        seed=run.spec.seed,
        folder=folder,
        accelerator=run.accelerator,
        observer=lambda *_: None,
    )
    return encoder.eval()


def logits(encoder: EncoderModule, data: PreparedData, rows: Rows) -> np.ndarray[Any, Any]:
    """Scores rows."""
    return encoder_logits(encoder, EncoderBatcher.of(encoder, data, next(encoder.parameters()).device), rows)


def measured(rows: Rows, found: dict[str, np.ndarray[Any, Any]]) -> dict[str, tuple[float, float, float]]:
    """Returns value and interval of the AUC of each way, and of the difference of folding in and refitting."""
    (metric,) = build_metrics(["auc"], REGISTRY).values()
    values, draws, n_users = {}, {}, len(np.unique(rows.user))
    for name, scores in found.items():
        frame = pl.DataFrame({"user": rows.user.astype(str), "item": rows.item.astype(str), "label": rows.label})
        scored = scored_rows(frame.with_columns(row=rows.row, logit=scores, score=1 / (1 + np.exp(-scores))))
        values[name] = float(metric.compute(scored).value or 0.0)
        draws[name] = user_draws(metric, scored, n_resamples=RESAMPLES, seed=0)
    result = {}
    for name, (first, second) in {**{n: (n, "") for n in found}, "folded - refit": ("folded", "refit")}.items():
        value, resampled, left = values[first], draws[first].resampled, draws[first].left_out
        if second:
            value, resampled = value - values[second], resampled - draws[second].resampled
            left = left - draws[second].left_out
        variance = user_variance(resampled, n_users)
        assert variance is not None
        result[name] = (value, *Estimate(value, variance, user_df(left, n_users)).interval())
    return result


def main() -> None:
    """Fits, folds in, fits anew, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="ml-100k")
    parser.add_argument("--encoders", nargs="+", default=["mf-bias", "lightgcn", "sasrec", "din"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    component = REGISTRY.get("dataset", "ml-100k")
    build = BuildContext(cache_dir=Path(tempfile.mkdtemp()), find=REGISTRY.get)
    source = component.load_factory()(component.config(name="ml-100k", path=given.path), context=build)
    frame = split_users(source.load().frame, given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        keep = [name for name in frame.columns if name not in ("held", "shown")]
        first = frame.filter(~pl.col("held"))
        # A table needs a test row; this one is of no use to a fit anyway.
        last = first.filter(pl.col("split") == "valid")["row"].max()
        first = first.with_columns(split=pl.when(pl.col("row") == last).then(pl.lit("test")).otherwise("split"))
        small, large = prepared(first.select(keep), root / "small"), prepared(frame.select(keep), root / "large")
        shown = large.rows_at(np.flatnonzero(frame["shown"].to_numpy()))
        later = large.rows_at(np.flatnonzero((frame["held"] & ~frame["shown"]).to_numpy()))
        train = large.rows("train")
        seen = large.rows_at(np.sort(np.concatenate([train.index, shown.index])))
        sys.stdout.write(f"{N_USERS} users, {len(shown)} rows shown, {len(later)} later rows\n")
        spec: Any = SimpleNamespace(seed=given.seed, history=SimpleNamespace(max_items=10))
        stages: Any = None
        run = RunContext(spec, REGISTRY, build, stages, Accelerator(cpu=True), lambda *_: None)
        for name in given.encoders:
            config = REGISTRY.get("encoder", name).config(name=name)
            assert isinstance(config, EncoderConfig)
            encoder = fit(run, config, small, root / f"fit-{name}")
            config = settled_config(config, encoder)
            fitted = Fitted(config, dict(encoder.state_dict()), Sizes(small.n_users, small.n_items), train)
            found = {}
            for way, work in (("unknown", grown_encoder), ("folded", folded_encoder)):
                folder = root / f"{way}-{name}"
                folder.mkdir()
                start = time.perf_counter()
                rest = (folder,) if way == "unknown" else (seen, folder)
                work(run, fitted, large, *rest)  # type: ignore[operator]
                seconds = time.perf_counter() - start
                stage: Any = SimpleNamespace(folder=folder)
                found[way] = logits(load_encoder(run, stage, config, large), large, later)
            start = time.perf_counter()
            view = large.trained_on(seen)
            found["refit"] = logits(fit(run, config, view, root / f"refit-{name}"), large, later)
            again = time.perf_counter() - start
            sys.stdout.write(f"{name}: folded in {seconds:.1f} s, fitted anew {again:.1f} s\n")
            for way, (value, low, high) in measured(later, found).items():
                sys.stdout.write(f"  {way:<15} {value:+.4f} [{low:+.4f}, {high:+.4f}]\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
