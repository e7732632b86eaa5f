"""Runs a prefix tree through any Hugging Face decoder: every distinct token once, shared keys and values used in place.

All tokens of a pass lie in one packed row, so that linear layers see no padding. Only attention knows of the tree: an
attention function registered with transformers lets every node read the keys and values of its ancestors besides its
own. Gradients flow through them. Constant leading levels are run beforehand without gradient, and their keys and values
are read by the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from collm.errors import RunError
from collm.model.hf_loading import is_spread
from collm.model.prefix.attention_cpu import BlockAttention, Nodes
from collm.model.prefix.attention_gpu import FlexAttention, LevelAttention
from collm.model.prefix.levels import PrefixLevel, whole_roots

ATTENTION = "collm-prompt-tree"
# Longest prompt whose attention weights a processor writes out and keeps; beyond, memory matters more than time.
LONGEST_IN_BLOCKS = 1_024

AttentionWay = Literal["blocks", "levels", "flex"]
_WAYS: Mapping[AttentionWay, type[BlockAttention | LevelAttention | FlexAttention]] = {
    "blocks": BlockAttention,
    "levels": LevelAttention,
    "flex": FlexAttention,
}
_chosen_way: AttentionWay | None = None

KeysValues = tuple[torch.Tensor, torch.Tensor]
Embed = Callable[[PrefixLevel], torch.Tensor]


@dataclass(frozen=True)
class ComputedLevels:
    """Leading levels that were run before.

    Attributes:
        levels: The levels, root first.
        keys_values: Per decoder layer, keys and values [n_tokens, key heads, dim] of all their tokens, level by level.
    """

    levels: tuple[PrefixLevel, ...]
    keys_values: Mapping[int, KeysValues]


class Cache(Protocol):
    """What keeps keys and values of constant prefixes between calls."""

    def known(self, roots: PrefixLevel, compute: Callable[[Sequence[PrefixLevel]], ComputedLevels]) -> ComputedLevels:
        """Returns one level's keys and values, some kept and the others computed."""
        ...


def enable_prefix_sharing(lm: nn.Module) -> bool:
    """Makes the language model take trees; ordinary calls go to PyTorch's attention as before.

    Args:
        lm: Hugging Face causal language model, changed in place.

    Returns:
        Whether it takes trees: False where `sharing_fault` has a reason.
    """
    if sharing_fault(lm):
        return False
    lm.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    return True


def sharing_fault(lm: nn.Module) -> str:
    """Says why a language model takes no trees, empty where it does."""
    config = lm.config.get_text_config()  # type: ignore[operator, union-attr]
    if is_spread(lm):
        return "its layers lie on several devices"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "it caps its attention logits, which PyTorch's fused attention does not do"
    # A model that was loaded without PyTorch's fused attention cannot use it here either.
    loaded = getattr(lm.config, "_attn_implementation", None)
    if not getattr(lm, "_supports_attention_backend", False) or loaded not in ("sdpa", ATTENTION):
        return "its attention cannot be exchanged for one that reads shared prefixes"
    return ""


def disable_prefix_sharing(lm: nn.Module) -> None:
    """Undoes `enable_prefix_sharing`."""
    lm.set_attn_implementation("sdpa")  # type: ignore[operator]


@contextmanager
def attention_way(way: AttentionWay) -> Iterator[None]:
    """Makes all trees attend in one way, to compare them: by default the device and the longest prompt decide.

    Args:
        way: `blocks` = matrix products over blocks of like-sized nodes, on processors; `levels` = PyTorch's fused
            kernels, level by level; `flex` = PyTorch's FlexAttention, with gradients on CUDA devices alone.
    """
    global _chosen_way
    before, _chosen_way = _chosen_way, way
    try:
        yield
    finally:
        _chosen_way = before


def attention_window(lm: nn.Module) -> int | None:
    """Returns the smallest window of layers with local attention, in tokens; None where all see everything."""
    config: Any = lm.config.get_text_config()  # type: ignore[operator, union-attr]
    kinds = set(getattr(config, "layer_types", None) or ())
    is_local = any("sliding" in str(kind) for kind in kinds) or (
        not kinds and getattr(config, "use_sliding_window", True)
    )
    windows = [getattr(module, "sliding_window", None) for module in lm.modules()]
    windows += [
        getattr(config, "sliding_window", None) if is_local else None,
        getattr(config, "attention_chunk_size", None),
    ]
    return min((window for window in windows if isinstance(window, int) and window > 0), default=None)


class PrefixPass:
    """One pass of the decoder over some levels; handed to the attention function through the decoder's keywords."""

    def __init__(
        self, levels: Sequence[PrefixLevel], known: ComputedLevels | None = None, *, keeps: bool = False
    ) -> None:
        """Plans the pass.

        Args:
            levels: Levels computed in this pass, from the root down.
            known: The levels above them.
            keeps: Whether `keys_values` is filled, for a pass over levels below.
        """
        above = known.levels if known else ()
        self._levels, self._keeps = levels, keeps
        self._known = known.keys_values if known else None
        self.keys_values: dict[int, KeysValues] = {}
        self._n_attended = 0
        self.positions = torch.cat([_positions(level) for level in levels])
        self.longest = int(self.positions.max()) + 1
        nodes = _nodes([*above, *levels])
        in_blocks = self.positions.device.type == "cpu" and self.longest <= LONGEST_IN_BLOCKS
        self._attention = _WAYS[_chosen_way or ("blocks" if in_blocks else "levels")](nodes, len(above))

    def run(self, decoder: nn.Module, embed: Embed) -> torch.Tensor:
        """Returns the decoder's states, [1, n_tokens, hidden]."""
        self._n_attended = 0
        embedded = torch.cat([embed(level) for level in self._levels])[None]
        # A mask of four dimensions is taken as given: transformers would otherwise build one for the whole packed row.
        mask = torch.zeros(1, 1, 1, 1, dtype=embedded.dtype, device=embedded.device)
        output = decoder(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=self.positions[None],
            use_cache=False,
            tree=self,
        )
        if not self._n_attended:
            raise RunError(
                f"{type(decoder).__name__}: its layers do not hand keywords on to attention, so every prompt would see "
                "the others"
            )
        states: torch.Tensor = output.last_hidden_state
        return states

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attention of one decoder layer.

        Args:
            layer: Index of the decoder layer.
            query: [1, heads, n_tokens, dim], rotary positions applied.
            key: [1, key heads, n_tokens, dim].
            value: [1, key heads, n_tokens, dim].
            scaling: Factor on the logits; None = dim ** -0.5.

        Returns:
            [1, n_tokens, heads, dim].
        """
        self._n_attended += 1
        query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
        if self._keeps:
            self.keys_values[layer] = (key, value)
        if self._known is not None:
            earlier = self._known[layer]
            key, value = torch.cat([earlier[0], key]), torch.cat([earlier[1], value])
        return self._attention(query, key, value, scaling)[None]


def _positions(level: PrefixLevel) -> torch.Tensor:
    """Returns int64 [n_tokens] positions in the prompt."""
    before = torch.cumsum(level.lengths, 0) - level.lengths
    rows = torch.arange(level.ids.numel(), device=level.ids.device)
    return rows + torch.repeat_interleave(level.starts - before, level.lengths)


def _nodes(levels: Sequence[PrefixLevel]) -> list[Nodes]:
    nodes, n_rows = [], 0
    for level in levels:
        nodes.append(Nodes(n_rows + torch.cumsum(level.lengths, 0) - level.lengths, level.lengths, level.parent))
        n_rows += level.ids.numel()
    return nodes


def run_prefix_tree(
    decoder: nn.Module,
    levels: Sequence[PrefixLevel],
    embed: Embed,
    *,
    n_constant: int,
    read: Callable[[torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor],
    cache: Cache | None = None,
) -> torch.Tensor:
    """Runs a tree and returns the final hidden states of the rows.

    Args:
        decoder: Decoder stack of a model that `enable_prefix_sharing` accepted.
        levels: The tree, root first; the last level has one node per row.
        embed: Gives a level's token embeddings, [n_tokens, hidden].
        n_constant: Leading levels that are run without gradient and without stored activations; not all.
        read: Called as `read(flat positions int64 [batch], run)`; runs the decoder and returns hidden states there.
        cache: Keeps keys and values of constant levels; None = they are computed.

    Returns:
        [batch, hidden], the state at each row's last token.
    """

    def compute(constant: Sequence[PrefixLevel]) -> ComputedLevels:
        first = PrefixPass(constant, keeps=True)
        with torch.no_grad():
            # No state is read, so the last layer computes keys and values for all tokens, and the rest for one.
            read(torch.zeros(1, dtype=torch.int64, device=first.positions.device), lambda: first.run(decoder, embed))
        return ComputedLevels(tuple(constant), first.keys_values)

    known = None
    if n_constant and cache is not None:
        known = cache.known(whole_roots(levels[:n_constant]), compute)
    elif n_constant:
        known = compute(levels[:n_constant])
    tree = PrefixPass(levels[n_constant:], known)
    n_tokens, rows = len(tree.positions), levels[-1]
    last = n_tokens - rows.ids.numel() + torch.cumsum(rows.lengths, 0) - 1
    return read(last, lambda: tree.run(decoder, embed))


def _tree_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    tree: PrefixPass | None = kwargs.pop("tree", None)
    if tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    window = kwargs.get("sliding_window")
    if kwargs.get("softcap") is not None or kwargs.get("dropout"):
        raise RunError(f"{type(module).__name__}: soft-capped or dropped-out attention cannot share prefixes")
    if window is not None and tree.longest > window:
        raise RunError(f"prompts longer than the model's attention window of {window} tokens cannot share prefixes")
    layer: int = module.layer_idx  # type: ignore[assignment]
    return tree.attend(layer, query, key, value, kwargs.get("scaling")), None


AttentionInterface.register(ATTENTION, _tree_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class Probe:
    """What the probe found.

    Attributes:
        shares: Whether prompts that share a prefix are computed once; False where that gives other logits.
        gap_shared: Largest difference from the model's own logits with sharing; None where the model takes none.
        gap_alone: The same with every prompt by itself; None where sharing was exact, so that it was not needed.
        allowed: Largest difference that is taken for rounding.
        dtype: Number format of the probe.
        prompts: Prompts compared.
        seconds: Time that it took.
        fault: Why sharing was not computed, or could not be; empty where it was.
    """

    shares: bool
    gap_shared: float | None
    gap_alone: float | None
    allowed: float
    dtype: str
    prompts: int
    seconds: float
    fault: str = ""

    def plain(self) -> dict[str, Any]:
        """Returns the record as plain data."""
        return asdict(self)

    def note(self) -> str | None:
        """Returns the sentence that results must state; None where sharing is exact, or not tried for no reason."""
        if self.gap_shared is None and not self.fault:
            return None
        if self.shares:
            return None
        cause = self.fault or (
            f"sharing their prefixes gave this language model other logits (by up to {self.gap_shared:.3g} on "
            f"{self.prompts} probe prompts, allowed {self.allowed:.2g})"
        )
        return f"Prompts are computed one by one: {cause}."
