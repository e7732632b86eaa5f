"""The recommender: a language model that reads a prompt and whose answer is one logit.

Knows nothing of data files, prompts as text, or training. No [batch, length, vocabulary] tensor ever exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from collm.contracts.backbone import AnswerIds
from collm.contracts.encoder import EncoderBatch
from collm.contracts.tuning import Group
from collm.errors import RunError
from collm.model.answer_head import AnswerHead, decoder_of, run_for_positions
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.mapping import Projector, SlotVectors, embedding_rms, hybrid_embeddings, slot_vectors
from collm.model.parameters import is_lora_dropout, load_strictly, lora_parameters, lora_state
from collm.model.prefix.batch import PromptBatch, build_batch
from collm.model.prefix.cache import PrefixCache, weights_version
from collm.model.prefix.levels import PrefixLevel
from collm.model.prefix.run import attention_window, disable_prefix_sharing, enable_prefix_sharing, run_prefix_tree

Readout = Literal["yes_logit", "yes_minus_no"]

__all__ = ["PromptBatch", "Readout", "Recommender", "build_batch"]


@dataclass(frozen=True)
class Probe:
    """What the probe found.

    Attributes:
        shares: Whether prompts that share a prefix are computed once; False where that gives other logits.
        gap_shared: Largest difference from the model's own logits with sharing; None where the model takes none.
        gap_alone: The same with every prompt by itself; None where sharing was exact, so that it was not needed.
        allowed: Largest difference that is taken for rounding.
        dtype: Number format of the probe.
        prompts: Prompts compared.
        seconds: Time that it took.
        fault: Why sharing was not computed, or could not be; empty where it was.
    """

    shares: bool
    gap_shared: float | None
    gap_alone: float | None
    allowed: float
    dtype: str
    prompts: int
    seconds: float
    fault: str = ""

    def plain(self) -> dict[str, Any]:
        """Returns the record as plain data."""
        return asdict(self)

    def note(self) -> str | None:
        """Returns the sentence that results must state; None where sharing is exact, or not tried for no reason."""
        if self.gap_shared is None and not self.fault:
            return None
        if self.shares:
            return None
        cause = self.fault or (
            f"sharing their prefixes gave this language model other logits (by up to {self.gap_shared:.3g} on "
            f"{self.prompts} probe prompts, allowed {self.allowed:.2g})"
        )
        return f"Prompts are computed one by one: {cause}."


class Recommender(nn.Module):
    """Language model, encoder and mapping as one module."""

    def __init__(
        self,
        lm: nn.Module,
        *,
        answer: AnswerIds,
        readout: Readout,
        encoder: EncoderModule | None = None,
        projector: Projector | None = None,
    ) -> None:
        """Takes the parts; nothing trains until `set_trainable`.

        Args:
            lm: Hugging Face causal language model, adapters included where there are any.
            answer: Ids of the answer words.
            readout: `yes_logit` = the positive word's logit; `yes_minus_no` = positive minus negative.
            encoder: Gives the vectors of hybrid prompts; None for text only.
            projector: The mapping; None for text only, or where the encoder gives `llm-tokens`.

        Raises:
            RunError: If encoder and mapping do not belong together.
        """
        super().__init__()
        self.bypass = encoder is not None and "vectors" not in encoder.gives and "llm-tokens" in encoder.gives
        if encoder is not None and (projector is None) != self.bypass:
            raise RunError("an encoder of vectors needs a projector, and one of llm-tokens takes none")
        self.lm, self.encoder, self.projector = lm, encoder, projector
        self.answer, self.readout = answer, readout
        self._head = AnswerHead(lm, [answer.positive, answer.negative])
        self._shares_prefixes = enable_prefix_sharing(lm)
        self._window = attention_window(lm)
        # An encoder may freeze some of its own parameters for good; only the others are ever switched on.
        self._free = {} if encoder is None else {n for n, p in encoder.named_parameters() if p.requires_grad}
        self._trainable: frozenset[Group] = frozenset()
        self._frozen_lora_dropout = False
        self._prefixes: PrefixCache | None = None
        self.probe: Probe | None = None  # set where the model is proved
        self.set_trainable(())

    def forward(self, batch: PromptBatch) -> torch.Tensor:
        """Scores prompts.

        Args:
            batch: Prompts; with a tree, shared prefixes are run once.

        Returns:
            Logits, float32 [batch]. In float32 a row's logit depends on the other rows by rounding alone (1e-5); in
            half precision the kernels round differently for other batches (up to 0.06 on SmolLM2, whose logits spread
            by 0.3).

        Raises:
            RunError: If the prompts have slots and the batch brings no encoder input.
        """
        logits = self.answer_logits(batch)
        return logits[:, 0] if self.readout == "yes_logit" else logits[:, 0] - logits[:, 1]

    def answer_logits(self, batch: PromptBatch) -> torch.Tensor:
        """Returns the logits of both answer words, float32 [batch, 2], the positive one first; see `forward`."""
        vectors = slot_vectors(batch, self.encoder, self.projector)
        # Beyond a local attention window a token does not see the whole prefix that it would share.
        fits = self._window is None or batch.ids.shape[1] <= self._window
        if batch.tree is not None and self._shares_prefixes and fits:
            hidden = self._run_shared(batch.tree, vectors)
        else:
            hidden = self._run_padded(batch, vectors)
        return self._head(hidden).to(batch.ids.device)

    def parameter_groups(self) -> dict[Group, dict[str, nn.Parameter]]:
        """Returns every group's parameters by name; a group that the model lacks is empty.

        Parameters of an encoder that gives `llm-tokens` belong to `projector`: they are what maps ids to tokens.
        """
        encoder = {} if self.encoder is None else {n: p for n, p in self.encoder.named_parameters() if n in self._free}
        projector = {} if self.projector is None else dict(self.projector.named_parameters())
        if self.bypass:
            encoder, projector = {}, encoder
        return {"lora": lora_parameters(self.lm), "projector": projector, "encoder": encoder}

    @property
    def shares_prefixes(self) -> bool:
        """Whether prompts share their prefixes and are packed without padding."""
        return self._shares_prefixes

    def share_prefixes(self, shares: bool) -> None:
        """Says whether prompts share their prefixes; a model that takes no trees never does."""
        if shares:
            self._shares_prefixes = enable_prefix_sharing(self.lm)
        elif self._shares_prefixes:
            disable_prefix_sharing(self.lm)
            self._shares_prefixes = False

    @property
    def kept_prefixes(self) -> PrefixCache | None:
        """The cache of prompt prefixes, where there is one."""
        return self._prefixes

    def keep_prefixes(self, cache: PrefixCache | None) -> None:
        """Keeps keys and values of prompt prefixes in a cache from now on, in training steps where LoRA is frozen.

        Args:
            cache: Takes them; emptied whenever the language model's weights change. None = they are computed each time.
        """
        self._prefixes = cache

    def group_state(self, group: Group) -> dict[str, torch.Tensor]:
        """Returns a group's tensors by name, buffers included, sharing memory with the model."""
        if group == "lora":
            return lora_state(self.lm)
        module = self._module(group)
        return {} if module is None else dict(module.state_dict())

    def load_group_state(self, group: Group, state: Mapping[str, torch.Tensor]) -> None:
        """Loads what `group_state` returned.

        Raises:
            RunError: If a name is missing or unexpected, or a shape differs.
        """
        load_strictly(self.group_state(group), state, what=group)

    def set_trainable(self, groups: Collection[Group], *, frozen_lora_dropout: bool = False) -> None:
        """Says which groups move; everything else is frozen.

        Args:
            groups: Groups that train.
            frozen_lora_dropout: Whether LoRA dropout stays on in training mode where LoRA is frozen (fact 45).
        """
        self._trainable, self._frozen_lora_dropout = frozenset(groups), frozen_lora_dropout
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for group in self._trainable:
            for parameter in self.parameter_groups()[group].values():
                parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Recommender:
        """Sets training mode where it belongs: frozen parts stay in evaluation mode."""
        super().train(mode)
        self.lm.eval()
        lora_drops = mode and ("lora" in self._trainable or self._frozen_lora_dropout)
        for name, module in self.lm.named_modules():
            if is_lora_dropout(name, module):
                module.train(lora_drops)
        if self.encoder is not None:
            self.encoder.train(mode and ("projector" if self.bypass else "encoder") in self._trainable)
        return self

    @torch.no_grad()
    def calibrate_projector(self, batches: Iterable[EncoderBatch]) -> None:
        """Sets the mapping's input statistics and output scale from training rows; see `Projector.calibrate`."""
        if self.projector is None or self.encoder is None:
            return
        self.eval()
        with naming_encoder(self.encoder, "encode"):
            pairs = [self.encoder.encode(batch) for batch in batches]
        if not pairs:
            raise RunError("the mapping cannot be calibrated: there is no training row")
        user, item = torch.cat([pair.user for pair in pairs]), torch.cat([pair.item for pair in pairs])
        self.projector.calibrate(user, item, target_rms=embedding_rms(self._embedding()))

    def _run_padded(self, batch: PromptBatch, vectors: SlotVectors) -> torch.Tensor:
        """Hidden states of padded rows, nothing shared."""
        n, width = batch.ids.shape
        embedded = self._embedded(batch.ids.reshape(-1), batch, vectors)
        columns = torch.arange(width, device=batch.ids.device)
        mask = (columns < batch.lengths[:, None]).long()
        last = torch.arange(n, device=batch.ids.device) * width + batch.lengths - 1

        def run() -> torch.Tensor:
            output = self._decoder()(inputs_embeds=embedded.view(n, width, -1), attention_mask=mask, use_cache=False)
            states: torch.Tensor = output.last_hidden_state
            return states

        return run_for_positions(self._decoder(), last, run)

    def _run_shared(self, tree: tuple[PrefixLevel, ...], vectors: SlotVectors) -> torch.Tensor:
        lora_moves = any(parameter.requires_grad for parameter in lora_parameters(self.lm).values())
        constant = [not level.has_slots for level in tree[:-1]]
        n_constant = constant.index(False) if False in constant else len(constant)
        decoder = self._decoder()
        return run_prefix_tree(
            decoder,
            tree,
            lambda level: self._embedded(level.ids, level, vectors),
            n_constant=0 if lora_moves or not torch.is_grad_enabled() else n_constant,
            read=partial(run_for_positions, decoder),
            cache=self._kept_prefixes(),
        )

    def _embedded(self, ids: torch.Tensor, slots: PromptBatch | PrefixLevel, vectors: SlotVectors) -> torch.Tensor:
        return hybrid_embeddings(
            self._embedding(),
            ids,
            user=(slots.user, vectors.user),
            item=(slots.item, vectors.item),
            history=(slots.history, vectors.history),
        )

    def _kept_prefixes(self) -> PrefixCache | None:
        """Returns the cache where what it holds is what the frozen weights give, without any dropout."""
        if self._prefixes is None or self._frozen_lora_dropout or "lora" in self._trainable:
            return None
        self._prefixes.check_weights(weights_version(self.lm))
        return self._prefixes

    def _module(self, group: Group) -> nn.Module | None:
        if group == "projector":
            return self.encoder if self.bypass else self.projector
        return None if self.bypass else self.encoder

    def _embedding(self) -> nn.Module:
        embedding: nn.Module = self.lm.get_input_embeddings()  # type: ignore[operator]
        return embedding

    def _decoder(self) -> nn.Module:
        return decoder_of(self.lm)
