"""Attention of a prefix tree through PyTorch's own kernels: for GPUs, and for very long prompts.

Each level is padded to its longest node, whose queries read the keys of the node's ancestors besides its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from collm.model.prefix.attention_cpu import Nodes, ancestors


class _Rearrange(torch.autograd.Function):
    """Rows by index, where the backward pass is a selection by the inverse index: no scattered additions."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor, unread: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(inverse, unread)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        inverse, unread = ctx.saved_tensors
        gradient = gradients[0].index_select(0, inverse)
        return gradient.index_fill_(0, unread, 0) if unread.numel() else gradient, None, None, None


class _Layout:
    """One level in its packed form [n_tokens] and in its padded form [n_nodes, width]."""

    def __init__(self, nodes: Nodes) -> None:
        lengths, device = nodes.lengths, nodes.lengths.device
        self.n_nodes, self.width, self.n_tokens = len(lengths), int(lengths.max()), int(lengths.sum())
        offsets = torch.arange(self.width, device=device)
        self.real = offsets < lengths[:, None]
        before = torch.cumsum(lengths, 0) - lengths
        self._padded = (before[:, None] + offsets).masked_fill(~self.real, 0).reshape(-1)
        self._packed = self.real.reshape(-1).nonzero().reshape(-1)
        self._unread = (~self.real).reshape(-1).nonzero().reshape(-1)
        self._nothing = self._unread[:0]

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """[n_tokens, heads, dim] -> [n_nodes, width, heads, dim]; padded places hold other tokens, never read."""
        if self._unread.numel():
            x = _Rearrange.apply(x, self._padded, self._packed, self._nothing)  # type: ignore[no-untyped-call]
        return x.reshape(self.n_nodes, self.width, *x.shape[1:])

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """[n_nodes, width, size] -> [n_tokens, size]."""
        x = x.reshape(self.n_nodes * self.width, -1)
        if self._unread.numel():
            x = _Rearrange.apply(x, self._packed, self._padded, self._unread)  # type: ignore[no-untyped-call]
        return x


class _LevelPlan:
    """What one level's attention needs: own layout, which node of each earlier level it reads, and the mask."""

    def __init__(self, layouts: Sequence[_Layout], ancestors: Sequence[torch.Tensor]) -> None:
        self.layout = layouts[-1]
        width, device = self.layout.width, self.layout.real.device
        self.ancestors: list[torch.Tensor | None] = []
        parts = []
        for earlier, node in zip(layouts[:-1], ancestors, strict=True):
            same = earlier.n_nodes == len(node) and bool((node == torch.arange(len(node), device=device)).all())
            self.ancestors.append(None if same else node)
            parts.append(earlier.real[node][:, None, :].expand(-1, width, -1))
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        parts.append(causal.expand(self.layout.n_nodes, -1, -1))
        self._allowed = torch.cat(parts, dim=2)
        self._masks: dict[tuple[torch.dtype, int], torch.Tensor] = {}

    def mask(self, dtype: torch.dtype, n_groups: int) -> torch.Tensor:
        """Returns the additive mask [n_nodes, 1, n_groups * width, keys], made once per pass."""
        if (dtype, n_groups) not in self._masks:
            additive = torch.zeros(self._allowed.shape, dtype=dtype, device=self._allowed.device)
            additive.masked_fill_(~self._allowed, float("-inf"))
            self._masks[dtype, n_groups] = additive.repeat(1, n_groups, 1)[:, None]
        return self._masks[dtype, n_groups]


class LevelAttention:
    """The attention of one pass, the same for every decoder layer."""

    def __init__(self, levels: Sequence[Nodes], n_known: int) -> None:
        """Plans the levels from `n_known` on; the earlier ones are read only."""
        self._n_known = n_known
        self._layouts = [_Layout(nodes) for nodes in levels]
        self._plans = [
            _LevelPlan(self._layouts[: depth + 1], ancestors(levels, depth)) for depth in range(n_known, len(levels))
        ]

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attends.

        Args:
            query: [n_own, heads, dim] of the tokens computed in this pass.
            key: [n_known + n_own, key heads, dim], known levels first.
            value: As `key`.
            scaling: Factor on the logits; None = dim ** -0.5.

        Returns:
            [n_own, heads, dim].
        """
        sizes = [layout.n_tokens for layout in self._layouts]
        both = [
            [layout.pad(part) for layout, part in zip(self._layouts, torch.split(x, sizes), strict=True)]
            for x in (key, value)
        ]
        outputs = []
        for depth, (plan, own) in enumerate(
            zip(self._plans, torch.split(query, sizes[self._n_known :]), strict=True), start=self._n_known
        ):
            if not plan.layout.n_tokens:
                continue
            keys, values = both[0][: depth + 1], both[1][: depth + 1]
            outputs.append(_attend(plan, plan.layout.pad(own), keys, values, scaling))
        return torch.cat(outputs).view(query.shape[0], query.shape[1], -1)


def _attend(
    plan: _LevelPlan,
    query: torch.Tensor,
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    scaling: float | None,
) -> torch.Tensor:
    """Returns the packed attention output of one level, [n_tokens, heads * dim]."""
    n_nodes, width, n_heads, dim = query.shape
    n_groups = n_heads // keys[-1].shape[2]
    if not plan.ancestors:
        out = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys[0].transpose(1, 2),
            values[0].transpose(1, 2),
            is_causal=True,
            scale=scaling,
            enable_gqa=n_groups > 1,
        )
        return plan.layout.pack(out.transpose(1, 2))
    key, value = (
        torch.cat([x if n is None else x.index_select(0, n) for x, n in zip(each, nodes, strict=True)], dim=1)
        for each, nodes in ((keys, [*plan.ancestors, None]), (values, [*plan.ancestors, None]))
    )
    # Query heads that share a key head become more queries of it: no copy of keys, and every kernel takes the mask.
    folded = query.view(n_nodes, width, -1, n_groups, dim).permute(0, 2, 3, 1, 4)
    out = functional.scaled_dot_product_attention(
        folded.reshape(n_nodes, -1, n_groups * width, dim),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=plan.mask(query.dtype, n_groups),
        scale=scaling,
    )
    out = out.view(n_nodes, -1, n_groups, width, out.shape[-1]).permute(0, 3, 1, 2, 4)
    return plan.layout.pack(out)


class FlexAttention:
    """The attention of one pass through FlexAttention: one call per layer, which skips what no token reads.

    An alternative to `LevelAttention` for CUDA devices, compared with it by `make gpu-check`. On a processor it has no
    backward pass.
    """

    def __init__(self, levels: Sequence[Nodes], n_known: int) -> None:
        """Plans the mask of the levels from `n_known` on; the earlier ones are read only."""
        self._mask = _mask(levels, n_known)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attends; see `LevelAttention`."""
        out: torch.Tensor = _kernel(query.device.type)(
            *(x.transpose(0, 1)[None] for x in (query, key, value)),
            block_mask=self._mask,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out[0].transpose(0, 1)


@cache
def _kernel(device_type: str) -> Callable[..., Any]:
    """Returns the kernel, compiled on a CUDA device for any number of tokens."""
    plain: Callable[..., Any] = flex_attention
    return torch.compile(plain, dynamic=True) if device_type == "cuda" else plain


def _mask(levels: Sequence[Nodes], n_known: int) -> BlockMask:
    """Returns which token reads which: those of its own node up to itself, and all of the node's ancestors."""
    level, node, lines = _places(levels)
    n_above = sum(int(nodes.lengths.sum()) for nodes in levels[:n_known])

    def reads(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        own = query + n_above
        in_line = lines[level[key], own] == node[key]
        return in_line & ((level[key] < level[own]) | (key <= own))

    n = len(level)
    return create_block_mask(reads, None, None, n - n_above, n, device=str(level.device))


def _places(levels: Sequence[Nodes]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns level and node of each packed row, int64 [n_tokens], and its node on every level, [n_levels, n_tokens].

    Below its own level a token is in no node, -1.
    """
    level, node, lines = [], [], []
    for depth, nodes in enumerate(levels):
        own = torch.repeat_interleave(torch.arange(len(nodes.lengths), device=nodes.lengths.device), nodes.lengths)
        level.append(torch.full_like(own, depth))
        node.append(own)
        above = [index[own] for index in ancestors(levels, depth)]
        below = [torch.full_like(own, -1)] * (len(levels) - depth - 1)
        lines.append(torch.stack([*above, own, *below]))
    return torch.cat(level), torch.cat(node), torch.cat(lines, dim=1)
