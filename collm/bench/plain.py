"""The plain loop: the usual Hugging Face way of doing the same work, to compare with.

Random batches padded to the longest prompt, prompts tokenised in the loop, every prompt run from its first token, the
whole output head at every position; PyTorch's attention, peft's adapters and AdamW as their makers ship them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from torch import nn

from collm.bench.subject import Subject
from collm.contracts.backbone import ChatFrame, PromptTokenizer
from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot, Variant
from collm.contracts.tuning import Group, TuneStep
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import DTYPES
from collm.model.parameters import load_strictly, lora_parameters, peft_settings
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]
BATCH_ROWS = 16
_PEFT_PREFIX = "base_model.model."


class PlainLoop:
    """The same model with the same weights, run plainly."""

    def __init__(self, subject: Subject) -> None:
        """Loads the language model again; from then on the measured model reads the same frozen weights."""
        self._subject = subject
        recommender = subject.recommender
        lm = subject.setup.backbone.load(dtype=DTYPES[subject.setup.config.dtype], device=subject.device)
        _share_weights(recommender.lm, lm)
        self._lm = lm
        if lora_parameters(recommender.lm):
            self._lm = _with_adapters(lm, subject)
        self._encoder = copy.deepcopy(subject.encoder)
        self._projector = copy.deepcopy(subject.projector)
        self._answer = [recommender.answer.positive, recommender.answer.negative]
        self.take_weights()

    def take_weights(self) -> None:
        """Copies adapters, encoder and mapping from the measured model, whatever they were trained to meanwhile."""
        recommender = self._subject.recommender
        adapters = lora_parameters(self._lm)
        load_strictly(
            {name.removeprefix(_PEFT_PREFIX): parameter for name, parameter in adapters.items()},
            lora_parameters(recommender.lm),
            what="LoRA",
        )
        for own, theirs in ((self._encoder, self._subject.encoder), (self._projector, self._subject.projector)):
            if own is not None and theirs is not None:
                own.load_state_dict(theirs.state_dict())

    @torch.no_grad()
    def score(
        self, rows: Rows, variant: Variant, *, data: PreparedData | None = None, history_items: int | None = None
    ) -> Array:
        """Scores rows in batches of `BATCH_ROWS` in their order.

        Args:
            rows: Rows in random order.
            variant: Prompt variant.
            data: Where the rows' histories are; None = the prepared data.
            history_items: Titles per prompt at most; None = the spec's number.

        Returns:
            float32 [n_rows] logits.
        """
        self._set_training(())
        data = self._subject.data if data is None else data
        prompts = self._prompts(variant, history_items)
        logits = [self._logits(prompts, data, rows.take(at)) for at in _batches(len(rows))]
        return torch.cat(logits).cpu().numpy()

    def train(self, rows: Rows, step: TuneStep) -> None:
        """Trains on rows: batches of `BATCH_ROWS`, gradients added up to the spec's global batch, clipped, AdamW.

        Args:
            rows: Rows in random order.
            step: Which parameters train, and on which prompts.
        """
        subject = self._subject
        groups = step.trained
        parameters = self._set_training(groups)
        settings = step.optimiser[groups[0]]
        optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        prompts = self._prompts(step.variant, None)
        size = subject.setup.tuning.batch_size
        for start in range(0, len(rows), size):
            part = rows.take(np.arange(start, min(start + size, len(rows))))
            optimiser.zero_grad()
            for at in _batches(len(part)):
                taken = part.take(at)
                label = torch.from_numpy(np.asarray(taken.label, dtype=np.float32)).to(subject.device)
                logits = self._logits(prompts, subject.data, taken)
                loss = nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="sum") / len(part)
                loss.backward()  # type: ignore[no-untyped-call]
            if subject.setup.tuning.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, subject.setup.tuning.clip_norm)
            optimiser.step()

    def _prompts(self, variant: Variant, history_items: int | None) -> PlainPrompts:
        subject = self._subject
        return PlainPrompts(
            subject.setup.template,
            subject.setup.backbone.tokenizer(),
            variant,
            history_items=subject.setup.spec.history.max_items if history_items is None else history_items,
            tokens_per_slot=subject.tokens_per_slot(),
            device=subject.device,
        )

    def _logits(self, prompts: PlainPrompts, data: PreparedData, rows: Rows) -> torch.Tensor:
        batch = prompts.batch(data, rows)
        inputs: dict[str, Any] = {"input_ids": batch.ids}
        if batch.slots["user"].shape[1]:
            inputs = {"inputs_embeds": self._embeddings(batch, data, rows)}
        # [batch, length, vocabulary]
        logits = self._lm(**inputs, attention_mask=batch.mask, use_cache=False).logits
        last = batch.mask.sum(1) - 1
        answer: torch.Tensor = logits[torch.arange(len(last), device=last.device), last][:, self._answer].float()
        readout = self._subject.setup.spec.answer.readout
        return answer[:, 0] if readout == "yes_logit" else answer[:, 0] - answer[:, 1]

    def _embeddings(self, batch: PlainBatch, data: PreparedData, rows: Rows) -> torch.Tensor:
        batcher = self._subject.batcher(data)
        assert self._encoder is not None
        assert batcher is not None
        pair = self._encoder.encode(batcher(rows))
        embedded: torch.Tensor = self._lm.get_input_embeddings()(batch.ids).clone()  # type: ignore[operator]
        row = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
        for side, given in (("user", pair.user), ("item", pair.item)):
            vectors = given if self._projector is None else self._projector(side, given)
            embedded[row, batch.slots[side]] = vectors.to(embedded.dtype)
        return embedded

    def _set_training(self, groups: Sequence[Group]) -> list[nn.Parameter]:
        """Lets only some groups train; returns their parameters."""
        parts: dict[Group, tuple[nn.Module | None, list[nn.Parameter]]] = {
            "lora": (self._lm, list(lora_parameters(self._lm).values())),
            "projector": (self._projector, [] if self._projector is None else list(self._projector.parameters())),
            "encoder": (self._encoder, [] if self._encoder is None else list(self._encoder.parameters())),
        }
        if self._projector is None:
            parts["projector"] = parts["encoder"]
        trained = []
        for module, parameters in parts.values():
            if module is not None:
                module.eval()
            for parameter in parameters:
                parameter.requires_grad_(False)
        for group in groups:
            module, parameters = parts[group]
            if module is not None:
                module.train()
            for parameter in parameters:
                parameter.requires_grad_(True)
            trained += parameters
        return trained


def _with_adapters(lm: nn.Module, subject: Subject) -> nn.Module:
    config = peft_settings(lm, subject.setup.tuning.lora, subject.setup.backbone.lora_targets)
    with warnings.catch_warnings():
        # peft asks transformers for an attribute by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        adapted: nn.Module = get_peft_model(lm, config)
    return adapted


def _batches(n_rows: int) -> list[Array]:
    return [np.arange(start, min(start + BATCH_ROWS, n_rows)) for start in range(0, n_rows, BATCH_ROWS)]


def _share_weights(measured: nn.Module, plain: nn.Module) -> None:
    """Lets the measured model read the plain one's frozen weights, so that both fit where one does."""
    theirs = dict(plain.named_parameters())
    for name, parameter in measured.named_parameters():
        original = theirs.get(name.replace(".base_layer.", "."))
        if original is not None and original.shape == parameter.shape:
            parameter.data = original.data


@dataclass(frozen=True)
class PlainBatch:
    """Prompts padded to the longest.

    Attributes:
        ids: int64 [batch, length], right-padded.
        mask: int64 [batch, length]; 1 = a token.
        slots: Side -> int64 [batch, k] positions; k = 0 in the text variant.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    slots: dict[str, torch.Tensor]


class PlainPrompts:
    """Writes and tokenises prompts."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: PromptTokenizer,
        variant: Variant,
        *,
        history_items: int,
        tokens_per_slot: Mapping[str, int],
        device: torch.device,
    ) -> None:
        """Takes what decides a prompt and the device of the batches."""
        self._template, self._tokenizer, self._variant = template, tokenizer, variant
        self._history_items, self._device = history_items, device
        self._chat: ChatFrame | None = getattr(tokenizer, "chat", None)
        self._n_slot = {side: tokens_per_slot.get(side, 1) for side in ("user", "item")}

    def batch(self, data: PreparedData, rows: Rows) -> PlainBatch:
        """Returns the prompts of some rows of some data."""
        histories = data.history(rows, self._history_items)
        parts = [
            self._parts(data.titles[item], [data.titles[each] for each in history if each])
            for item, history in zip(rows.item, histories, strict=True)
        ]
        texts = [part for row in parts for part in row if part not in self._n_slot]
        encoded = iter(self._tokenizer.encode_many(texts))
        sequences, places = [], []
        for row in parts:
            ids, at = list(self._tokenizer.bos_ids), {}
            for part in row:
                if part in self._n_slot:
                    at[part] = range(len(ids), len(ids) + self._n_slot[part])
                    ids += [self._tokenizer.pad_id] * self._n_slot[part]
                else:
                    ids += next(encoded)
            ids += self._chat.after if self._chat else ()
            sequences.append(ids)
            places.append(at)
        width = max(map(len, sequences))
        padded = [ids + [self._tokenizer.pad_id] * (width - len(ids)) for ids in sequences]
        mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences]
        return PlainBatch(
            self._tensor(padded),
            self._tensor(mask),
            {side: self._tensor([list(at.get(side, ())) for at in places]) for side in self._n_slot},
        )

    def _parts(self, title: str, history: list[str]) -> list[str]:
        """Returns the stretches of text between slots, and the names of the slots."""
        template = self._template
        parts = [self._chat.opening if self._chat else ""]
        for segment in template.segments(self._variant):
            if isinstance(segment, UserSlot | ItemSlot):
                # A vector stands for a word with the space before it.
                parts[-1] = parts[-1].removesuffix(" ")
                parts += ["user" if isinstance(segment, UserSlot) else "item", ""]
            elif isinstance(segment, Text):
                parts[-1] += segment.text
            elif isinstance(segment, TargetTitle):
                marks = (template.title_open, template.title_close) if template.quote_target else ("", "")
                parts[-1] += marks[0] + clean_title(title).strip() + marks[1]
            elif isinstance(segment, HistoryTitles):
                parts[-1] += self._history(history)
        return [part for part in parts if part]

    def _history(self, titles: list[str]) -> str:
        template = self._template
        if not titles:
            return template.empty_history
        cleaned = [clean_title(title) for title in titles]
        shown = [title.strip() for title in cleaned] if template.strip_history_titles else cleaned
        return template.title_join.join(f"{template.title_open}{title}{template.title_close}" for title in shown)

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
