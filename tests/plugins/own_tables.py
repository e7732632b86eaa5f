"""Small tables of one's own, as `collm_files` reads them."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm.data.checks import check_table
from collm_files import register_datasets
from collm_files.config import FilesConfig
from collm_files.source import build

(COMPONENT,) = register_datasets()
START = 1_600_000_000
COLUMNS = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
Row = tuple[Any, ...]


def rows(n: int = 200) -> list[Row]:
    generator = random.Random(1)
    pairs = generator.sample([(user, item) for user in range(12) for item in range(40)], n)
    return [
        (f"u{user}", item, generator.choice([1, 2, 3, 4, 5]), START + generator.randrange(10**6))
        for user, item in pairs
    ]


def write(path: Path, content: list[Row], header: Row = ("who", "what", "stars", "when")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *content])
    return path


def config_of(path: Path, /, **settings: Any) -> FilesConfig:
    given = {
        "interactions": path,
        "columns": COLUMNS,
        "label": {"from": "rating", "positive_above": 3},
        "split": {"by": "quantiles"},
    }
    return FilesConfig.model_validate({"name": "files", **given, **settings})


def load(path: Path, **settings: Any) -> InteractionTable:
    table = build(config_of(path, **settings), context=BuildContext(cache_dir=path.parent)).load()
    check_table(table)
    return table


def pairs(table: InteractionTable, **where: Any) -> set[tuple[str, str]]:
    """Returns raw (user, item) of the rows with these values."""
    frame = table.frame
    for name, value in where.items():
        frame = frame.filter(frame[name] == value)
    return {(table.user_ids[user], table.item_ids[item]) for user, item in frame.select("user", "item").iter_rows()}
