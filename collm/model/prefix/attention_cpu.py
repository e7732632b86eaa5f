"""Attention of a prefix tree as plain matrix products over blocks of like-sized nodes, for processors.

PyTorch's fused kernel works there in small pieces: on the shapes of prompts these products take 0.6 of its time forward
and 0.2 backward (docs/speed.md). Every token of a block reads its ancestors' tokens and its own node's up to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

# Queries of one block: later ones read more keys, so that a long node is cut instead of computing what is masked.
SPAN = 96
# Two blocks in place of one must save this many query-key pairs: about what the calls for another block cost.
WORTHWHILE = 8_192
# Keys per query are padded to a multiple: softmax over rows of whole vector registers takes 0.6 of the time.
LANES = 32


@dataclass(frozen=True)
class Nodes:
    """Nodes of one level within the packed rows of all levels.

    Attributes:
        first: int64 [n_nodes] row of each node's first token.
        lengths: int64 [n_nodes] tokens.
        parent: int64 [n_nodes] node of the level above.
    """

    first: torch.Tensor
    lengths: torch.Tensor
    parent: torch.Tensor


@dataclass(frozen=True)
class Block:
    """Some queries of some nodes of one level, and the keys that they read.

    Attributes:
        queries: int64 [n, width] packed rows, -1 = padding.
        keys: int64 [n, reach] packed rows; padding holds 0 and is not allowed.
        allowed: bool [n, width, reach] which query reads which key; at least one each.
        n_known: Leading keys that belong to known levels, so that no gradient reaches them.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    allowed: torch.Tensor
    n_known: int


def plan_blocks(levels: Sequence[Nodes], n_known: int) -> list[Block]:
    """Cuts the attention of a pass into blocks.

    Args:
        levels: All levels from the root down.
        n_known: Leading levels that are read only: their queries were computed in an earlier pass.

    Returns:
        Blocks that hold every token below the known levels once.
    """
    blocks: list[Block] = []
    for depth in range(n_known, len(levels)):
        own = levels[depth]
        above = list(zip(levels[:depth], ancestors(levels, depth), strict=True))
        reach = own.lengths.clone()
        for nodes, index in above:
            reach += nodes.lengths[index]
        for members in _like_sized(own.lengths, reach):
            width = int(own.lengths[members].max())
            n_spans = -(-width // SPAN)
            span = -(-width // n_spans)
            for start in range(0, width, span):
                chosen = members[own.lengths[members] > start]
                end = min(start + span, int(own.lengths[chosen].max()))
                blocks.append(_block(own, above, chosen, start, end, n_known=n_known))
    return blocks


def ancestors(levels: Sequence[Nodes], depth: int) -> list[torch.Tensor]:
    """Returns, for every level above `depth` from the root down, which of its nodes a node of `depth` hangs from."""
    found: list[torch.Tensor] = []
    for level in range(depth, 0, -1):
        parent = levels[level].parent
        found.insert(0, parent[found[0]] if found else parent)
    return found


def _like_sized(widths: torch.Tensor, reach: torch.Tensor) -> list[torch.Tensor]:
    """Groups nodes so that padding all of a group to its widest and longest costs little. Empty nodes are left out."""
    waiting, groups = [torch.nonzero(widths).reshape(-1)], []
    while waiting:
        members = waiting.pop()
        if not len(members):
            continue
        best = (len(members) * int(widths[members].max()) * int(reach[members].max()) - WORTHWHILE, None)
        for sizes in (widths, reach):
            order = members[torch.argsort(sizes[members], stable=True)]
            best = min(best, _best_cut(order, widths[order], reach[order]), key=lambda option: option[0])
        if best[1] is None:
            groups.append(members)
        else:
            waiting += best[1]
    return groups


def _best_cut(order: torch.Tensor, widths: torch.Tensor, reach: torch.Tensor) -> tuple[int, Any]:
    """Returns the padded query-key pairs after the best cut of a sorted list in two, and the two parts."""
    n = len(order)
    if n < 2:
        return 1 << 62, None
    counts = torch.arange(1, n)
    head = counts * torch.cummax(widths, 0)[0][:-1] * torch.cummax(reach, 0)[0][:-1]
    tail_widths, tail_reach = (torch.cummax(sizes.flip(0), 0)[0].flip(0)[1:] for sizes in (widths, reach))
    costs = head + (n - counts) * tail_widths * tail_reach
    cut = int(costs.argmin()) + 1
    return int(costs[cut - 1]), [order[:cut], order[cut:]]


def _block(
    own: Nodes,
    above: Sequence[tuple[Nodes, torch.Tensor]],
    members: torch.Tensor,
    start: int,
    end: int,
    *,
    n_known: int,
) -> Block:
    n, width = len(members), end - start
    keys, allowed = [], []
    for nodes, index in above:
        chosen = index[members]
        lengths = nodes.lengths[chosen]
        offsets = torch.arange(int(lengths.max()))
        real = offsets < lengths[:, None]
        keys.append((nodes.first[chosen][:, None] + offsets).masked_fill(~real, 0))
        allowed.append(real[:, None, :].expand(n, width, -1))
    offsets = torch.arange(end)
    inside = offsets < own.lengths[members][:, None]
    rows = own.first[members][:, None] + offsets
    keys.append(rows.masked_fill(~inside, 0))
    causal = offsets[None, :] <= torch.arange(start, end)[:, None]
    # A padded query may read padded keys: its result is not used, and no row of logits is masked throughout.
    allowed.append(causal.expand(n, width, end))
    queries = rows.masked_fill(~inside, -1)[:, start:]
    known = sum(each.shape[1] for each in keys[:n_known])
    unused = -sum(each.shape[1] for each in keys) % LANES
    return Block(queries, pad(torch.cat(keys, dim=1), (0, unused)), pad(torch.cat(allowed, dim=2), (0, unused)), known)


@dataclass(frozen=True)
class _Gather:
    """One block for a given number of heads; keys and queries are rows of head vectors.

    Attributes:
        queries: int64 rows in the order [n, key heads, queries per key head, width].
        unread: int64 positions among `queries` that are padding.
        keys: int64 rows in the order [n, key heads, reach].
        moving: int64 rows of the keys that gradients reach: all but the first `n_known` of each node.
        mask: [n, 1, 1, width, reach] added to logits.
        batch: n * key heads.
        n_known: Leading keys of each node that gradients do not reach.
    """

    queries: torch.Tensor
    unread: torch.Tensor
    keys: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor
    batch: int
    n_known: int

    def logits_shape(self, n_groups: int) -> tuple[int, int, int, int, int]:
        """Returns [n, key heads, queries per key head, width, reach]."""
        n, _, _, width, reach = self.mask.shape
        return n, self.batch // n, n_groups, width, reach


class BlockAttention:
    """The attention of one pass, the same for every decoder layer."""

    def __init__(self, levels: Sequence[Nodes], n_known: int) -> None:
        """Plans the blocks; see `plan_blocks`."""
        self._blocks = plan_blocks(levels, n_known)
        self._first = sum(int(nodes.lengths.sum()) for nodes in levels[:n_known])
        self._gathers: dict[tuple[int, int, torch.dtype], tuple[list[_Gather], torch.Tensor]] = {}

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attends.

        Args:
            query: [n_own, heads, dim] of the tokens computed in this pass.
            key: [n_known + n_own, key heads, dim], known levels first; those get no gradient.
            value: As `key`.
            scaling: Factor on the logits; None = dim ** -0.5.

        Returns:
            [n_own, heads, dim].
        """
        n_heads, n_key_heads, dim = query.shape[1], key.shape[1], query.shape[2]
        gathers, rows = self._gather(n_heads, n_key_heads, query.dtype)
        factor = dim**-0.5 if scaling is None else scaling
        flat = (query.reshape(-1, dim), key.reshape(-1, dim), value.reshape(-1, value.shape[2]))
        out: torch.Tensor = _Attend.apply(*flat, gathers, rows, n_heads // n_key_heads, factor)  # type: ignore[no-untyped-call]
        return out.view(query.shape[0], n_heads, -1)

    def _gather(self, n_heads: int, n_key_heads: int, dtype: torch.dtype) -> tuple[list[_Gather], torch.Tensor]:
        name = (n_heads, n_key_heads, dtype)
        if name not in self._gathers:
            gathers = [self._for_heads(block, *name) for block in self._blocks]
            queries = torch.cat([gather.queries.index_fill(0, gather.unread, -1) for gather in gathers])
            real = torch.nonzero(queries >= 0).reshape(-1)
            rows = torch.empty_like(real)
            rows[queries[real]] = real
            self._gathers[name] = gathers, rows
        return self._gathers[name]

    def _for_heads(self, block: Block, n_heads: int, n_key_heads: int, dtype: torch.dtype) -> _Gather:
        n = len(block.queries)
        heads = torch.arange(n_heads).view(1, n_key_heads, -1, 1)
        tokens = (block.queries - self._first)[:, None, None, :]
        queries = torch.where(block.queries[:, None, None, :] < 0, -1, tokens * n_heads + heads).reshape(-1)
        unread = torch.nonzero(queries < 0).reshape(-1)
        keys = block.keys[:, None, :] * n_key_heads + torch.arange(n_key_heads)[:, None]
        mask = torch.zeros(block.allowed.shape, dtype=dtype).masked_fill_(~block.allowed, float("-inf"))
        return _Gather(
            queries=queries.index_fill_(0, unread, 0),
            unread=unread,
            keys=keys.reshape(-1),
            moving=keys[:, :, block.n_known :].reshape(-1),
            mask=mask[:, None, None],
            batch=n * n_key_heads,
            n_known=block.n_known,
        )


class _Attend(torch.autograd.Function):
    """softmax(q k^T + mask) v, block by block. Weights are kept for the backward pass.

    Gradients of keys and values that are known from an earlier pass are 0: they were computed without gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        gathers: Sequence[_Gather],
        rows: torch.Tensor,
        n_groups: int,
        factor: float,
    ) -> torch.Tensor:
        weights, parts = [], []
        for gather in gathers:
            q, k, v = _chosen(gather, query, key, value)
            logits = torch.bmm(q, k.transpose(1, 2))
            # Scale and mask in one pass over the largest array there is.
            shaped = logits.view(gather.logits_shape(n_groups))
            torch.add(gather.mask, shaped, alpha=factor, out=shaped)
            weights.append(torch.softmax(logits, dim=-1))
            parts.append(torch.bmm(weights[-1], v).view(-1, v.shape[2]))
        ctx.gathers, ctx.rows, ctx.factor = gathers, rows, factor
        ctx.save_for_backward(query, key, value, *weights)
        return torch.cat(parts).index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        d_key, d_value = (torch.zeros(x.shape, dtype=torch.float32) for x in (key, value))
        d_queries = []
        for gather, p in zip(ctx.gathers, weights, strict=True):
            q, k, v = _chosen(gather, query, key, value)
            d_out = gradients[0].index_select(0, gather.queries)
            if gather.unread.numel():
                d_out.index_fill_(0, gather.unread, 0)
            d_out = d_out.view(gather.batch, -1, v.shape[2])
            # Keys and values of computed levels are constants: most of what a branch reads, and they need no gradient.
            _collect(d_value, gather.moving, torch.bmm(p[:, :, gather.n_known :].transpose(1, 2), d_out))
            d_p = torch.bmm(d_out, v.transpose(1, 2))
            d_logits = torch._softmax_backward_data(d_p, p, -1, p.dtype)
            _collect(d_key, gather.moving, torch.bmm(d_logits[:, :, gather.n_known :].transpose(1, 2), q))
            d_queries.append(torch.bmm(d_logits, k).view(-1, q.shape[2]))
        d_query = torch.cat(d_queries).index_select(0, ctx.rows).mul_(ctx.factor)
        return d_query, d_key.mul_(ctx.factor).to(key.dtype), d_value.to(value.dtype), None, None, None, None


def _chosen(gather: _Gather, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns a block's queries [batch, groups * width, dim], keys and values [batch, reach, dim]."""
    sides = ((query, gather.queries), (key, gather.keys), (value, gather.keys))
    q, k, v = (x.index_select(0, rows).view(gather.batch, -1, x.shape[1]) for x, rows in sides)
    return q, k, v


def _collect(total: torch.Tensor, rows: torch.Tensor, parts: torch.Tensor) -> None:
    """Adds up gradients of key rows, which several queries and nodes read, in float32."""
    total.index_add_(0, rows, parts.view(-1, total.shape[1]).float())
