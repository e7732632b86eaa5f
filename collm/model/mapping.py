"""The mapping g_phi: encoder vectors to token embeddings (paper eq. 5, fact 15)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import nn

from collm.contracts.encoder import EncodedPair, EncoderBatch, of_encoder
from collm.contracts.prompt import TITLE_SLOTS
from collm.errors import RunError
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.prefix.batch import PromptBatch
from collm.model.prefix.levels import Slots

ProjectorInit = Literal["token-norm", "torch-default"]
_SMALLEST_STD = 1e-6


class Projector(nn.Module):
    """Linear(d, 10 d) - ReLU - Linear(10 d, hidden * n_tokens), in float32, for the vectors of one encoder.

    One module serves user and item where both vectors have one length, else there are two (`shared` says which). Where
    a side has several vectors per slot, one module maps them all, or each has its own (`n_vectors`).

    `calibrate` must be called before training unless `init="torch-default"` and `standardise=False`, the paper's
    mapping. With `standardise` it centres each side's vectors over sample rows and divides them by their root mean
    square deviation (buffers, kept for good). With `init="token-norm"` it scales the last layer so that its outputs
    start with the token embeddings' root mean square. Raw encoder vectors differ in scale by orders of magnitude
    between encoders, and a default-initialised mapping starts far from what the language model reads. All dimensions
    of a side share one scale: which of them vary most is what the encoder learnt (mf-bias spreads its biases a hundred
    times wider than its factors), and equal variances would bury it.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        hidden_size: int,
        *,
        n_tokens: int = 1,
        width_factor: int = 10,
        init: ProjectorInit = "token-norm",
        standardise: bool = True,
        n_vectors: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Builds the layers from torch's global generator.

        Args:
            dims: Side (`user`, `item`, `context`) -> length of its vectors.
            hidden_size: Width of the token embeddings.
            n_tokens: Token embeddings per vector.
            width_factor: Width of the hidden layer over the input's.
            init: See the class.
            standardise: See the class.
            n_vectors: Side -> vectors per slot, where several are to be mapped by a module each; of other sides one
                module maps all.
        """
        super().__init__()
        self.n_tokens, self.hidden_size, self.init, self.standardise = n_tokens, hidden_size, init, standardise
        self.sides = tuple(dims)
        self._own = frozenset(side for side, count in n_vectors.items() if count > 1)
        self.shared = dims.get("user") == dims.get("item") and not self._own & {"user", "item"}
        widths: dict[str, int] = {}
        for side, dim in dims.items():
            widths |= {self._module_name(side, place): dim for place in range(n_vectors.get(side, 1))}
        self.mlps = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(dim, width_factor * dim), nn.ReLU(), nn.Linear(width_factor * dim, hidden_size * n_tokens)
                )
                for name, dim in widths.items()
            }
        )
        for side, dim in dims.items():
            self.register_buffer(f"{side}_mean", torch.zeros(dim))
            self.register_buffer(f"{side}_std", torch.ones(dim))

    def forward(self, side: str, vectors: torch.Tensor) -> torch.Tensor:
        """Maps the vectors of a side to token embeddings.

        Args:
            side: `user`, `item` or `context`.
            vectors: float [batch, d], or [batch, k, d] where a slot takes k vectors.

        Returns:
            float32 [batch, k * n_tokens, hidden].
        """
        several = vectors if vectors.dim() == 3 else vectors[:, None]
        standard = (several.float() - getattr(self, f"{side}_mean")) / getattr(self, f"{side}_std")
        if side in self._own:
            mapped = [self.mlps[self._module_name(side, place)](each) for place, each in enumerate(standard.unbind(1))]
            output = torch.stack(mapped, dim=1)
        else:
            output = self.mlps[self._module_name(side, 0)](standard)
        return output.reshape(len(several), -1, self.hidden_size)

    @torch.no_grad()
    def calibrate(self, vectors: Mapping[str, torch.Tensor], *, target_rms: float) -> None:
        """Sets input statistics and output scale from sample rows, where the settings ask for either.

        Args:
            vectors: Side -> float [n, d] or [n, k, d] vectors of the same training rows, n >= 1.
            target_rms: Root mean square of the token embeddings' entries.

        Raises:
            RunError: If there is no row or a vector is not finite.
        """
        if self.init == "torch-default" and not self.standardise:
            return
        for side, found in vectors.items():
            flat = found.float().reshape(-1, found.shape[-1])
            if not len(flat) or not torch.isfinite(flat).all():
                raise RunError(
                    f"projector: {side} vectors to calibrate on are {'missing' if not len(flat) else 'not finite'}"
                )
            if self.standardise:
                getattr(self, f"{side}_mean").copy_(flat.mean(0))
                spread = flat.var(0, correction=0).mean().sqrt()
                getattr(self, f"{side}_std").fill_(spread.clamp_min(_SMALLEST_STD))
        if self.init == "torch-default":
            return
        outputs: dict[str, list[torch.Tensor]] = {}
        for side, found in vectors.items():
            for place, tokens in enumerate(self(side, found).split(self.n_tokens, dim=1)):
                outputs.setdefault(self._module_name(side, place), []).append(tokens)
        for name, parts in outputs.items():
            rms = float(torch.cat(parts).square().mean().sqrt())
            last = self.mlps[name][-1]  # type: ignore[index]
            last.weight.mul_(target_rms / max(rms, _SMALLEST_STD))
            last.bias.mul_(target_rms / max(rms, _SMALLEST_STD))

    def modules_of(self, side: str, n_vectors: int) -> list[str]:
        """Returns the name in `mlps` of what maps each of a slot's vectors."""
        return [self._module_name(side, place) for place in range(n_vectors)]

    def _module_name(self, side: str, place: int) -> str:
        if side in self._own:
            return f"{side}-{place}"
        return "both" if self.shared and side != "context" else side


def hybrid_embeddings(
    embedding: nn.Module, ids: torch.Tensor, slots: Mapping[str, Slots], vectors: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Embeds tokens and puts vectors into the slots.

    Args:
        embedding: The language model's token embedding.
        ids: int64 [n_tokens]; ids at slots are placeholders.
        slots: Name -> slots among the tokens.
        vectors: Name -> what they take, [n, hidden], as `slot_vectors` gives it.

    Returns:
        [n_tokens, hidden] in the embedding's dtype; gradients reach the vectors.
    """
    embedded: torch.Tensor = embedding(ids)
    for name, places in slots.items():
        if places.at.numel():
            chosen = vectors[name].index_select(0, places.source).to(embedded.dtype)
            embedded = embedded.index_copy(0, places.at, chosen)
    return embedded


@torch.no_grad()
def embedding_rms(embedding: nn.Module) -> float:
    """Returns the root mean square over all entries of the token embeddings, scaled where the model scales them."""
    weight = embedding.weight
    assert isinstance(weight, torch.Tensor)
    # Row-wise norms accumulate in float32 without a float32 copy of the whole table.
    squares = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square().mean()
    scale = getattr(embedding, "embed_scale", 1.0)
    return float((squares / weight.shape[1]).sqrt()) * float(scale)


def slot_vectors(
    batch: PromptBatch, encoders: Mapping[str, EncoderModule], projectors: Mapping[str, Projector]
) -> dict[str, torch.Tensor]:
    """Returns the token embeddings for all slots of a batch.

    Args:
        batch: Prompts with the encoders' inputs for their rows.
        encoders: Name -> what gives vectors.
        projectors: Name -> what maps them; none for an encoder that gives token embeddings itself.

    Returns:
        Slot name -> [batch * k, hidden]; of slots behind titles [batch * length * k, hidden].

    Raises:
        RunError: If there are slots and nothing fills them, or a slot has another number of tokens than its vectors.
    """
    asked: dict[str, list[str]] = {}
    for name, slots in batch.slots.items():
        if slots.at.numel():
            side, _, encoder = name.partition(".")
            asked.setdefault(encoder, []).append(side)
    found: dict[str, torch.Tensor] = {}
    for name, sides in asked.items():
        if name not in encoders or name not in batch.encoders:
            what = f"encoder '{name}'" if name else "encoder"
            raise RunError(f"the prompts have {' and '.join(sides)} slots, but there is no {what} to fill them")
        for side, vectors in _vectors_of(batch, name, sides, encoders[name], projectors.get(name)):
            found[of_encoder(side, name)] = vectors
    return found


def _vectors_of(
    batch: PromptBatch, name: str, sides: list[str], encoder: EncoderModule, projector: Projector | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the sides of one encoder with their token embeddings."""
    moves = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())

    def encoded(encoder_batch: EncoderBatch) -> EncodedPair:
        with torch.set_grad_enabled(moves), naming_encoder(encoder, "encode"):
            return encoder.encode(encoder_batch)

    def mapped(pair: EncodedPair, side: str) -> torch.Tensor:
        vectors = side_of(pair, side)
        return vectors if projector is None else projector(side, vectors)

    # Rows whose slots follow titles alone need no vectors of their own.
    pair = encoded(batch.encoders[name]) if not set(sides) <= set(TITLE_SLOTS) else None
    for side in sides:
        if side in TITLE_SLOTS or pair is None:
            assert batch.history_items is not None
            # Each distinct item is computed once.
            ids, places = torch.unique(batch.history_items, return_inverse=True)
            items = mapped(encoded(items_alone(ids, encoder)), "item")
            yield side, items[places.reshape(-1)].flatten(0, 1)
            continue
        vectors = mapped(pair, side)
        n_slots = batch.slots[of_encoder(side, name)].at.numel()
        if n_slots != vectors.shape[0] * vectors.shape[1]:
            raise RunError(
                f"the prompt has {n_slots // len(batch)} tokens per {side} slot, the vectors {vectors.shape[1]}"
            )
        yield side, vectors.flatten(0, 1)


def side_of(pair: EncodedPair, side: str) -> torch.Tensor:
    """Returns one side's vectors.

    Raises:
        RunError: If the encoder does not give them.
    """
    vectors: torch.Tensor | None = getattr(pair, side)
    if vectors is None:
        raise RunError(f"the prompt has a {side} slot, but the encoder's `encode` gives no {side} vectors")
    return vectors


def items_alone(ids: torch.Tensor, encoder: EncoderModule) -> EncoderBatch:
    """Returns items without user, history and earlier labels as an encoder's input; int64 ids [n]."""
    n, n_half_lives = len(ids), len(encoder.half_lives)
    return EncoderBatch(
        user=torch.zeros_like(ids),
        item=ids,
        history=ids.new_zeros((n, encoder.history_items)) if encoder.history_items else None,
        earlier=ids.new_zeros((n, 4), dtype=torch.float32) if encoder.reads_earlier_labels else None,
        recent=ids.new_zeros((n, 2, n_half_lives, 2), dtype=torch.float32) if n_half_lives else None,
        days_since=ids.new_full((n, 2), -1, dtype=torch.float32) if n_half_lives else None,
        timestamp=torch.zeros_like(ids) if encoder.reads_time else None,
    )
