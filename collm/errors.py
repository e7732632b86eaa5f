"""The exception tree. Every class knows the exit code that the command line ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
