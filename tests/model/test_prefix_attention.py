"""Both ways to attend over a prefix tree against attention written row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.model.prefix import attention_cpu
from collm.model.prefix.attention_cpu import BlockAttention, Nodes, ancestors, plan_blocks
from collm.model.prefix.attention_gpu import FlexAttention, LevelAttention

DIM = 8


def random_levels(seed: int, n_nodes: list[int], longest: int) -> list[Nodes]:
    generator = torch.Generator().manual_seed(seed)
    levels, first = [], 0
    for depth, n in enumerate(n_nodes):
        lengths = torch.randint(0 if depth else 1, longest, (n,), generator=generator)
        if depth == len(n_nodes) - 1:
            lengths += 1
        above = n_nodes[depth - 1] if depth else 1
        parent = torch.randint(0, above, (n,), generator=generator).sort().values
        levels.append(Nodes(first + torch.cumsum(lengths, 0) - lengths, lengths, parent))
        first += int(lengths.sum())
    return levels


def by_rows(levels: list[Nodes], n_known: int, query, key, value, scaling: float) -> torch.Tensor:
    """Attention of every token by itself."""
    skipped = sum(int(nodes.lengths.sum()) for nodes in levels[:n_known])
    out = torch.zeros(query.shape[0], query.shape[1], value.shape[2])
    groups = query.shape[1] // key.shape[1]
    for depth in range(n_known, len(levels)):
        above = ancestors(levels, depth)
        for node in range(len(levels[depth].lengths)):
            seen = [
                torch.arange(int(level.lengths[index[node]])) + int(level.first[index[node]])
                for level, index in zip(levels[:depth], above, strict=True)
            ]
            first = int(levels[depth].first[node])
            for place in range(int(levels[depth].lengths[node])):
                rows = torch.cat([*seen, torch.arange(first, first + place + 1)])
                for head in range(query.shape[1]):
                    k, v = key[rows, head // groups], value[rows, head // groups]
                    weights = torch.softmax(k @ query[first + place - skipped, head] * scaling, 0)
                    out[first + place - skipped, head] = weights @ v
    return out


def sample(levels: list[Nodes], n_known: int, heads: int, key_heads: int):
    torch.manual_seed(0)
    n = sum(int(nodes.lengths.sum()) for nodes in levels)
    own = n - sum(int(nodes.lengths.sum()) for nodes in levels[:n_known])
    shapes = ((own, heads, DIM), (n, key_heads, DIM), (n, key_heads, DIM))
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n_nodes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    longest=st.sampled_from([2, 5, 12]),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    known=st.integers(0, 2),
    way=st.sampled_from([BlockAttention, LevelAttention]),
)
def test_equals_attention_row_by_row(seed, n_nodes, longest, heads, known, way):
    levels = random_levels(seed, n_nodes, longest)
    n_known = min(known, len(levels) - 1)
    inputs = sample(levels, n_known, *heads)
    expected = by_rows(levels, n_known, *inputs, 0.3)
    found = way(levels, n_known)(*inputs, 0.3)
    assert (found.view_as(expected) - expected).abs().max() < 1e-5
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs)
    got = torch.autograd.grad((found.view_as(expected) * weights).sum(), inputs)
    # What is known was computed without gradient, so only the rows after it count.
    skipped = [0, *[sum(int(nodes.lengths.sum()) for nodes in levels[:n_known])] * 2]
    pairs = zip(wanted, got, skipped, strict=True)
    assert all((a[n:] - b[n:]).abs().max() < 1e-4 for a, b, n in pairs)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n_nodes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    known=st.integers(0, 2),
)
def test_flex_attention_equals_attention_row_by_row(seed, n_nodes, heads, known):
    levels = random_levels(seed, n_nodes, 12)
    n_known = min(known, len(levels) - 1)
    # FlexAttention takes widths from 16 on, and no gradients on a processor.
    inputs = [torch.cat([x.detach()] * 2, dim=2) for x in sample(levels, n_known, *heads)]
    expected = by_rows(levels, n_known, *inputs, 0.3)
    found = FlexAttention(levels, n_known)(*inputs, 0.3)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("way", [BlockAttention, LevelAttention])
def test_the_usual_scale_is_that_of_the_head_width(way):
    levels = random_levels(3, [2, 4], 6)
    inputs = sample(levels, 0, 2, 1)
    assert torch.allclose(way(levels, 0)(*inputs, None), way(levels, 0)(*inputs, DIM**-0.5))


def test_every_token_stands_in_one_block(monkeypatch):
    monkeypatch.setattr(attention_cpu, "SPAN", 7)
    monkeypatch.setattr(attention_cpu, "WORTHWHILE", 20)
    levels = random_levels(5, [1, 6, 40], 30)
    blocks = plan_blocks(levels, 1)
    queries = torch.cat([block.queries.reshape(-1) for block in blocks])
    first = int(levels[0].lengths.sum())
    total = sum(int(nodes.lengths.sum()) for nodes in levels)
    assert torch.equal(queries[queries >= 0].sort().values, torch.arange(first, total))
    assert len(blocks) > 3
    assert all(block.queries.shape[1] <= 7 for block in blocks)
    assert all(block.keys.shape[1] % attention_cpu.LANES == 0 for block in blocks), "whole vector registers"
    inputs = sample(levels, 1, 2, 2)
    assert (BlockAttention(levels, 1)(*inputs, 0.3) - by_rows(levels, 1, *inputs, 0.3)).abs().max() < 1e-5


def test_like_sized_nodes_share_a_block_and_unlike_ones_do_not():
    lengths = torch.tensor([200] * 3 + [2] * 50)
    nodes = Nodes(torch.cumsum(lengths, 0) - lengths, lengths, torch.zeros_like(lengths))
    sizes = sorted({len(block.queries) for block in plan_blocks([nodes], 0)})
    assert sizes == [3, 50]
