"""Levels of a prefix tree: runs of tokens that some rows share, packed without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

# Tokens that a further level must save: about what its own calls cost.
WORTH_A_LEVEL = 8


@dataclass(frozen=True)
class Slots:
    """Which token embeddings are replaced.

    Attributes:
        at: int64 [m] flat token positions.
        source: int64 [m] index into the vectors [batch * k, hidden].
    """

    at: torch.Tensor
    source: torch.Tensor


@dataclass(frozen=True)
class PrefixLevel:
    """Nodes of one depth; a node is a run of tokens shared by all rows below it. Tokens are packed without padding.

    Attributes:
        ids: int64 [n_tokens], node after node.
        lengths: int64 [n_nodes]; zero is possible.
        starts: int64 [n_nodes] position of the node's first token in the prompt.
        parent: int64 [n_nodes] node of the level above; zeros in the first level.
        slots: Name -> slots among `ids`.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    starts: torch.Tensor
    parent: torch.Tensor
    slots: Mapping[str, Slots] = field(default_factory=dict)

    @property
    def has_slots(self) -> bool:
        """Whether any token is replaced by a vector."""
        return any(slots.at.numel() for slots in self.slots.values())


def root_level(sequences: Sequence[torch.Tensor]) -> PrefixLevel:
    """Returns token sequences as a first level, one node each.

    Args:
        sequences: int64 [length] each, on one device; at least one.
    """
    ids = torch.cat(list(sequences))
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=ids.device)
    zeros = torch.zeros_like(lengths)
    return PrefixLevel(ids=ids, lengths=lengths, starts=zeros, parent=zeros)


def node_tokens(level: PrefixLevel) -> tuple[torch.Tensor, ...]:
    """Returns the int64 [length] tokens of each node."""
    return torch.split(level.ids, level.lengths.tolist())


def split_common(level: PrefixLevel, at_most: int) -> tuple[PrefixLevel, ...]:
    """Takes off the tokens with which all nodes of a first level begin: the template's first words.

    Args:
        level: A first level.
        at_most: Leading tokens that may be taken off; no slot lies among them.

    Returns:
        One node of the common tokens and the rest of every node; the level itself where that would save little.
    """
    n_nodes, at_most = len(level.lengths), min(at_most, int(level.lengths.min()))
    before = torch.cumsum(level.lengths, 0) - level.lengths
    columns = torch.arange(max(at_most, 0), device=level.ids.device)
    heads = level.ids[before[:, None] + columns]
    agree = (heads == heads[0]).all(0).long()
    n = int(agree.cumprod(0).sum())
    if n * (n_nodes - 1) < WORTH_A_LEVEL:
        return (level,)
    common = root_level([heads[0, :n]])
    node = torch.repeat_interleave(torch.arange(n_nodes, device=before.device), level.lengths)
    kept = torch.arange(len(node), device=before.device) - before[node] >= n
    moved = torch.cumsum(kept, 0) - 1
    rest = replace(
        level,
        ids=level.ids[kept],
        lengths=level.lengths - n,
        starts=level.starts + n,
        slots={name: Slots(moved[slots.at], slots.source) for name, slots in level.slots.items()},
    )
    return common, rest


def whole_roots(levels: Sequence[PrefixLevel]) -> PrefixLevel:
    """Returns leading levels without slots as one: each node of the last with all tokens before it."""
    sequences = list(node_tokens(levels[0]))
    for level in levels[1:]:
        above = level.parent.tolist()
        sequences = [torch.cat([sequences[i], own]) for i, own in zip(above, node_tokens(level), strict=True)]
    return root_level(sequences)
