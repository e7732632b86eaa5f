"""The answer's logits as the model itself makes them, for the answer words alone.

A causal language model may scale its logits (Granite, Cohere) or cap them (Gemma 2) after its output head, under names
that differ from model to model. So its own forward pass is called, with the decoder replaced by the states that are
known already, and the head by the answer words' rows in float32: no [batch, vocabulary] tensor is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from collm.errors import RunError


def decoder_of(lm: nn.Module) -> nn.Module:
    """Returns the decoder stack of a causal language model: the part that gives hidden states for its output head.

    Raises:
        RunError: If no single part can be identified as the decoder.
    """
    base, head = lm.base_model, lm.get_output_embeddings()  # type: ignore[operator]
    if isinstance(base, nn.Module) and base is not lm:
        return base
    others = [child for child in lm.children() if child is not head]
    if len(others) != 1:
        raise RunError(f"{type(lm).__name__}: more than one part could be its decoder; not supported")
    return others[0]


class AnswerHead:
    """Reads the logits of a few words from final hidden states."""

    def __init__(self, lm: nn.Module, ids: Sequence[int]) -> None:
        """Finds the head.

        Args:
            lm: Hugging Face causal language model.
            ids: Token ids of the words.

        Raises:
            RunError: If the model has no output head.
        """
        self._lm, self._ids = lm, list(ids)
        head = lm.get_output_embeddings()  # type: ignore[operator]
        names = [name for name, module in lm.named_modules() if module is head]
        if head is None or not names:
            raise RunError(f"{type(lm).__name__}: has no output head to read an answer from")
        self._parent, _, self._name = names[0].rpartition(".")
        decoder = decoder_of(lm)
        self._prefix = next(name for name, module in lm.named_children() if module is decoder)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the words' logits.

        Args:
            hidden: float32 [batch, hidden], after the decoder's final norm.

        Returns:
            float32 [batch, n_words]; gradients reach `hidden`.
        """
        parent = self._lm.get_submodule(self._parent)
        head = getattr(parent, self._name)
        decoder = getattr(self._lm, self._prefix)
        try:
            setattr(parent, self._name, _Rows(head, self._ids))
            setattr(self._lm, self._prefix, _Known(decoder, hidden[None]))
            # `forward` and not the module's call: hooks on the model are for whole passes.
            output = self._lm.forward(inputs_embeds=hidden[None], use_cache=False)
        finally:
            setattr(self._lm, self._prefix, decoder)
            setattr(parent, self._name, head)
        logits: torch.Tensor = output.logits[0]
        return logits.float()


class _Rows(nn.Module):
    """Some rows of an output head, in float32."""

    def __init__(self, head: nn.Module, ids: Sequence[int]) -> None:
        super().__init__()
        self._head = [head]  # not registered: the model's parameters stay as they are
        self._ids = list(ids)

    @property
    def weight(self) -> torch.Tensor:
        """The head's weight: some models look at its dtype or device."""
        return self._head[0].weight  # type: ignore[return-value]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        head = self._head[0]
        # Layers may lie on several devices.
        logits = hidden.to(self.weight.device).float() @ self.weight[self._ids].float().T
        bias = getattr(head, "bias", None)
        return logits if bias is None else logits + bias[self._ids].float()


class _Known(nn.Module):
    """Stands for the decoder and returns states that are known; settings that a model looks up are the decoder's."""

    def __init__(self, decoder: nn.Module, states: torch.Tensor) -> None:
        super().__init__()
        self._decoder = [decoder]
        self._states = states

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Some models call a part of their base model, which is then the decoder.
            return self if name == "decoder" else getattr(self._decoder[0], name)

    def forward(self, *_args: Any, **_kwargs: Any) -> _States:
        return _States(self._states)


class _States:
    """What a decoder returns: its states, and nothing else that a model may ask for."""

    def __init__(self, states: torch.Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def run_for_positions(decoder: nn.Module, last: torch.Tensor, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Runs a decoder and returns its final states at some positions.

    The final norm is computed for these positions alone and in float32: half precision leaves about 400 distinct scores
    (fact 37). The last layer's feed-forward part works position by position, so it is computed for them alone too.

    Args:
        decoder: Decoder stack.
        last: int64 [batch] flat positions.
        run: Runs the decoder and returns its states [..., hidden].

    Returns:
        float32 [batch, hidden].
    """

    def select(states: torch.Tensor) -> torch.Tensor:
        return states.reshape(-1, states.shape[-1]).index_select(0, last.to(states.device))

    norm = getattr(decoder, "norm", None)
    narrows = norm is not None and type(norm).__name__.endswith("RMSNorm")
    hooks = _narrow_feed_forward(_last_feed_forward(decoder), last)
    if norm is not None and narrows:
        hooks.append(norm.register_forward_pre_hook(lambda _module, args: (select(args[0]).float()[None], *args[1:])))
    try:
        states = run()
    finally:
        for hook in hooks:
            hook.remove()
    return states[0].float() if narrows else select(states).float()


def _last_feed_forward(decoder: nn.Module) -> nn.Module | None:
    """Returns the last layer's feed-forward part where it is the usual gated one, which sees one position at a time."""
    layers = getattr(decoder, "layers", None)
    part = getattr(layers[-1], "mlp", None) if isinstance(layers, nn.ModuleList) and len(layers) else None
    names = {name for name, child in part.named_children() if isinstance(child, nn.Linear)} if part is not None else ()
    return part if set(names) == {"gate_proj", "up_proj", "down_proj"} else None


def _narrow_feed_forward(part: nn.Module | None, last: torch.Tensor) -> list[Any]:
    """Makes the feed-forward part compute the positions in `last` alone; it adds zeros at all others."""
    if part is None:
        return []

    shapes: list[torch.Size] = []

    def before(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        shapes.append(x.shape)
        return x.reshape(-1, x.shape[-1]).index_select(0, last.to(x.device)), *args[1:]

    def after(_module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        shape = shapes.pop()
        full = output.new_zeros(shape[:-1].numel(), output.shape[-1])
        return full.index_copy(0, last.to(output.device), output).view(*shape[:-1], -1)

    return [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
