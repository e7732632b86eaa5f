"""What `results.json` of a small run holds."""

from __future__ import annotations

from typing import Any

RESULTS: dict[str, Any] = {
    "schema": 1,
    "name": "n",
    "run": "n",
    "spec_hash": "abc",
    "seed": 0,
    "profile": "recommended",
    "metrics": {"test": {"all": {"auc": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 5, "skipped": {}}}}},
    "floors": {"test": {"all": {"item-mean": {"auc": {"value": 0.7, "n": 5, "skipped": {}}}}}},
    "timing": {"evaluate": {"seconds": 1.0, "reused": False}},
    "counts": {"test": 5},
}
