"""Log-odds of what was known before a row, as encoders and floors compute them from counts."""

from __future__ import annotations

import torch


def relative_logit(positives: torch.Tensor, rows: torch.Tensor, share: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns logit((positives + m g) / (rows + m)) - logit(g): 0 where there is no row.

    Args:
        positives: float32 [n], at most `rows`; may be weighted counts.
        rows: float32 [n].
        share: float32 scalar g in (0, 1), the share of positives that counts are drawn to.
        smoothing: m, rows of that share which are added.

    Returns:
        float32 [n].
    """
    return torch.logit((positives + smoothing * share) / (rows + smoothing)) - torch.logit(share)
