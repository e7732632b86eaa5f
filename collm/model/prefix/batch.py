"""A batch of encoded prompts as tensors: plain padded rows, or a tree in which shared prefixes appear once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch

from collm.contracts.encoder import EncoderBatch
from collm.contracts.prompt import SLOTS_PER_ROW, TITLE_SLOTS
from collm.errors import RunError
from collm.model.prefix.levels import PrefixLevel, Slots, split_common

Array = np.ndarray[Any, Any]
# Name -> positions of its slots, int [batch, k], -1 = none.
SlotPositions = Mapping[str, Array]
Share = Literal["none", "before-user", "through-user", "both"]


class Prompts(Protocol):
    """What is read of `collm.prompt.encode.EncodedPrompts`."""

    @property
    def ids(self) -> Array:
        """Token ids of all prompts, one after the other."""
        ...

    @property
    def offsets(self) -> Array:
        """int64 [n + 1]: prompt i is ids[offsets[i]:offsets[i + 1]]."""
        ...

    @property
    def slots(self) -> Mapping[str, Array]:
        """Name -> int [n, k] positions within the prompt, -1 = none; names as `collm.contracts.prompt.Slot.name`."""
        ...

    @property
    def history_items(self) -> Array:
        """Int [n, length] item ids of the titles, 0 = none; width 0 without slots behind titles."""
        ...

    @property
    def before_user(self) -> Array:
        """Int [n] leading tokens before the first slot."""
        ...

    @property
    def shared(self) -> Array:
        """Int [n] leading tokens that do not depend on the target item, user slot included."""
        ...


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one forward pass.

    Attributes:
        ids: int64 [batch, length], right-padded.
        lengths: int64 [batch].
        slots: Name -> slots among the flattened `ids`; empty for the text variant.
        encoders: Name -> the encoder's input for the same rows; empty for the text variant.
        label: float32 [batch]; None where unknown.
        row_index: int64 [batch] which prompt each row is.
        tree: Levels from the root down, the last one holding one node per row in order; None = nothing is shared.
        history_items: int64 [batch, length] items of the slots behind titles, 0 = none.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    label: torch.Tensor | None
    row_index: torch.Tensor
    slots: Mapping[str, Slots] = field(default_factory=dict)
    encoders: Mapping[str, EncoderBatch] = field(default_factory=dict)
    tree: tuple[PrefixLevel, ...] | None = None
    history_items: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """Tokens that the language model computes: those of the tree, or all with padding."""
        return self.ids.numel() if self.tree is None else sum(level.ids.numel() for level in self.tree)


def build_batch(
    prompts: Prompts,
    rows: Array,
    *,
    encoders: Mapping[str, EncoderBatch] | None = None,
    label: torch.Tensor | None = None,
    share: Share = "none",
    device: torch.device | str = "cpu",
) -> PromptBatch:
    """Collates prompts.

    Rows are grouped by their very tokens (and, where a slot is shared, by the encoders' users and histories), so
    sharing is exact whatever rows come together; it only pays where rows of one prefix do.

    Args:
        prompts: Encoded prompts.
        rows: int64 [batch] which of them.
        encoders: Name -> the encoder's input for the same rows.
        label: float32 [batch].
        share: What is run once: `none`; `before-user` = tokens before the first slot; `through-user` = tokens before
            the target title (not for an encoder whose user vector depends on the item); `both` = two levels, so that
            the first can be run without gradient where the language model and its adapters are frozen. The words with
            which all prompts begin are a level of their own before these.
        device: Where the tensors go.

    Returns:
        The batch.

    Raises:
        RunError: If there is no row, or a slot lies in a part that would be shared wrongly.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        raise RunError("a prompt batch needs at least one row")
    offsets = np.asarray(prompts.offsets, dtype=np.int64)
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    sequences = [np.asarray(prompts.ids[start : start + n]) for start, n in zip(starts, lengths, strict=True)]
    slots = {name: np.asarray(places)[rows] for name, places in prompts.slots.items()}
    items = np.asarray(prompts.history_items)[rows]
    width = int(lengths.max())
    ids = np.zeros((len(rows), width), dtype=np.int64)
    ids[np.arange(width) < lengths[:, None]] = np.concatenate(sequences)
    tree = None
    if share != "none":
        cuts = _cuts(prompts, rows, share, slots)
        before_slots = int(np.asarray(prompts.before_user)[rows].min())
        levels = _tree(sequences, cuts, _user_keys(encoders or {}, items), slots, device)
        tree = levels if len(levels) < 2 else (*split_common(levels[0], before_slots), *levels[1:])
    return PromptBatch(
        ids=_tensor(ids, device),
        lengths=_tensor(lengths, device),
        label=label,
        row_index=_tensor(rows, device),
        slots={name: _slots(places, width, device) for name, places in slots.items()},
        encoders=encoders or {},
        tree=tree,
        history_items=_tensor(items, device) if items.shape[1] else None,
    )


def _cuts(prompts: Prompts, rows: Array, share: Share, slots: SlotPositions) -> list[Array]:
    """Returns where each shared level ends, int64 [batch] each, rising."""
    shared = np.asarray(prompts.shared, dtype=np.int64)[rows]
    before = np.minimum(np.asarray(prompts.before_user, dtype=np.int64)[rows], shared)
    chosen = {"before-user": [before], "through-user": [shared], "both": [before, shared]}[share]
    for name, places in slots.items():
        of_row = name.partition(".")[0] in SLOTS_PER_ROW
        early = (places >= 0) & (places < (chosen[-1] if of_row else before)[:, None])
        if early.any():
            part = "the end of the shared part" if of_row else "the end of the part before all slots"
            side = name.partition(".")[0]
            mixed = "users" if side == "user" else "histories" if side in TITLE_SLOTS else "target items"
            raise RunError(f"prompt: the slot {name} lies before {part}; sharing would mix {mixed}")
    return chosen


def _user_keys(encoders: Mapping[str, EncoderBatch], items: Array) -> list[bytes]:
    """Returns what decides a row's user vectors and those of its history items, beside the target item."""
    n = len(items)
    parts: list[torch.Tensor] = [torch.from_numpy(items.astype(np.int64))] if items.shape[1] else []
    for batch in encoders.values():
        parts.append(batch.user.reshape(n, 1).cpu())
        if batch.history is not None:
            parts.append(batch.history.cpu())
        if batch.earlier is not None:
            # The item's counts are not part of a user vector; the user's decide what is recent, too.
            parts.append(batch.earlier[:, :2].long().cpu())
        if batch.days_since is not None:
            parts.append(batch.days_since[:, :1].long().cpu())
        if batch.timestamp is not None:
            parts.append(batch.timestamp.reshape(n, 1).cpu())
    if not parts:
        return [b""] * n
    return [row.tobytes() for row in np.ascontiguousarray(torch.cat(parts, dim=1).numpy())]


def _tree(
    sequences: Sequence[Array], cuts: Sequence[Array], keys: Sequence[bytes], slots: SlotPositions, device: Any
) -> tuple[PrefixLevel, ...]:
    n = len(sequences)
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    has_slot = [any(((at >= 0) & (at < cut[:, None])).any() for at in slots.values()) for cut in cuts]
    ends, levels = [*cuts, lengths], []
    start, above = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for depth, end in enumerate(ends):
        if not (end - start).any():
            continue
        if depth == len(cuts):
            node_of_row, first = np.arange(n), np.arange(n)
        else:
            names = [
                (above[i], sequences[i][: end[i]].tobytes(), keys[i] if has_slot[depth] else b"") for i in range(n)
            ]
            node_of_row, first = _number(names)
        levels.append(_level(sequences, start, end, above, (node_of_row, first), slots, device))
        start, above = end, node_of_row
    return tuple(levels)


def _number(names: Sequence[Any]) -> tuple[Array, Array]:
    """Returns each row's group, numbered in order of appearance, and each group's first row."""
    numbers: dict[Any, int] = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return groups, np.unique(groups, return_index=True)[1]


def _level(
    sequences: Sequence[Array],
    start: Array,
    end: Array,
    above: Array,
    nodes: tuple[Array, Array],
    slots: SlotPositions,
    device: Any,
) -> PrefixLevel:
    _, first = nodes
    lengths = end[first] - start[first]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    ids = np.concatenate([sequences[i][start[i] : end[i]] for i in first]).astype(np.int64)
    found = {}
    for name, places in slots.items():
        k = places.shape[1]
        inside = (places[first] >= start[first, None]) & (places[first] < end[first, None])
        at = (places[first] - start[first, None] + offsets[:, None])[inside]
        source = (first[:, None] * k + np.arange(k))[inside]
        found[name] = Slots(_tensor(at, device), _tensor(source, device))
    return PrefixLevel(
        ids=_tensor(ids, device),
        lengths=_tensor(lengths, device),
        starts=_tensor(start[first], device),
        parent=_tensor(above[first], device),
        slots=found,
    )


def _slots(positions: Array, width: int, device: Any) -> Slots:
    """Returns slots among rows of `width` tokens; position -1 is not a slot."""
    present = positions.reshape(-1) >= 0
    at = positions.astype(np.int64) + width * np.arange(len(positions))[:, None]
    return Slots(_tensor(at.reshape(-1)[present], device), _tensor(np.flatnonzero(present), device))


def _tensor(values: Array, device: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)
