"""How much of some padded batches is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def padding_share(lengths: np.ndarray[Any, Any], batches: Sequence[np.ndarray[Any, Any]]) -> float:
    """Returns the padded places of some batches over all their places, 0 to 1."""
    places = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - sum(int(lengths[rows].sum()) for rows in batches) / places
