"""What is measured: a spec's data and model, with fresh weights where training would have left others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.component import BuildContext
from collm.contracts.prompt import Variant
from collm.contracts.tuning import Group, TuneStep
from collm.data.pairs import pair_rows
from collm.data.prepared import PreparedData, Rows
from collm.engine.assemble import RecommenderSpec, assemble
from collm.engine.device import derive_seed
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.prompt_rows import PromptSource
from collm.errors import RunError
from collm.model.encoder import EncoderModule, EncoderTraits
from collm.model.mapping import Projector
from collm.model.recommender import Recommender
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.stages.fit_encoder import build_encoder
from collm.stages.prepare_data import prepare_data
from collm.stages.prompt_sources import LanguageSetup
from collm.stages.stage import StageRunner

Array = np.ndarray[Any, Any]
CALIBRATION_ROWS = 4_096


@dataclass(frozen=True)
class Subject:
    """A spec, ready to be measured.

    Attributes:
        setup: The language-model sections of the spec, and what is built from them.
        data: The prepared data.
        steps: The tuning strategy's steps.
        recommender: The model.
        device: Where it runs.
        folder: Takes what the training loop writes.
    """

    setup: LanguageSetup
    data: PreparedData
    steps: tuple[TuneStep, ...]
    recommender: Recommender
    device: torch.device
    folder: Path

    @property
    def encoder(self) -> EncoderModule | None:
        """The encoder in the model; None for text only."""
        return self.recommender.encoders.get("")

    @property
    def projector(self) -> Projector | None:
        """The mapping in the model; None for text only, and where the encoder gives tokens itself."""
        return self.recommender.projectors.get("")

    def tokens_per_slot(self) -> dict[str, int]:
        """Returns kind of slot -> token embeddings that fill one."""
        return {} if (traits := self._traits()) is None else dict(traits.tokens)

    def _traits(self) -> EncoderTraits | None:
        if self.encoder is None:
            return None
        return EncoderTraits.of(self.encoder, mapping_tokens=self.setup.spec.mapping.tokens)

    def source(
        self, variant: Variant, *, history_items: int | None = None, data: PreparedData | None = None
    ) -> PromptSource:
        """Returns what encodes rows.

        Args:
            variant: Prompt variant.
            history_items: Titles per prompt at most; None = the spec's number. With another number the length of a
                prompt is limited by the model alone.
            data: Where the rows' histories are; None = the prepared data.
        """
        setup, traits = self.setup, self._traits()
        history = setup.spec.history
        return PromptSource(
            self.data if data is None else data,
            setup.template,
            setup.backbone,
            variant=variant,
            max_tokens=setup.max_tokens if history_items is None else setup.backbone.max_length,
            history=history if history_items is None else history.model_copy(update={"max_items": history_items}),
            encoders={"": traits} if variant == "hybrid" and traits is not None else None,
            device=self.device,
        )

    def step(self, variant: Variant) -> TuneStep | None:
        """Returns the first step that trains on a prompt variant; None where there is none."""
        return next((step for step in self.steps if step.variant == variant), None)

    def train_rows(self) -> Rows:
        """Returns the training rows."""
        return self.data.rows("train")

    def requests(self, n_users: int, n_candidates: int, *, history_items: int) -> tuple[PreparedData, list[Rows]]:
        """Makes requests to rank random unrated items, one per user, for users with long histories.

        Args:
            n_users: Users, drawn from those with `history_items` earlier positives, or with the most where too few have
                as many.
            n_candidates: Items per user at most.
            history_items: Titles that the prompt may show.

        Returns:
            The data that knows the histories, and each request's rows.
        """
        generator = np.random.default_rng(derive_seed(self.setup.spec.seed, "bench", "requests"))
        n = self.data.n_users
        view, rows = pair_rows(self.data, np.arange(1, n + 1), np.zeros(n, dtype=np.int64), None)
        n_titles = (view.history(rows, history_items) != 0).sum(axis=1)
        order = generator.permutation(n)
        users = order[np.argsort(-n_titles[order], kind="stable")][:n_users] + 1
        rated = self.data.interactions()
        wanted = []
        for user in users:
            seen = rated.filter(pl.col("user") == int(user))["item"].to_numpy()
            unseen = np.setdiff1d(np.arange(1, self.data.n_items + 1), seen)
            wanted.append(generator.permutation(unseen)[:n_candidates])
        sizes = [len(items) for items in wanted]
        view, rows = pair_rows(self.data, np.repeat(users, sizes), np.concatenate(wanted), None)
        return view, [rows.take(part) for part in np.split(np.arange(len(rows)), np.cumsum(sizes)[:-1])]

    def pairs(self, n: int) -> tuple[PreparedData, Rows]:
        """Draws distinct pairs of a user and an item, asked now.

        Args:
            n: How many; at most all there are.

        Returns:
            The data that knows the histories, and the rows, those of a user together.
        """
        generator = np.random.default_rng(derive_seed(self.setup.spec.seed, "bench", "pairs"))
        n_users, n_items = self.data.n_users, self.data.n_items
        drawn = np.sort(generator.choice(n_users * n_items, size=min(n, n_users * n_items), replace=False))
        return pair_rows(self.data, drawn // n_items + 1, drawn % n_items + 1, None)

    def batcher(self, data: PreparedData | None = None) -> EncoderBatcher | None:
        """Returns what gives the encoder its input for rows of some data; None for text only."""
        if self.encoder is None:
            return None
        return EncoderBatcher.of(self.encoder, self.data if data is None else data, self.device)


def open_subject(
    spec: ResolvedSpec, registry: Registry, *, context: BuildContext, device: torch.device, folder: Path
) -> Subject:
    """Prepares the data of a spec and puts its model together; nothing is fitted or trained.

    Args:
        spec: A spec with a language model.
        registry: Where components come from.
        context: Cache folder.
        device: Where the model runs.
        folder: Takes prepared data and what training writes.

    Raises:
        DataError: If data or weights are missing.
        RunError: If the spec asks for what is not measured.
    """
    runner = StageRunner(folder, finished=lambda _: None)
    data = prepare_data(spec, registry=registry, runner=runner, context=context).data
    setup = LanguageSetup.of(spec, registry, context)
    _require_plain_slots(setup, registry)
    if setup.tuning.loss != "bce":
        raise RunError(
            f"{spec.name}: tuning.loss: {setup.tuning.loss} trains on lists of drawn items, and what is measured is "
            "training row by row beside its plain loop; use tuning.loss: bce without negatives"
        )
    steps = tuple(setup.strategy.plan())
    groups: set[Group] = {group for step in steps for group in step.groups}
    encoders = {}
    if "encoder" in groups:
        if spec.encoder is None:
            raise RunError(f"{spec.name}: its tuning strategy needs an encoder; add an encoder section")
        encoders[""] = build_encoder(registry.get("encoder", spec.encoder.name), spec.encoder, data, spec, context)
    parts = RecommenderSpec(
        lora=setup.tuning.lora if "lora" in groups else None,
        encoders=encoders,
        mapping=spec.mapping if "projector" in groups else None,
        probe=setup.config.probe,
        seed=derive_seed(spec.seed, "parts"),
        compiles=setup.config.compile,
    )
    recommender = assemble(parts, setup.backbone, dtype=setup.config.dtype, readout=spec.answer.readout, device=device)
    subject = Subject(setup, data, steps, recommender, device=device, folder=folder)
    if (batcher := subject.batcher()) is not None:
        rows = subject.train_rows()
        recommender.calibrate_projector([{"": batcher(rows.take(np.arange(min(len(rows), CALIBRATION_ROWS))))}])
    return subject


def _require_plain_slots(setup: LanguageSetup, registry: Registry) -> None:
    """Refuses prompts that the plain loop cannot fill.

    Raises:
        RunError: If slots are not those of one encoder's user and item vectors.
    """
    spec = setup.spec
    if spec.history.include != "liked" or spec.history.ages:
        raise RunError(
            f"{spec.name}: the plain loop writes liked titles alone; measure with history.include: liked and "
            "history.ages: false"
        )
    others = [f"{{{slot.field}}}" for slot in setup.template.slots() if slot.name not in ("user", "item")]
    if others:
        raise RunError(
            f"{spec.name}: prompt '{setup.prompt.name}' has {', '.join(others)}, which the plain loop does not fill; "
            "measure a prompt with {history}, {user} and {item} of one encoder"
        )
    if spec.encoder is not None and "words" in registry.get("encoder", spec.encoder.name).gives:
        raise RunError(
            f"{spec.name}: encoder '{spec.encoder.name}' writes words into the prompt, which the plain loop does not; "
            "measure an encoder of vectors"
        )
