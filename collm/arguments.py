"""Checks of the arguments of Python calls; each refusal names the argument, the value and what is allowed."""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from collm.errors import UsageError


def wrong_argument(place: str, value: object, allowed: str) -> UsageError:
    """Returns what to raise for an argument of a Python call that cannot be used.

    Args:
        place: Name of the argument.
        value: What was given.
        allowed: What the argument must be, and what to do.
    """
    return UsageError(f"{place}: got {reprlib.repr(value)} ({type(value).__name__}), must be {allowed}")


def whole_number(place: str, value: object, *, at_least: int | None = None) -> int:
    """Returns an argument of a Python call as a whole number.

    Args:
        place: Name of the argument.
        value: What was given.
        at_least: Smallest number that is allowed; None = any.

    Raises:
        UsageError: If it is not a whole number, or is a smaller one.
    """
    allowed = "a whole number" + ("" if at_least is None else f" of at least {at_least}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_argument(place, value, allowed) from None
    if isinstance(value, bool) or (at_least is not None and number < at_least):
        raise wrong_argument(place, value, allowed)
    return number


def listed(name: str, values: Iterable[Any], *, of: str) -> list[Any]:
    """Returns an argument of a Python call that must be a list, as a list.

    Args:
        name: Name of the argument.
        values: A list, a tuple, an array, a series.
        of: What it is a list of.

    Raises:
        UsageError: If it is a single text, or a value without elements.
    """
    if not isinstance(values, str | bytes):
        try:
            return list(values)
        except TypeError:  # also of an array without dimensions
            pass
    raise wrong_argument(name, values, f"a list of {of}; write brackets around a single one")


def raw_ids(name: str, values: Iterable[str]) -> list[str]:
    """Returns raw ids of a Python call as a list; a number would be looked up as an id that is not known.

    Args:
        name: Name of the argument.
        values: Raw ids.

    Raises:
        UsageError: If it is not a list, or an id is not text; names the first.
    """
    found = listed(name, values, of="raw ids")
    for place, value in enumerate(found):
        if not isinstance(value, str):
            raise wrong_argument(f"{name}[{place}]", value, _text_advice(value))
    return found


def raw_id(name: str, value: str) -> str:
    """Returns the raw id of a Python call.

    Raises:
        UsageError: If it is not text.
    """
    if not isinstance(value, str):
        raise wrong_argument(name, value, _text_advice(value))
    return value


def _text_advice(value: object) -> str:
    example = str(value) if isinstance(value, Integral) else "1"
    return f"text; write the raw id as text, e.g. '{example}'"


def path_text(place: str, path: str | os.PathLike[str], allowed: str) -> str:
    """Returns a path of a Python call as text.

    Args:
        place: Name of the argument.
        path: Text or a `Path`.
        allowed: What it must be, and what to do.

    Raises:
        UsageError: If it is neither.
    """
    if not isinstance(path, str | os.PathLike):
        raise wrong_argument(place, path, allowed)
    return os.fspath(path)


def names_of(place: str, names: Sequence[str]) -> list[str]:
    """Returns names of a Python call as a list.

    Args:
        place: Name of the argument.
        names: Names.

    Raises:
        UsageError: If one is not text, or it is one text, whose characters would be taken for names.
    """
    found = listed(place, names, of="names as text")
    if not all(isinstance(name, str) for name in found):
        raise wrong_argument(place, names, "a list of names as text")
    return found
