"""Keys and values of constant prompt prefixes, kept in memory over the epochs of a step.

Which prefixes are kept is decided once, and those of one group are always computed together: in half precision a
number depends on what it is computed with. So a kept prefix has the same bits whichever row asks for it first, and a
run that was interrupted ends with the bits of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from collm.model.prefix.levels import PrefixLevel, node_tokens, root_level, split_common
from collm.model.prefix.run import ComputedLevels, KeysValues

Array = np.ndarray[Any, Any]
Compute = Callable[[Sequence[PrefixLevel]], ComputedLevels]
Layers = Mapping[int, KeysValues]


class PrefixCache:
    """Keeps the prefixes that are asked for most, as many as fit."""

    def __init__(self, prefixes: Sequence[Array], uses: Array, *, max_bytes: int, group_tokens: int) -> None:
        """Takes what may be kept; nothing is computed yet.

        Args:
            prefixes: Distinct prefixes as int token ids [length] each, without slots, none empty.
            uses: Int [n] how often each one is asked for; the first ones of equal use are kept.
            max_bytes: Bytes of keys and values at most, on the device where they are computed.
            group_tokens: Tokens that are computed together at most; a longer prefix is computed alone.
        """
        self._prefixes, self._uses = prefixes, np.asarray(uses)
        self._max_bytes, self._group_tokens = max_bytes, group_tokens
        self._groups: list[list[bytes]] | None = None
        self._group_of: dict[bytes, int] = {}
        self._kept: dict[int, Layers] = {}
        self._rows: dict[bytes, slice] = {}
        self._version: object = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the keys and values that are kept now."""
        return sum(_n_bytes(layers) for layers in self._kept.values())

    def check_weights(self, version: object) -> None:
        """Forgets everything where the weights are not those of the call before.

        Args:
            version: What `weights_version` returned.
        """
        if version != self._version:
            self._kept.clear()
        self._version = version

    def known(self, roots: PrefixLevel, compute: Compute) -> ComputedLevels:
        """Returns the keys and values of some prefixes; those that are not to be kept are computed together.

        Args:
            roots: A first level of whole prefixes.
            compute: Runs levels without gradient.
        """
        if self._groups is None:
            self._plan(roots, compute)
        sequences = node_tokens(roots)
        names = [_name(ids) for ids in np.split(roots.ids.cpu().numpy(), np.cumsum(roots.lengths.cpu().numpy())[:-1])]
        for group in sorted({self._group_of[name] for name in names if name in self._group_of} - set(self._kept)):
            self._compute_group(group, compute, roots.ids.device)
        others = [place for place, name in enumerate(names) if name not in self._group_of]
        fresh: Layers = {}
        if others:
            fresh = _compute_whole([sequences[place] for place in others], compute)
            if len(others) == len(names):
                return ComputedLevels((roots,), fresh)
        parts: list[tuple[Layers, slice]] = []
        start = 0
        for name, ids in zip(names, sequences, strict=True):
            if name in self._group_of:
                parts.append((self._kept[self._group_of[name]], self._rows[name]))
            else:
                parts.append((fresh, slice(start, start + len(ids))))
                start += len(ids)
        return ComputedLevels((roots,), _concatenate(parts))

    def _plan(self, roots: PrefixLevel, compute: Compute) -> None:
        """Chooses what is kept by what one token takes, and cuts it into groups of like length."""
        token = _n_bytes(compute([root_level([roots.ids[:1]])]).keys_values)
        order = np.argsort(-self._uses, kind="stable")
        lengths = np.array([len(self._prefixes[place]) for place in order], dtype=np.int64)
        n_kept = int(np.searchsorted(np.cumsum(lengths) * token, self._max_bytes, side="right"))
        chosen = order[:n_kept][np.argsort(lengths[:n_kept], kind="stable")]
        self._groups, n_tokens = [], self._group_tokens
        for place in chosen:
            name, length = _name(self._prefixes[place]), len(self._prefixes[place])
            if n_tokens + length > self._group_tokens:
                self._groups.append([])
                n_tokens = 0
            self._rows[name] = slice(n_tokens, n_tokens + length)
            self._group_of[name] = len(self._groups) - 1
            self._groups[-1].append(name)
            n_tokens += length

    def _compute_group(self, group: int, compute: Compute, device: torch.device) -> None:
        assert self._groups is not None
        sequences = [torch.from_numpy(np.frombuffer(name, dtype=np.int64).copy()) for name in self._groups[group]]
        self._kept[group] = _compute_whole([ids.to(device) for ids in sequences], compute)


def weights_version(lm: nn.Module) -> tuple[tuple[int, int], ...]:
    """Returns what differs after any change of the model's parameters: where each lies and how often it was written."""
    return tuple((parameter.data_ptr(), parameter._version) for parameter in lm.parameters())


def _compute_whole(sequences: Sequence[torch.Tensor], compute: Compute) -> Layers:
    """Returns keys and values of prefixes, one after the other; words that all begin with are computed once."""
    levels = split_common(root_level(sequences), min(len(ids) for ids in sequences))
    layers = compute(levels).keys_values
    if len(levels) == 1:
        return layers
    common = torch.arange(levels[0].ids.numel(), device=levels[0].ids.device)
    own = torch.split(torch.arange(levels[1].ids.numel(), device=common.device), levels[1].lengths.tolist())
    rows = torch.cat([part for each in own for part in (common, len(common) + each)])
    return {layer: (key[rows], value[rows]) for layer, (key, value) in layers.items()}


def _concatenate(parts: Sequence[tuple[Layers, slice]]) -> Layers:
    def one(layer: int, side: int) -> torch.Tensor:
        return torch.cat([layers[layer][side][rows] for layers, rows in parts])

    return {layer: (one(layer, 0), one(layer, 1)) for layer in parts[0][0]}


def _n_bytes(layers: Layers) -> int:
    return sum(key.nbytes + value.nbytes for key, value in layers.values())


def _name(ids: Array) -> bytes:
    return np.ascontiguousarray(ids, dtype=np.int64).tobytes()
