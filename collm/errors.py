"""The exception tree, and checks of arguments of Python calls that raise its classes.

Every class knows the exit code that the command line ends with.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from collm.visible import visible

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")


class CollmError(Exception):
    """Base of everything that `collm` raises on purpose."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One located mistake in a file or on the command line.

    Attributes:
        message: What was got, what is allowed, the nearest name.
        path: Dotted path inside the document, e.g. `encoder.fit.epochs`; empty for the document itself.
        file: File name as the user gave it, or `--set` for an override.
        line: 1-based line, None where there is none.
        column: 1-based column, None where there is none.
    """

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part not in ("", None))
        # One problem is one line, whatever the file holds.
        return visible(": ".join(part for part in (place, self.path, self.message) if part), keep="")


class SpecError(CollmError):
    """A spec, suite, study file or override that cannot be used; holds all problems found."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        """Takes the problems, or one message without a place."""
        self.problems: tuple[Problem, ...] = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownName(SpecError):
    """A component name that is not registered."""


class UsageError(CollmError):
    """A command whose arguments cannot be used (a missing file, an unknown run folder)."""

    exit_code = 2


class PluginError(CollmError):
    """A plugin that does not load, does not keep its contract, or takes a taken name."""

    exit_code = 3


class DataError(CollmError):
    """Input data that is missing, malformed, unsafe or not what its recipe expects."""


class QuestionTooLong(DataError):
    """A prompt that does not fit even without its history, because of the title that it asks about."""


class RunError(CollmError):
    """A run that cannot go on: a NaN loss, a locked folder, a checkpoint of another model."""


class InUse(RunError):
    """A run that another process works on: it can be waited for."""


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


def out_of_memory(error: BaseException) -> str:
    """Returns what to say of an error that means that memory ran out, empty for any other error.

    Args:
        error: What was raised, by Python, by numpy or by torch.
    """
    if not isinstance(error, MemoryError | RuntimeError) or isinstance(error, CollmError):
        return ""
    said = (str(error).splitlines() or [""])[0]
    if not isinstance(error, MemoryError) and not any(words in said for words in _OUT_OF_MEMORY):
        return ""
    return (
        f"out of memory ({said or type(error).__name__}): make smaller what is large: embedding_size, "
        "tuning.micro_batch_tokens, batch_size, the backbone, dataset.limit; or use a machine with more memory"
    )
