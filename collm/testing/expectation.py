"""One way to fail in a contract suite: pytest does not explain assertions of an installed package, a sentence does."""

from __future__ import annotations


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
