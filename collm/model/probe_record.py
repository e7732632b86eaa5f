"""How the logits of the engine compare with those of the language model's own forward pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
