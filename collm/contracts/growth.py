"""What an encoder says of its tables, so that it can grow by users and items without being fitted anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sizes:
    """Numbers of users and items.

    Attributes:
        user: Users without padding.
        item: Items without padding.
    """

    user: int
    item: int

    def rows(self, side: Literal["user", "item"]) -> int:
        """Returns the rows of a side's table, padding included."""
        return (self.user if side == "user" else self.item) + 1


@dataclass(frozen=True)
class IdTable:
    """A stretch of a tensor's first dimension with one row per dense id of one side, padding included.

    Attributes:
        side: Whose ids.
        after: Side whose rows stand before it in the same tensor; None = it begins at row 0.
    """

    side: Literal["user", "item"]
    after: Literal["user", "item"] | None = None

    def first(self, sizes: Sizes) -> int:
        """Returns the row of id 0."""
        return 0 if self.after is None else sizes.rows(self.after)
