"""More users and items for a fitted encoder: new dense ids follow the old ones, so old rows keep their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.contracts.encoder import EncoderData, IdTable, Side, Sizes
from collm.errors import PluginError, RunError
from collm.model.encoder import EncoderModule

Array = np.ndarray[Any, Any]
Tables = Mapping[str, Sequence[IdTable]]
Build = Callable[[EncoderData], EncoderModule]
SIDES: tuple[Side, Side] = ("user", "item")


def find_tables(encoder: EncoderModule, build: Build, data: EncoderData) -> dict[str, tuple[IdTable, ...]]:
    """Finds the tensors of an encoder that have a row per user or per item.

    What the encoder, or one inside of it, declares (`id_tables`) is taken where it has such a tensor. Of other tensors
    it is seen from two more builds, with one user and with one item more.

    Args:
        encoder: Built on `data`.
        build: Builds it on other data.
        data: What an encoder may see.

    Returns:
        Name in the state -> tables.

    Raises:
        PluginError: If a tensor that is not declared grows otherwise than by a row per id.
    """
    found = dict(_declared(encoder))
    state = encoder.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items() if name not in found}
    for side in SIDES:
        other = build(with_one_more(data, side)).state_dict()
        for name, shape in shapes.items():
            if name not in other or other[name].shape == shape:
                continue
            if name in found or other[name].shape != (shape[0] + 1, *shape[1:]) or shape[0] != _rows(data, side):
                raise PluginError(
                    f"{encoder.origin or type(encoder).__name__}: '{name}' has shape {list(shape)}, and "
                    f"{list(other[name].shape)} with one {side} more, which is not one row per id; it must say in "
                    "`id_tables` where the rows of ids lie"
                )
            found[name] = (IdTable(side),)
    return found


def grown_state(
    fresh: Mapping[str, torch.Tensor],
    old: Mapping[str, torch.Tensor],
    tables: Tables,
    *,
    before: Sizes,
    now: Sizes,
) -> dict[str, torch.Tensor]:
    """Returns the state of a larger encoder: all values of the old one, and initial ones for the ids that are new.

    Args:
        fresh: State of the encoder as it was built for the new sizes.
        old: State of the fitted encoder.
        tables: What `find_tables` found.
        before: Sizes of the old encoder.
        now: Sizes of the new one; neither is smaller.

    Raises:
        RunError: If the states are not of one encoder, or ids went away.
    """
    if now.user < before.user or now.item < before.item:
        raise RunError(f"an encoder of {before} cannot become one of {now}: ids are only added")
    if set(fresh) != set(old):
        raise RunError(f"weights of another encoder: {', '.join(sorted(set(fresh) ^ set(old))[:8])} only in one of two")
    grown = {}
    for name, values in fresh.items():
        grown[name] = values.detach().clone()
        if name not in tables:
            _require_shape(name, old[name], tuple(values.shape))
            grown[name].copy_(old[name])
            continue
        _require_shape(name, old[name], (sum(before.rows(each.side) for each in tables[name]), *values.shape[1:]))
        for each in tables[name]:
            n, place, was = before.rows(each.side), each.first(now), each.first(before)
            grown[name][place : place + n] = old[name][was : was + n]
    return grown


def rows_of_ids(tables: Tables, ids: Mapping[Side, Array], now: Sizes) -> dict[str, torch.Tensor]:
    """Marks the rows of some ids.

    Args:
        tables: What `find_tables` found.
        ids: Side -> bool [n_ids + 1], true where an id is meant.
        now: Sizes of the encoder.

    Returns:
        Name -> bool [rows of the tensor].
    """
    marks = {}
    for name, parts in tables.items():
        marks[name] = torch.zeros(sum(now.rows(each.side) for each in parts), dtype=torch.bool)
        for each in parts:
            first = each.first(now)
            marks[name][first : first + now.rows(each.side)] = torch.from_numpy(ids[each.side])
    return marks


def with_rows_of_padding(
    state: Mapping[str, torch.Tensor], tables: Tables, ids: Mapping[Side, Array], now: Sizes
) -> dict[str, torch.Tensor]:
    """Returns the state with the padding row in place of the rows of some ids: they count as unknown."""
    changed = {name: tensor.detach().clone() for name, tensor in state.items()}
    for name, parts in tables.items():
        for each in parts:
            first = each.first(now)
            changed[name][first + np.flatnonzero(ids[each.side])] = changed[name][first].clone()
    return changed


def _declared(encoder: EncoderModule) -> Mapping[str, tuple[IdTable, ...]]:
    found = {}
    for prefix, module in encoder.named_modules():
        for name, tables in (getattr(module, "id_tables", None) or {}).items():
            found[f"{prefix}.{name}" if prefix else name] = tuple(tables)
    return {name: tables for name, tables in found.items() if name in encoder.state_dict()}


def _rows(data: EncoderData, side: Side) -> int:
    return (data.n_users if side == "user" else data.n_items) + 1


def with_one_more(data: EncoderData, side: Side) -> EncoderData:
    """Returns the data with one user or item more, that nothing is known of."""
    if side == "user":
        return replace(
            data,
            n_users=data.n_users + 1,
            user_ids=[*data.user_ids, ""] if data.user_ids else (),
            user_attributes=_longer(data.user_attributes),
        )
    return replace(
        data,
        n_items=data.n_items + 1,
        titles=[*data.titles, ""],
        item_ids=[*data.item_ids, ""] if data.item_ids else (),
        item_attributes=_longer(data.item_attributes),
    )


def _longer(attributes: pl.DataFrame | None) -> pl.DataFrame | None:
    return None if attributes is None else pl.concat([attributes, attributes.clear(1)])


def _require_shape(name: str, old: torch.Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(old.shape) != wanted:
        raise RunError(
            f"weights of another encoder: '{name}' has shape {list(old.shape)}, expected {list(wanted)}; a setting "
            "that the training rows decide may be other than it was"
        )
