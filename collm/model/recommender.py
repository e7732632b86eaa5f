"""The recommender: a language model that reads a prompt and whose answer is one logit.

Knows nothing of data files, prompts as text, or training. No [batch, length, vocabulary] tensor ever exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Literal

import torch
from torch import nn

from collm.contracts.backbone import AnswerIds
from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.contracts.tuning import Group
from collm.errors import RunError
from collm.model.answer_head import AnswerHead, decoder_of, run_for_positions
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.mapping import Projector, embedding_rms, hybrid_embeddings, side_of, slot_vectors
from collm.model.parameters import is_lora_dropout, load_strictly, lora_parameters, lora_state
from collm.model.prefix.batch import PromptBatch, build_batch
from collm.model.prefix.cache import PrefixCache, weights_version
from collm.model.prefix.levels import PrefixLevel
from collm.model.prefix.run import (
    Probe,
    attention_window,
    disable_prefix_sharing,
    enable_prefix_sharing,
    run_prefix_tree,
)

Readout = Literal["yes_logit", "yes_minus_no"]

__all__ = ["PromptBatch", "Readout", "Recommender", "build_batch"]


class Recommender(nn.Module):
    """Language model, encoders and mappings as one module.

    A model has one encoder with the empty name, or several with names of their own; so have the mappings.
    """

    def __init__(
        self,
        lm: nn.Module,
        *,
        answer: AnswerIds,
        readout: Readout,
        encoders: Mapping[str, EncoderModule] | None = None,
        projectors: Mapping[str, Projector] | None = None,
    ) -> None:
        """Takes the parts; nothing trains until `set_trainable`.

        Args:
            lm: Hugging Face causal language model, adapters included where there are any.
            answer: Ids of the answer words.
            readout: `yes_logit` = the positive word's logit; `yes_minus_no` = positive minus negative.
            encoders: Name -> what gives the vectors of hybrid prompts; empty for text only.
            projectors: Name of an encoder -> its mapping; none where the encoder gives `llm-tokens`.

        Raises:
            RunError: If encoders and mappings do not belong together.
        """
        super().__init__()
        encoders, projectors = encoders or {}, projectors or {}
        for name, encoder in encoders.items():
            if (name in projectors) == _gives_tokens(encoder):
                raise RunError("an encoder of vectors needs a projector, and one of llm-tokens takes none")
        self.lm = lm
        self._names = tuple(encoders)
        self._encoders = nn.ModuleDict({_key(name): encoder for name, encoder in encoders.items()})
        self._projectors = nn.ModuleDict({_key(name): projector for name, projector in projectors.items()})
        self.answer, self.readout = answer, readout
        self._head = AnswerHead(lm, [answer.positive, answer.negative])
        self._shares_prefixes = enable_prefix_sharing(lm)
        self._window = attention_window(lm)
        # An encoder may freeze some of its own parameters for good; only the others are ever switched on.
        self._free = {id(p) for encoder in encoders.values() for p in encoder.parameters() if p.requires_grad}
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
        vectors = slot_vectors(batch, self.encoders, self.projectors)
        if batch.tree is not None and self._runs_tree(batch):
            hidden = self._run_shared(batch.tree, vectors)
        else:
            hidden = self._run_padded(batch, vectors)
        return self._head(hidden).to(batch.ids.device)

    def n_tokens(self, batch: PromptBatch) -> int:
        """Returns the tokens of a forward pass: distinct ones where prefixes are shared, else all with padding."""
        return batch.n_tokens if self._runs_tree(batch) else batch.ids.numel()

    def _runs_tree(self, batch: PromptBatch) -> bool:
        # Beyond a local attention window a token does not see the whole prefix that it would share.
        fits = self._window is None or batch.ids.shape[1] <= self._window
        return batch.tree is not None and self._shares_prefixes and fits

    def parameter_groups(self) -> dict[Group, dict[str, nn.Parameter]]:
        """Returns every group's parameters by name; a group that the model lacks is empty.

        Parameters of an encoder that gives `llm-tokens` belong to `projector`: they are what maps ids to tokens. With
        several encoders, names begin with the encoder's.
        """
        found: dict[Group, dict[str, nn.Parameter]] = {"lora": lora_parameters(self.lm), "projector": {}, "encoder": {}}
        for group in ("projector", "encoder"):
            for prefix, module in self._modules_of(group):
                found[group] |= {
                    f"{prefix}{name}": parameter
                    for name, parameter in module.named_parameters()
                    if isinstance(module, Projector) or id(parameter) in self._free
                }
        return found

    @property
    def encoders(self) -> dict[str, EncoderModule]:
        """Name -> encoder; the empty name where there is one."""
        return {name: self._encoders[_key(name)] for name in self._names}  # type: ignore[misc]

    @property
    def projectors(self) -> dict[str, Projector]:
        """Name of an encoder -> its mapping."""
        mapped = (name for name in self._names if _key(name) in self._projectors)
        return {name: self._projectors[_key(name)] for name in mapped}  # type: ignore[misc]

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
        return {
            f"{prefix}{name}": tensor
            for prefix, module in self._modules_of(group)
            for name, tensor in module.state_dict().items()
        }

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
        for encoder in self.encoders.values():
            encoder.train(mode and ("projector" if _gives_tokens(encoder) else "encoder") in self._trainable)
        return self

    @torch.no_grad()
    def calibrate_projector(self, batches: Iterable[Mapping[str, EncoderBatch]]) -> None:
        """Sets the mappings' input statistics and output scale from training rows; see `Projector.calibrate`.

        Args:
            batches: Name -> input of each encoder, for all rows in parts.

        Raises:
            RunError: If there is no row.
        """
        if not self.projectors:
            return
        self.eval()
        pairs: dict[str, list[EncodedPair]] = {name: [] for name in self.projectors}
        for batch in batches:
            for name, found in pairs.items():
                encoder = self.encoders[name]
                with naming_encoder(encoder, "encode"):
                    found.append(encoder.encode(batch[name]))
        rms = embedding_rms(self._embedding())
        for name, found in pairs.items():
            if not found:
                raise RunError("the mapping cannot be calibrated: there is no training row")
            projector = self.projectors[name]
            projector.calibrate(
                {side: torch.cat([side_of(pair, side) for pair in found]) for side in projector.sides}, target_rms=rms
            )

    def _run_padded(self, batch: PromptBatch, vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Hidden states of padded rows, nothing shared."""
        n, width = batch.ids.shape
        embedded = hybrid_embeddings(self._embedding(), batch.ids.reshape(-1), batch.slots, vectors)
        columns = torch.arange(width, device=batch.ids.device)
        mask = (columns < batch.lengths[:, None]).long()
        last = torch.arange(n, device=batch.ids.device) * width + batch.lengths - 1

        def run() -> torch.Tensor:
            output = self._decoder()(inputs_embeds=embedded.view(n, width, -1), attention_mask=mask, use_cache=False)
            states: torch.Tensor = output.last_hidden_state
            return states

        return run_for_positions(self._decoder(), last, run)

    def _run_shared(self, tree: tuple[PrefixLevel, ...], vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        lora_moves = any(parameter.requires_grad for parameter in lora_parameters(self.lm).values())
        constant = [not level.has_slots for level in tree[:-1]]
        n_constant = constant.index(False) if False in constant else len(constant)
        decoder = self._decoder()
        return run_prefix_tree(
            decoder,
            tree,
            lambda level: hybrid_embeddings(self._embedding(), level.ids, level.slots, vectors),
            n_constant=0 if lora_moves or not torch.is_grad_enabled() else n_constant,
            read=partial(run_for_positions, decoder),
            cache=self._kept_prefixes(),
        )

    def _embedded(
        self, ids: torch.Tensor, slots: PromptBatch | PrefixLevel, vectors: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return hybrid_embeddings(self._embedding(), ids, slots.slots, vectors)

    def _kept_prefixes(self) -> PrefixCache | None:
        """Returns the cache where what it holds is what the frozen weights give, without any dropout."""
        if self._prefixes is None or self._frozen_lora_dropout or "lora" in self._trainable:
            return None
        self._prefixes.check_weights(weights_version(self.lm))
        return self._prefixes

    def _modules_of(self, group: Group) -> Iterator[tuple[str, nn.Module]]:
        """Yields the modules of a group beside the language model, with what their names begin with."""
        for name, encoder in self.encoders.items():
            prefix = f"{name}." if name else ""
            if group == ("projector" if _gives_tokens(encoder) else "encoder"):
                yield prefix, encoder
            if group == "projector" and name in self.projectors:
                yield prefix, self.projectors[name]

    def _embedding(self) -> nn.Module:
        embedding: nn.Module = self.lm.get_input_embeddings()  # type: ignore[operator]
        return embedding

    def _decoder(self) -> nn.Module:
        return decoder_of(self.lm)


def _key(name: str) -> str:
    """Returns the name of an encoder's module: modules cannot be called "" or "items"."""
    return f"of_{name}"


def _gives_tokens(encoder: EncoderModule) -> bool:
    """Whether an encoder gives token embeddings itself, so that nothing maps its vectors."""
    return "vectors" not in encoder.gives and "llm-tokens" in encoder.gives
