"""The mapping g_phi: encoder vectors to token embeddings (paper eq. 5, fact 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from collm.contracts.encoder import EncoderBatch
from collm.errors import RunError
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.prefix.batch import PromptBatch
from collm.model.prefix.levels import NO_SLOTS, Slots

ProjectorInit = Literal["token-norm", "torch-default"]
_SMALLEST_STD = 1e-6


class Projector(nn.Module):
    """Linear(d, 10 d) - ReLU - Linear(10 d, hidden * n_tokens), in float32.

    One module serves user and item where both vectors have one length, else there are two (`shared` says which).

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
        user_dim: int,
        item_dim: int,
        hidden_size: int,
        *,
        n_tokens: int = 1,
        width_factor: int = 10,
        init: ProjectorInit = "token-norm",
        standardise: bool = True,
    ) -> None:
        """Builds the layers from torch's global generator.

        Args:
            user_dim: d_u.
            item_dim: d_i.
            hidden_size: Width of the token embeddings.
            n_tokens: Token embeddings per vector.
            width_factor: Width of the hidden layer over the input's.
            init: See the class.
            standardise: See the class.
        """
        super().__init__()
        self.n_tokens, self.hidden_size, self.init, self.standardise = n_tokens, hidden_size, init, standardise
        self.shared = user_dim == item_dim
        dims = {"both": user_dim} if self.shared else {"user": user_dim, "item": item_dim}
        self.mlps = nn.ModuleDict(
            {
                side: nn.Sequential(
                    nn.Linear(dim, width_factor * dim), nn.ReLU(), nn.Linear(width_factor * dim, hidden_size * n_tokens)
                )
                for side, dim in dims.items()
            }
        )
        for side, dim in (("user", user_dim), ("item", item_dim)):
            self.register_buffer(f"{side}_mean", torch.zeros(dim))
            self.register_buffer(f"{side}_std", torch.ones(dim))

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps vectors to token embeddings.

        Args:
            user: float [batch, d_u].
            item: float [batch, d_i].

        Returns:
            User and item embeddings, each float32 [batch, n_tokens, hidden].
        """
        return self._map("user", user), self._map("item", item)

    def items(self, item: torch.Tensor) -> torch.Tensor:
        """Maps item vectors [n, d_i] alone; float32 [n, n_tokens, hidden]."""
        return self._map("item", item)

    @torch.no_grad()
    def calibrate(self, user: torch.Tensor, item: torch.Tensor, *, target_rms: float) -> None:
        """Sets input statistics and output scale from sample rows, where the settings ask for either.

        Args:
            user: float [n, d_u] user vectors of training rows, n >= 1.
            item: float [n, d_i] item vectors of the same rows.
            target_rms: Root mean square of the token embeddings' entries.

        Raises:
            RunError: If there is no row or a vector is not finite.
        """
        if self.init == "torch-default" and not self.standardise:
            return
        for side, vectors in (("user", user.float()), ("item", item.float())):
            if not len(vectors) or not torch.isfinite(vectors).all():
                raise RunError(
                    f"projector: {side} vectors to calibrate on are {'missing' if not len(vectors) else 'not finite'}"
                )
            if self.standardise:
                getattr(self, f"{side}_mean").copy_(vectors.mean(0))
                spread = vectors.var(0, correction=0).mean().sqrt()
                getattr(self, f"{side}_std").fill_(spread.clamp_min(_SMALLEST_STD))
        if self.init == "torch-default":
            return
        outputs = self(user, item)
        by_module = {"both": torch.cat(outputs)} if self.shared else dict(zip(("user", "item"), outputs, strict=True))
        for side, output in by_module.items():
            rms = float(output.square().mean().sqrt())
            last = self.mlps[side][-1]  # type: ignore[index]
            last.weight.mul_(target_rms / max(rms, _SMALLEST_STD))
            last.bias.mul_(target_rms / max(rms, _SMALLEST_STD))

    def _map(self, side: str, vectors: torch.Tensor) -> torch.Tensor:
        mlp = self.mlps["both" if self.shared else side]
        standard = (vectors.float() - getattr(self, f"{side}_mean")) / getattr(self, f"{side}_std")
        output: torch.Tensor = mlp(standard)
        return output.view(len(vectors), self.n_tokens, self.hidden_size)


def hybrid_embeddings(
    embedding: nn.Module,
    ids: torch.Tensor,
    *,
    user: tuple[Slots, torch.Tensor | None],
    item: tuple[Slots, torch.Tensor | None],
    history: tuple[Slots, torch.Tensor | None] = (NO_SLOTS, None),
) -> torch.Tensor:
    """Embeds tokens and puts vectors into the slots.

    Args:
        embedding: The language model's token embedding.
        ids: int64 [n_tokens]; ids at slots are placeholders.
        user: Slots, and the vectors they take, [batch * k, hidden]; None leaves the placeholders.
        item: Likewise.
        history: Likewise, [batch * length * k, hidden].

    Returns:
        [n_tokens, hidden] in the embedding's dtype; gradients reach the vectors.
    """
    embedded: torch.Tensor = embedding(ids)
    for slots, vectors in (user, item, history):
        if vectors is not None and slots.at.numel():
            chosen = vectors.index_select(0, slots.source).to(embedded.dtype)
            embedded = embedded.index_copy(0, slots.at, chosen)
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


@dataclass(frozen=True)
class SlotVectors:
    """Token embeddings for the slots of a batch; None where there are no slots.

    Attributes:
        user: [batch * k, hidden].
        item: [batch * k, hidden].
        history: [batch * length * k, hidden].
    """

    user: torch.Tensor | None = None
    item: torch.Tensor | None = None
    history: torch.Tensor | None = None


def slot_vectors(batch: PromptBatch, encoder: EncoderModule | None, projector: Projector | None) -> SlotVectors:
    """Returns the token embeddings for all slots of a batch.

    Args:
        batch: Prompts with the encoder's input for their rows.
        encoder: Gives the vectors.
        projector: Maps them; None where the encoder gives token embeddings itself.

    Raises:
        RunError: If there are slots and nothing fills them, or a slot has another number of tokens than its vectors.
    """
    if not (batch.user.at.numel() or batch.item.at.numel() or batch.history.at.numel()):
        return SlotVectors()
    if encoder is None or batch.encoder is None:
        raise RunError("the prompts have user or item slots, but there is no encoder to fill them")
    moves = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
    with torch.set_grad_enabled(moves), naming_encoder(encoder, "encode"):
        pair = encoder.encode(batch.encoder)
    user, item = (pair.user, pair.item) if projector is None else projector(pair.user, pair.item)
    for slots, vectors in ((batch.user, user), (batch.item, item)):
        if slots.at.numel() not in (0, vectors.shape[0] * vectors.shape[1]):
            raise RunError(
                f"the prompt has {slots.at.numel() // len(batch)} tokens per slot, the vectors {vectors.shape[1]}"
            )
    history = None
    if batch.history_items is not None:
        history = _item_vectors(batch.history_items, encoder, projector, moves=moves)
    return SlotVectors(user.flatten(0, 1), item.flatten(0, 1), history)


def _item_vectors(
    items: torch.Tensor, encoder: EncoderModule, projector: Projector | None, *, moves: bool
) -> torch.Tensor:
    """Returns the vectors of items without user and history, each distinct one computed once.

    Args:
        items: int64 [batch, length], 0 = none.
        encoder: Gives the vectors.
        projector: Maps them.
        moves: Whether the encoder trains.

    Returns:
        float [batch * length * k, hidden].
    """
    ids, places = torch.unique(items, return_inverse=True)
    n = len(ids)
    batch = EncoderBatch(
        user=torch.zeros_like(ids),
        item=ids,
        history=ids.new_zeros((n, encoder.history_items)) if encoder.history_items else None,
        earlier=ids.new_zeros((n, 4), dtype=torch.float32) if encoder.reads_earlier_labels else None,
    )
    with torch.set_grad_enabled(moves), naming_encoder(encoder, "encode"):
        vectors = encoder.encode(batch).item
    mapped = vectors if projector is None else projector.items(vectors)
    return mapped[places.reshape(-1)].flatten(0, 1)
