"""Canonical plain data of configs and hashes over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from collm.component import is_added, is_location


def fingerprint(payload: Any) -> str:
    """Returns 16 hex characters of the SHA-256 of a payload's canonical JSON (sorted keys, no NaN).

    Args:
        payload: Plain data: dicts with text keys, lists, tuples, text, finite numbers, booleans, None.

    Raises:
        ValueError: If a number is NaN or infinite.
        TypeError: If something is not plain data.
    """
    text = json.dumps(_canonical(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Writes 16.0 as 16: a default given as an integer and the same value read as a float are one value."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    return value


def config_payload(config: BaseModel) -> Any:
    """Returns a config as plain data for fingerprints: without places, and without added fields at their default."""
    return dump_config(config, locations=False)


def dump_config(config: BaseModel, *, locations: bool) -> dict[str, Any]:
    """Returns a config as plain data; a component held in a field keeps all fields of its own class.

    Args:
        config: The config.
        locations: Whether all fields are kept; False = what fingerprints are made of, see `config_payload`.
    """
    values = {name: (getattr(config, name), info) for name, info in type(config).model_fields.items()}
    return {
        name: _dump(value, locations)
        for name, (value, info) in values.items()
        if locations or not (is_location(info) or (is_added(info) and value == info.default))
    }


def _dump(value: Any, locations: bool) -> Any:
    if isinstance(value, BaseModel):
        return dump_config(value, locations=locations)
    if isinstance(value, Mapping):
        return {str(key): _dump(each, locations) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_dump(each, locations) for each in value)
    if isinstance(value, list | tuple):
        return [_dump(each, locations) for each in value]
    return to_jsonable_python(value)
