"""The paper's numbers beside measured ones, where the data is the paper's."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import yaml

METRICS = ("auc", "uauc", "ndcg")
SPLITS = ("train", "valid", "test")
# Tables that give metrics by method, in the order in which a method is looked for.
TABLES = ("table2", "table4", "table5", "table7")
# The paper prints 727,468 training rows; the notebook that made the data has 727,463, which add up with its total.
COUNTED = {"amazon-book": {"train": 727_463}}


@functools.cache
def paper_numbers() -> Mapping[str, Any]:
    """Returns the content of `paper_numbers.yaml`."""
    text = importlib.resources.files("collm.report").joinpath("paper_numbers.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def paper_dataset(full_counts: Mapping[str, int]) -> str | None:
    """Returns the paper's name of a dataset whose splits have exactly the paper's numbers of rows, else None.

    Where the published code counts other rows than the paper prints, both are the paper's.

    Args:
        full_counts: Rows per split before any limit.
    """
    for name, counts in paper_numbers()["table1"].items():
        counted = {**counts, **COUNTED.get(name, {})}
        if any(all(full_counts.get(split) == each[split] for split in SPLITS) for each in (counts, counted)):
            return str(name)
    return None


def paper_values(method: str, dataset: str, *, title: str = "") -> dict[str, float]:
    """Returns what the paper states for a method on all test rows.

    Args:
        method: Name of the run, e.g. `collm-mf`.
        dataset: The paper's name of the dataset, e.g. `ml-1m`.
        title: Name of the suite; `table5` makes that table the first to be asked.

    Returns:
        Metric -> value; empty where the paper has no such row.
    """
    named = re.match(r"table\d", title)
    tables = [*([named.group()] if named else []), *TABLES]
    for table in tables:
        values = paper_numbers().get(table, {}).get(dataset, {}).get(method)
        if isinstance(values, list):
            return dict(zip(METRICS, values, strict=False))
        single = paper_numbers().get(f"{table}_auc", {}).get(dataset, {}).get(method)
        if single is not None:
            return {"auc": float(single)}
    return {}
