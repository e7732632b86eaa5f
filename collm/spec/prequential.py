"""Settings of prequential evaluation: windows of the test split in order of time, and what is updated before each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Policy = Literal["frozen", "encoder", "encoder+mapping", "all"]
_UNITS = {"row": "rows", "day": "d", "week": "w", "month": "mo", "year": "y"}
_FORM = re.compile(r"\s*([1-9]\d*)\s*(row|day|week|month|year)s?\s*")


@dataclass(frozen=True)
class WindowLength:
    """How long a window is.

    Attributes:
        n: How many units, 1 or more.
        unit: `rows`, or polars' name of a unit of the calendar: d, w, mo, y.
    """

    n: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> WindowLength:
        """Reads e.g. `500 rows`, `1 month`, `2 weeks`.

        Raises:
            ValueError: If it is of another form.
        """
        if (found := _FORM.fullmatch(text)) is None:
            raise ValueError(f"'{text}' is no length of a window; give e.g. 500 rows, 7 days, 2 weeks, 1 month, 1 year")
        return cls(int(found.group(1)), _UNITS[found.group(2)])
