"""Attention of a prefix tree through PyTorch's FlexAttention: one call per layer that skips what no token reads.

An alternative to `attention_gpu.LevelAttention` for CUDA devices, compared with it by `make gpu-check`. On a processor
it has no backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from collm.model.prefix.attention_cpu import Nodes, ancestors


class FlexAttention:
    """The attention of one pass, the same for every decoder layer."""

    def __init__(self, levels: Sequence[Nodes], n_known: int) -> None:
        """Plans the mask of the levels from `n_known` on; the earlier ones are read only."""
        self._mask = _mask(levels, n_known)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attends.

        Args:
            query: [n_own, heads, dim] of the tokens computed in this pass.
            key: [n_known + n_own, key heads, dim], known levels first.
            value: The same for values.
            scaling: Factor on the logits; None = dim ** -0.5.

        Returns:
            [n_own, heads, dim].
        """
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
