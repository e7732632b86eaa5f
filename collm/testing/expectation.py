"""How a contract suite fails: pytest does not explain assertions of an installed package, a sentence does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def expect(kept: bool, fault: str) -> None:
    """Fails the test with a sentence that names the fault.

    Args:
        kept: Whether the contract is kept.
        fault: What is wrong, what was got and what is asked.

    Raises:
        AssertionError: If the contract is not kept.
    """
    if not kept:
        raise AssertionError(fault)


@contextmanager
def naming_the_step(step: str) -> Iterator[None]:
    """Puts what was being done before the sentence of whatever goes wrong inside.

    Args:
        step: What is done, e.g. "training on a last batch of one row".

    Raises:
        AssertionError: If anything is raised inside; the original error is its cause.
    """
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{step}: {error}") from error
    # The plugin boundary: whatever a stranger's code raises is named with the step, and stays attached as the cause.
    except Exception as error:
        raise AssertionError(f"{step} raised {type(error).__name__}: {error}") from error
