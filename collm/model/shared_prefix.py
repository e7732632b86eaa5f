"""Runs a prompt tree through any Hugging Face decoder: every distinct token once, shared keys and values used in place.

All tokens of a pass lie in one packed row, so that linear layers see no padding. Only attention knows of the tree: an
attention function registered with transformers pads each level's nodes, and lets every node read the keys and values of
its ancestors besides its own. Gradients flow through them. A constant first level is run beforehand without gradient,
and its keys and values are read by the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from collm.errors import RunError
from collm.model.prompt_batch import TreeLevel

ATTENTION = "collm-prompt-tree"

KeysValues = tuple[torch.Tensor, torch.Tensor]


def enable_trees(lm: nn.Module) -> bool:
    """Makes the language model take trees; ordinary calls go to PyTorch's attention as before.

    Args:
        lm: Hugging Face causal language model, changed in place.

    Returns:
        Whether it takes trees: False for models that do not use transformers' attention interface.
    """
    if not getattr(lm, "_supports_attention_backend", False):
        return False
    lm.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    return True


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
    """One level's place in the packed row, and in its padded form [n_nodes, width]."""

    def __init__(self, level: TreeLevel) -> None:
        lengths, device = level.lengths, level.ids.device
        self.n_nodes, self.n_tokens = len(lengths), level.ids.numel()
        self.width = int(lengths.max())
        offsets = torch.arange(self.width, device=device)
        self.real = offsets < lengths[:, None]
        self.positions = (level.starts[:, None] + offsets)[self.real]
        before = torch.cumsum(lengths, 0) - lengths
        self._padded = (before[:, None] + offsets).masked_fill(~self.real, 0).reshape(-1)
        self._packed = self.real.reshape(-1).nonzero().reshape(-1)
        self._unread = (~self.real).reshape(-1).nonzero().reshape(-1)
        self._nothing = self._unread[:0]

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """[n_tokens, heads, dim] -> [n_nodes, width, heads, dim]; padded places hold other tokens, never read."""
        if self._unread.numel():
            x = _Rearrange.apply(x, self._padded, self._packed, self._nothing)  # type: ignore[no-untyped-call]
        return x.view(self.n_nodes, self.width, *x.shape[1:])

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """[n_nodes, width, size] -> [n_tokens, size]."""
        x = x.reshape(self.n_nodes * self.width, -1)
        if self._unread.numel():
            x = _Rearrange.apply(x, self._packed, self._padded, self._unread)  # type: ignore[no-untyped-call]
        return x


class _LevelPlan:
    """What one level's attention needs: own layout, which node of each earlier level it reads, and the mask."""

    def __init__(self, layout: _Layout, ancestors: Sequence[tuple[_Layout, torch.Tensor]]) -> None:
        self.layout = layout
        self.ancestors: list[torch.Tensor | None] = []
        self.has_ancestors = bool(ancestors)
        width, device = layout.width, layout.real.device
        parts = []
        for earlier, node in ancestors:
            same = earlier.n_nodes == len(node) and bool((node == torch.arange(len(node), device=device)).all())
            self.ancestors.append(None if same else node)
            parts.append(earlier.real[node][:, None, :].expand(-1, width, -1))
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        parts.append(causal.expand(layout.n_nodes, -1, -1))
        self._allowed = torch.cat(parts, dim=2)
        self._masks: dict[tuple[torch.dtype, int], torch.Tensor] = {}

    def mask(self, dtype: torch.dtype, n_groups: int) -> torch.Tensor:
        """Returns the additive mask [n_nodes, 1, n_groups * width, keys], made once per pass."""
        if (dtype, n_groups) not in self._masks:
            additive = torch.zeros(self._allowed.shape, dtype=dtype, device=self._allowed.device)
            additive.masked_fill_(~self._allowed, float("-inf"))
            self._masks[dtype, n_groups] = additive.repeat(1, n_groups, 1)[:, None]
        return self._masks[dtype, n_groups]


class TreePass:
    """One pass of the decoder over some levels; handed to the attention function through the decoder's keywords."""

    def __init__(self, levels: Sequence[TreeLevel], constant: TreePass | None = None) -> None:
        """Plans the pass.

        Args:
            levels: Levels computed in this pass, from the root down.
            constant: An earlier pass over the levels above, whose keys and values were kept.
        """
        known: list[_Layout] = list(constant.layouts) if constant else []
        self.layouts: list[_Layout] = known + [_Layout(level) for level in levels]
        self._above = constant
        self._kept: dict[int, list[KeysValues]] = {}
        self.keeps = False
        above = constant.parents if constant else []
        self.parents: list[torch.Tensor] = [*above, *(level.parent for level in levels)]
        self._plans = [
            _LevelPlan(self.layouts[depth], _ancestors(self.layouts, self.parents, depth))
            for depth in range(len(known), len(self.layouts))
        ]

    @property
    def own(self) -> list[_Layout]:
        """Layouts of the levels computed here."""
        return [plan.layout for plan in self._plans]

    def positions(self) -> torch.Tensor:
        """Returns int64 [1, n_tokens] positions in the prompt."""
        return torch.cat([layout.positions for layout in self.own])[None]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attention of one decoder layer.

        Args:
            layer: Index of the decoder layer.
            query: [1, heads, n_tokens, dim], rotary positions applied.
            key: [1, key heads, n_tokens, dim], likewise.
            value: [1, key heads, n_tokens, dim].
            scaling: Factor on the logits; None = dim ** -0.5.

        Returns:
            [1, n_tokens, heads, dim].
        """
        sizes = [layout.n_tokens for layout in self.own]
        queries, keys, values = (torch.split(x[0].transpose(0, 1), sizes) for x in (query, key, value))
        known: list[KeysValues] = list(self._above._kept[layer]) if self._above else []
        outputs = []
        for plan, q, k, v in zip(self._plans, queries, keys, values, strict=True):
            own = (plan.layout.pad(k), plan.layout.pad(v))
            outputs.append(_attend_level(plan, plan.layout.pad(q), own, known, scaling))
            known.append(own)
        if self.keeps:
            self._kept[layer] = known
        return torch.cat(outputs).view(1, query.shape[2], query.shape[1], value.shape[3])


def _ancestors(
    layouts: Sequence[_Layout], parents: Sequence[torch.Tensor], depth: int
) -> list[tuple[_Layout, torch.Tensor]]:
    found: list[tuple[_Layout, torch.Tensor]] = []
    node: torch.Tensor | None = None
    for level in range(depth, 0, -1):
        node = parents[level] if node is None else parents[level][node]
        found.insert(0, (layouts[level - 1], node))
    return found


def _attend_level(
    plan: _LevelPlan, query: torch.Tensor, own: KeysValues, known: Sequence[KeysValues], scaling: float | None
) -> torch.Tensor:
    """Returns the packed attention output of one level, [n_tokens, heads * dim]."""
    n_nodes, width, n_heads, dim = query.shape
    n_key_heads = own[0].shape[2]
    if not plan.has_ancestors:
        out = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            own[0].transpose(1, 2),
            own[1].transpose(1, 2),
            is_causal=True,
            scale=scaling,
            enable_gqa=n_heads != n_key_heads,
        )
        return plan.layout.pack(out.transpose(1, 2))
    earlier = list(zip(known, plan.ancestors, strict=True))
    key, value = (
        torch.cat([*(_chosen(both[side], node) for both, node in earlier), own[side]], dim=1) for side in (0, 1)
    )
    # Query heads that share a key head become more queries of it: no copy of keys, and every kernel takes the mask.
    n_groups = n_heads // n_key_heads
    folded = query.view(n_nodes, width, n_key_heads, n_groups, dim).permute(0, 2, 3, 1, 4)
    out = functional.scaled_dot_product_attention(
        folded.reshape(n_nodes, n_key_heads, n_groups * width, dim),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=plan.mask(query.dtype, n_groups),
        scale=scaling,
    )
    out = out.view(n_nodes, n_key_heads, n_groups, width, -1).permute(0, 3, 1, 2, 4)
    return plan.layout.pack(out)


def _chosen(x: torch.Tensor, node: torch.Tensor | None) -> torch.Tensor:
    return x if node is None else x.index_select(0, node)


def _tree_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    tree: TreePass | None = kwargs.pop("tree", None)
    if tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    window = kwargs.get("sliding_window")
    if kwargs.get("softcap") is not None or kwargs.get("dropout"):
        raise RunError(
            f"{type(module).__name__}: soft-capped or dropped-out attention cannot share prefixes; set share 'none'"
        )
    if window is not None and any(int(layout.positions.max()) >= window for layout in tree.own if layout.n_tokens):
        raise RunError(f"prompts longer than the model's attention window of {window} tokens cannot share prefixes")
    layer: int = module.layer_idx  # type: ignore[assignment]
    return tree.attend(layer, query, key, value, kwargs.get("scaling")), None


def run_tree(
    decoder: nn.Module,
    levels: Sequence[TreeLevel],
    embed: Callable[[TreeLevel], torch.Tensor],
    *,
    constant_root: bool,
    read: Callable[[torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor],
) -> torch.Tensor:
    """Runs a tree and returns the final hidden states of the rows.

    Args:
        decoder: Decoder stack of a model that `enable_trees` accepted.
        levels: The tree, root first; the last level has one node per row.
        embed: Gives a level's token embeddings, [n_tokens, hidden].
        constant_root: Whether the first level is run without gradient and without stored activations.
        read: Called as `read(flat positions int64 [batch], run)`; runs the decoder and returns hidden states there.

    Returns:
        [batch, hidden], the state at each row's last token.
    """
    levels, constant = list(levels), None
    if constant_root and levels[0].ids.numel():
        constant = TreePass(levels[:1])
        constant.keeps = True
        with torch.no_grad():
            _run(decoder, constant, embed(levels[0])[None])
        levels = levels[1:]
    tree = TreePass(levels, constant)
    embedded = torch.cat([embed(level) for level in levels])[None]
    last = embedded.shape[1] - levels[-1].ids.numel() + torch.cumsum(levels[-1].lengths, 0) - 1
    return read(last, lambda: _run(decoder, tree, embedded))


def _run(decoder: nn.Module, tree: TreePass, embedded: torch.Tensor) -> torch.Tensor:
    # A mask of four dimensions is taken as given: transformers would otherwise build one for the whole packed row.
    mask = torch.zeros(1, 1, 1, 1, dtype=embedded.dtype, device=embedded.device)
    output = decoder(
        inputs_embeds=embedded, attention_mask=mask, position_ids=tree.positions(), use_cache=False, tree=tree
    )
    states: torch.Tensor = output.last_hidden_state
    return states


AttentionInterface.register(ATTENTION, _tree_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
