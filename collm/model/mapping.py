"""The mapping g_phi: encoder vectors to token embeddings (paper eq. 5, fact 15)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from collm.errors import RunError
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
