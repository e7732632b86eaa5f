"""Tuning the language model: prompts in token-budget batches, a loss on one logit, validation AUC."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from collm.contracts.data import PUBLISHED_SELECTION, SelectedRows
from collm.contracts.tuning import StepConfig, TuneStep, TuningConfig
from collm.data.batches import like_sized_batches, shuffled_in_chunks
from collm.data.draws import draw_whole_users
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import derive_seed
from collm.engine.encoder_task import validation_auc
from collm.engine.progress import progress
from collm.engine.prompt_rows import PromptRows
from collm.engine.schedule import Schedule
from collm.engine.shares import score_batches
from collm.engine.train import LoopSettings
from collm.engine.train_task import InParts
from collm.errors import DataError, SpecError
from collm.model.parameters import optimiser_groups
from collm.model.prefix.batch import PromptBatch
from collm.model.prefix.cache import PrefixCache
from collm.model.recommender import Recommender
from collm.process_group import SINGLE, ProcessGroup

logger = logging.getLogger(__name__)
USUAL_WARMUP: int = StepConfig.model_fields["warmup_steps"].default
Array = np.ndarray[Any, Any]
# Rows of one user and history that stay together in training: they share a prefix, and a batch of 32 still mixes users.
ROWS_KEPT_TOGETHER = 4
STEPS_LOOKED_AT = 64
DRAWN_SHARES: Mapping[SelectedRows, int] = {"half": 2, "quarter": 4}
SMALLER_ROWS = (
    "lower history.max_items or backbone.max_prompt_tokens, use backbone.dtype: bfloat16 or, for training, set "
    "backbone.gradient_checkpointing: true"
)


@torch.no_grad()
def recommender_logits(
    recommender: Recommender, prompts: PromptRows, *, max_tokens: int, processes: ProcessGroup = SINGLE
) -> Array:
    """Scores rows, those of one user and history together.

    Args:
        recommender: Put into eval mode.
        prompts: Encoded rows.
        max_tokens: Tokens per forward pass, padding included.
        processes: The processes that share the work; each gets all logits.

    Returns:
        float32 [n_rows] logits in the order of the rows.
    """
    recommender.eval()
    batches = prompts.scoring_batches(max_tokens, packed=recommender.shares_prefixes)

    def score(rows: Array) -> torch.Tensor:
        logits: torch.Tensor = recommender(prompts.batch(rows))
        return logits

    # Where weights are split over processes, all of them run the model equally often: none may take smaller batches.
    fitting = score if processes.shards else InParts(score, smaller=SMALLER_ROWS)
    with progress(total=len(prompts), unit="rows scored", shown=processes.is_main) as ticker:

        def counted(rows: Array) -> torch.Tensor:
            logits = fitting(rows)
            ticker.advance(len(rows) * processes.size)
            return logits

        return score_batches(counted, batches, len(prompts), processes=processes)


class LanguageTask:
    """One tuning step in the training loop."""

    def __init__(
        self,
        recommender: Recommender,
        step: TuneStep,
        tuning: TuningConfig,
        *,
        title: str,
        train: PromptRows,
        valid: PromptRows,
        seed: int,
        processes: ProcessGroup = SINGLE,
    ) -> None:
        """Takes the model, the step and the encoded rows; `seed` decides the order of batches and what is drawn."""
        self.title = title
        self._recommender, self._step, self._tuning = recommender, step, tuning
        self.train, self.valid, self._seed, self._processes = train, valid, seed, processes
        self._micro_batch_tokens = tuning.micro_batch_tokens
        self.n_tokens = 0
        self._trained = step.trained
        self._lead = step.optimiser[self._trained[0]]
        if tuning.prefix_cache_gb and "lora" not in self._trained:
            self._keep_prefixes()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch: what the settings say, else one pass over the training rows."""
        return self._lead.epoch_steps or -(-len(self.train) // self._tuning.batch_size)

    def loop_settings(self) -> LoopSettings:
        """Returns how long to train, from the first group that trains."""
        return LoopSettings(
            max_steps=max(1, round(self._lead.epochs * self.steps_per_epoch)),
            validate_every=max(1, round(self.steps_per_epoch / self._lead.validations_per_epoch)),
            patience=self._lead.patience,
            clip_norm=self._tuning.clip_norm,
            checkpoint_seconds=self._tuning.checkpoint_seconds,
            seed=derive_seed(self._seed, "draws"),
        )

    def optimiser(self) -> torch.optim.Optimizer:
        """Returns AdamW; each group has its own rate, and matrices alone decay (fact 38)."""
        groups = []
        for group in self._trained:
            settings = self._step.optimiser[group]
            for part in optimiser_groups(self._recommender, group, weight_decay=settings.weight_decay):
                groups.append({**part, "lr": settings.learning_rate, "peak": settings.learning_rate})
        return torch.optim.AdamW(groups, fused=True)

    def factor(self, step: int, group: Mapping[str, Any]) -> float:
        """Returns the schedule's factor for one optimiser group."""
        return self.schedule().factor(step, group["peak"])

    def schedule(self) -> Schedule:
        """Returns the learning-rate schedule."""
        tuning, total = self._tuning, self.loop_settings().max_steps
        ratio = self._lead.warmup_ratio
        return Schedule(
            tuning.schedule,
            total=total,
            warmup=self._lead.warmup_steps if ratio is None else math.ceil(ratio * total),
            epoch_steps=self.steps_per_epoch,
            warmup_start=tuning.warmup_start,
            min_rate=tuning.min_learning_rate,
        )

    def check_schedule(self) -> list[str]:
        """Accepts a schedule that does what its numbers say.

        Returns:
            Sentences for the results: a default warm-up that is longer than the training.

        Raises:
            SpecError: If a warm-up that was set is longer than the training, or a rate is below the least one.
        """
        schedule, notes = self.schedule(), []
        for group in self._trained:
            settings = self._step.optimiser[group]
            fault = schedule.fault(settings.learning_rate)
            usual = settings.warmup_ratio is None and settings.warmup_steps == USUAL_WARMUP
            if fault and usual and schedule.warmup > schedule.total:
                notes.append(f"{self.title}: {fault}.")
            elif fault:
                raise SpecError(f"{self.title}: {fault}")
        for note in dict.fromkeys(notes):
            logger.warning(note)
        return list(dict.fromkeys(notes))

    def batches(self, epoch: int) -> Sequence[Sequence[Array]]:
        """Returns global batches of shuffled rows, each cut into micro-batches by tokens."""
        packed = self._recommender.shares_prefixes
        cuts = self.global_batches(epoch)
        return [self.train.micro_batches(rows, self._micro_batch_tokens, packed=packed) for rows in cuts]

    def global_batches(self, epoch: int) -> list[Array]:
        """Returns the shuffled rows of an epoch's optimiser steps."""
        generator = np.random.default_rng(derive_seed(self._seed, "batches", epoch))
        size = self._tuning.batch_size
        if not self._recommender.shares_prefixes:
            # Rows that are padded, because the model takes no trees, come with others of their length.
            return like_sized_batches(self.train.lengths, size=size, generator=generator)
        order = shuffled_in_chunks(self.train.prefix_group, generator, ROWS_KEPT_TOGETHER)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def half_size(self, micro_batches: Sequence[Array]) -> int:
        """Returns half the tokens of the largest of some micro-batches, at least 1."""
        return max(1, int(min(self._micro_batch_tokens, max(map(self.cost, micro_batches)))) // 2)

    def limit(self, size: int) -> str:
        """Cuts global batches into micro-batches of at most that many tokens from now on."""
        self._micro_batch_tokens = size
        return f"set tuning.micro_batch_tokens: {max(64, size)} to start with this size"

    def smaller_rows(self) -> str:
        """Returns what to set where a single prompt does not fit into memory."""
        return SMALLER_ROWS

    def advice(self) -> str | None:
        """Returns a sentence where most global batches make fewer micro-batches than there are processes."""
        n = self._processes.size
        steps = list(itertools.islice(self.batches(0), STEPS_LOOKED_AT)) if n > 1 else []
        idle = sum(len(micro_batches) < n for micro_batches in steps)
        if 2 * idle <= len(steps):
            return None
        tokens = int(np.median([sum(map(self.cost, micro_batches)) for micro_batches in steps]))
        return (
            f"{self.title}: most global batches make fewer micro-batches than the {n} processes, so some idle; with "
            f"tuning.micro_batch_tokens={max(64, tokens // n)} all would have work (about {tokens} tokens per batch)"
        )

    def cost(self, rows: Array) -> float:
        """Returns the tokens of a micro-batch, by which micro-batches are dealt out to processes."""
        return self.train.n_tokens(rows, packed=self._recommender.shares_prefixes)

    def loss_sum(self, rows: Array) -> torch.Tensor:
        """Returns the summed binary cross-entropy of these rows (fact 1)."""
        logits, batch = self.forward(self.train, rows)
        assert batch.label is not None
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.label, reduction="sum")

    def forward(self, prompts: PromptRows, positions: Array) -> tuple[torch.Tensor, PromptBatch]:
        """Returns the logits of some rows, float32 [n] with gradient, and what the model was given."""
        self._recommender.train()
        batch = prompts.batch(positions, constant_history="lora" not in self._trained)
        self.n_tokens += self._recommender.n_tokens(batch)
        logits: torch.Tensor = self._recommender(batch)
        return logits, batch

    def validate(self) -> float:
        """Returns the AUC on the selection rows (fact 34)."""
        max_tokens = self._micro_batch_tokens
        logits = recommender_logits(self._recommender, self.valid, max_tokens=max_tokens, processes=self._processes)
        return validation_auc(self.valid.rows.label, logits, what=self.title)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the tensors of every group that trains, named `<group>.<name>`."""
        parts = {group: self._recommender.group_state(group) for group in self._trained}
        return {f"{group}.{name}": tensor for group, part in parts.items() for name, tensor in part.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Loads what `state` returned; strict keys."""
        for group in self._trained:
            prefix = f"{group}."
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            self._recommender.load_group_state(group, part)

    def _keep_prefixes(self) -> None:
        """Has keys and values of what comes before the user slot kept in memory, for all epochs."""
        reason = None
        if self._tuning.frozen_lora_dropout:
            reason = "LoRA dropout stays on, so they are never the same twice (tuning.frozen_lora_dropout)"
        elif self._processes.shards:
            reason = "frozen weights are split over processes, which must all run the model equally often"
        elif not self._recommender.shares_prefixes:
            reason = "this backbone runs every prompt by itself"
        if reason is not None:
            logger.warning("%s: tuning.prefix_cache_gb has no effect: %s", self.title, reason)
            return
        prefixes, uses = self.train.prefixes(ROWS_KEPT_TOGETHER)
        cache = PrefixCache(
            prefixes,
            uses,
            max_bytes=int(self._tuning.prefix_cache_gb * 1e9),
            group_tokens=self._tuning.micro_batch_tokens,
        )
        self._recommender.keep_prefixes(cache)


def selection_rows(data: PreparedData, which: SelectedRows, *, max_rows: int | None, seed: int) -> Rows:
    """Returns the validation rows that select weights.

    Args:
        data: Prepared data.
        which: `full`; `half` or `quarter`, drawn at random; `published`, the half that a dataset's publishers drew.
        max_rows: Rows at most, whole users; None keeps all.
        seed: Decides the draws.

    Raises:
        DataError: If the published half is asked of a dataset that has none.
    """
    rows = data.rows("valid")
    if which == "published":
        if (is_chosen := data.optional_column(PUBLISHED_SELECTION)) is None:
            raise DataError(
                "select.rows: published: this dataset has no published half of its validation rows (collm-released "
                "has, where valid_small_ood2.pkl lies with the other files); use half, quarter or full"
            )
        rows = rows.take(is_chosen[rows.index])
    elif which in DRAWN_SHARES:
        n_kept = len(rows) // DRAWN_SHARES[which]
        keep = np.random.default_rng(derive_seed(seed, "select")).permutation(len(rows))[:n_kept]
        rows = rows.take(np.sort(keep))
    return rows if max_rows is None or max_rows >= len(rows) else draw_whole_users(rows, max_rows, seed)
