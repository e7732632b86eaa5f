"""A finished run as a model: its stages are read, nothing is trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator

from collm.arguments import listed, raw_ids, wrong_argument
from collm.component import BuildContext
from collm.contracts.backbone import Dtype
from collm.contracts.encoder import of_encoder
from collm.data.extended import rows_seen
from collm.data.pairs import LATEST, AskedPairs, IdPlaces, PairHistories, asked_seconds, joined_pairs, unit_of
from collm.data.prepared import PreparedData, Rows
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.engine.language_task import recommender_logits
from collm.engine.prompt_rows import PromptSource
from collm.engine.shares import scored_in_parts
from collm.errors import DataError, RunError, UsageError
from collm.model.encoder import EncoderModule
from collm.model.recommender import Recommender
from collm.registry import Registry
from collm.runs.records import RunResults
from collm.spec.model import ResolvedSpec
from collm.stages.fit_encoder import load_encoder
from collm.stages.held_out import encoder_view, held_out_share
from collm.stages.language_model import LanguageModelRun
from collm.stages.prepare_data import PreparedStage
from collm.stages.score_tables import probabilities
from collm.stages.stage import RecordedStages, RunContext, StageResult
from collm.stages.tune import tune
from collm.stages.updated import UPDATE

Array = np.ndarray[Any, Any]


class TrainedModel:
    """A finished run, ready to score.

    Attributes:
        path: The run folder.
        results: Content of `results.json`.
        spec: The resolved spec.
        run: What its stages work with; they are read, never made.
        data: The prepared data.
    """

    def __init__(
        self,
        path: Path,
        *,
        results: RunResults,
        spec: ResolvedSpec,
        registry: Registry,
        context: BuildContext,
        device: torch.device,
        dtype: Dtype | None = None,
    ) -> None:
        """Takes what `open_run` read; weights load when they are first needed."""
        self.path, self.results, self.spec = path, results, spec
        self._dtype, self._device = dtype, device
        self._stages = RecordedStages(path.parent, results.stages)
        self.run = RunContext(
            spec=spec,
            registry=registry,
            build=context,
            stages=self._stages,
            accelerator=Accelerator(cpu=device.type == "cpu"),
            observer=lambda *_: None,
        )
        prepared = self._stages.recorded("prepare_data")
        self.data = PreparedData.open(prepared.folder)
        if UPDATE in results.facts:
            # What an update has learnt from is known to it, though it was scored as test rows before.
            self.data = self.data.counting(rows_seen(self.data))
        self._prepared = PreparedStage(prepared, self.data)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._device

    @cached_property
    def encoder(self) -> EncoderModule | None:
        """Returns the fitted encoder that scores, of several the first by name; None where none was fitted."""
        registry = self.run.registry
        for name, stage in self.fitted.items():
            config = self.spec.all_encoders[name]
            if name and "scores" not in registry.get("encoder", config.name).gives:
                continue
            fitted_on = encoder_view(self.data, held_out_share(self.spec, registry))
            return load_encoder(self.run, stage, config, fitted_on).to(self._device).eval()
        return None

    @cached_property
    def fitted(self) -> dict[str, StageResult]:
        """Returns name -> stage of the encoders that were fitted."""
        keys = {name: of_encoder("fit_encoder", name) for name in self.spec.all_encoders}
        return {name: self._stages.recorded(key) for name, key in keys.items() if key in self.results.stages}

    @cached_property
    def language(self) -> LanguageModelRun | None:
        """Returns the language-model part with its finished steps; None where the encoder alone recommends."""
        if self.spec.backbone is None:
            return None
        model = LanguageModelRun(self.run, self._prepared, fitted=self.fitted)
        for _ in tune(model):
            pass
        return model

    @cached_property
    def source(self) -> PromptSource:
        """Encodes rows of the dataset's own titles, which are cleaned and tokenised once."""
        assert self.language is not None
        return self.language.source(self.data)

    @cached_property
    def histories(self) -> PairHistories:
        """Returns what finds the histories of pairs."""
        return PairHistories(self.data)

    @cached_property
    def user_places(self) -> IdPlaces:
        """Returns what finds users by raw id."""
        return IdPlaces(self.data.user_ids)

    @cached_property
    def item_places(self) -> IdPlaces:
        """Returns what finds items by raw id."""
        return IdPlaces(self.data.item_ids)

    @cached_property
    def recommender(self) -> Recommender:
        """Returns the tuned language model.

        Raises:
            RunError: If the encoder alone recommends.
        """
        if self.language is None:
            raise RunError(f"{self.path}: the run has no language model")
        return self.language.recommender(self._dtype)

    def score(
        self,
        users: Sequence[str],
        items: Sequence[str],
        times: Sequence[int] | None = None,
        *,
        titles: Mapping[str, str] | None = None,
    ) -> Array:
        """Returns float64 [n] probabilities of a positive label; arguments as in `pair_logits`."""
        return probabilities(self.pair_logits(users, items, times, titles=titles))

    def pair_logits(
        self,
        users: Sequence[str],
        items: Sequence[str],
        times: Sequence[int] | None = None,
        *,
        titles: Mapping[str, str] | None = None,
    ) -> Array:
        """Scores pairs of raw ids.

        Args:
            users: Raw user ids; unknown ones have no history and the padding vector.
            items: Raw item ids; unknown ones have the padding vector.
            times: Seconds since 1970 UTC (or a smaller unit, by the size of the number), when each pair is asked;
                default: after everything that is known. For a dataset without dates, its own numbers.
            titles: Raw item id -> title, for items that the dataset does not know; without one the id appears in its
                place in the prompt.

        Returns:
            float32 [n] logits; rank by them, because probabilities near 0 and 1 round to ties.

        Raises:
            UsageError: If an id is not text, or there are not as many items and times as users.
            DataError: If a time is none.
        """
        moments = None if times is None else self.moments(times)
        (logits,) = self.logits_of([self.asked(users, items, moments, titles=titles)])
        return logits

    def asked(
        self,
        users: Sequence[str],
        items: Sequence[str],
        moments: Array | None = None,
        *,
        titles: Mapping[str, str] | None = None,
    ) -> AskedPairs:
        """Returns pairs of raw ids in the dataset's own numbers; arguments as in `pair_logits`.

        Args:
            users: Raw user ids.
            items: Raw item ids.
            moments: int64 [n], as `moments` returns them; None = after everything that is known.
            titles: Raw item id -> title.

        Raises:
            UsageError: If an id or a title is not text, or the lengths differ.
        """
        users, items = raw_ids("users", users), raw_ids("items", items)
        _require_pairs(users, items, moments)
        titles = {} if titles is None else _checked_titles(titles)
        known = self.item_places.of(items)
        extra = sorted({name for name, place in zip(items, known, strict=True) if place == 0})
        place = {name: self.data.n_items + 1 + number for number, name in enumerate(extra)}
        return AskedPairs(
            user=self.user_places.of(users),
            item=np.array([found or place[name] for name, found in zip(items, known, strict=True)], dtype=np.int64),
            moment=np.full(len(users), LATEST) if moments is None else moments,
            extra_titles=tuple(titles.get(name, name) for name in extra),
        )

    def logits_of(self, questions: Sequence[AskedPairs]) -> list[Array]:
        """Scores the pairs of several questions together, so that those of one user and history share a prefix.

        Returns:
            float32 [n] logits of each question.
        """
        pairs, titles = joined_pairs(questions, self.data.n_items), None
        if pairs.extra_titles:
            titles = [*self.data.titles, *pairs.extra_titles]
        data, rows = self.histories.rows(pairs.user, pairs.item, pairs.moment, titles=titles)
        ends = np.cumsum([len(question.user) for question in questions])
        return np.split(self.logits(data, rows), ends[:-1])

    def moments(self, times: Sequence[int]) -> Array:
        """Returns int64 [n]: times in the seconds that the dataset counts in.

        Raises:
            UsageError: If it is not a list.
            DataError: If one is not a time; names the first.
        """
        times = listed("times", times, of="times")
        found = asked_seconds(pl.Series([str(time) for time in times], dtype=pl.String), self.data)
        if found.null_count():
            raise DataError(f"time {unit_of(self.data)} (got {times[int(found.is_null().arg_true()[0])]})")
        moments: Array = found.to_numpy()
        return moments

    def logits(self, data: PreparedData, rows: Rows) -> Array:
        """Returns float32 [n] logits of rows of `data` (see `collm.data.pairs`), by the run's final model."""
        if self.language is None:
            return self.encoder_logits(data, rows)
        source = self.source.on(data) if data.titles is self.data.titles else self.language.source(data)
        max_tokens = self.language.setup.tuning.micro_batch_tokens

        def score(part: Rows) -> Array:
            return recommender_logits(self.recommender, source.encode(part), max_tokens=max_tokens)

        return scored_in_parts(rows, score)

    def encoder_logits(self, data: PreparedData, rows: Rows) -> Array:
        """Returns float32 [n] logits of the fitted encoder alone.

        Raises:
            RunError: If the run has no encoder that scores.
        """
        if self.encoder is None or "scores" not in self.encoder.gives:
            raise RunError(f"{self.path}: the run has no encoder that scores")
        batcher = EncoderBatcher.of(self.encoder, data, self._device)
        return encoder_logits(self.encoder, batcher, rows)


def _require_pairs(users: Sequence[str], items: Sequence[str], moments: Array | None) -> None:
    """Refuses lists that are not pairs."""
    lengths = {"users": len(users), "items": len(items)} | ({} if moments is None else {"times": len(moments)})
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise UsageError(f"pairs: the lists have different lengths ({got}); give one user, item and time per pair")


def _checked_titles(titles: Mapping[str, str]) -> Mapping[str, str]:
    """Refuses titles that would not be found, because an id is not text."""
    if not isinstance(titles, Mapping):
        raise wrong_argument("titles", titles, "a mapping from raw item id to title, e.g. {'1': 'Brand New (2030)'}")
    raw_ids("titles", titles)
    for name, title in titles.items():
        if not isinstance(title, str):
            raise wrong_argument(f"titles['{name}']", title, "the title as text")
    return titles
