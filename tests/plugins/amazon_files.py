"""Reviews and metadata in the forms of the three Amazon editions, and the loader."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm_amazon import register_datasets

COMPONENTS = {component.name: component for component in register_datasets()}
DAY = 86_400
Review = tuple[str, str, float, int]  # user, item, stars, seconds


def seconds(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def review_2014(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {"reviewerID": user, "asin": item, "helpful": [0, 1], "overall": stars, "unixReviewTime": time}


def review_2018(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {
        "overall": stars,
        "verified": True,
        "reviewerID": user,
        "asin": item,
        "reviewText": "Long \u2014 text",
        "unixReviewTime": time,
    }


def review_2023(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {
        "rating": stars,
        "title": "Title of the review",
        "asin": f"{item}-blue",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time * 1000 + 7,
    }


def write_lines(path: Path, lines: Iterable[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)


def write_2018(folder: Path, reviews: Iterable[Review], titles: Mapping[str, str], category: str = "Books") -> Path:
    folder.mkdir(exist_ok=True)
    write_lines(folder / f"{category}_5.json.gz", (json.dumps(review_2018(review)) for review in reviews))
    meta = (json.dumps({"category": [], "title": title, "asin": item}) for item, title in titles.items())
    write_lines(folder / f"meta_{category}.json.gz", meta)
    return folder


def some_reviews(n: int = 600, *, seed: int = 0) -> list[Review]:
    """Reviews of 2017 by 12 users on 30 items, some pairs twice."""
    draw = random.Random(seed)
    start = seconds(2017, 1, 1)
    return [
        (
            f"A{draw.randrange(12):02}",
            f"B{draw.randrange(30):02}",
            float(draw.randint(1, 5)),
            start + DAY * draw.randrange(365),
        )
        for _ in range(n)
    ]


TITLES = {f"B{item:02}": f"Book {item}" for item in range(30)}


def load(folder: Path | None, name: str = "amazon-book", **settings: Any) -> InteractionTable:
    config = COMPONENTS[name].config(name=name, path=folder, **settings)
    table: InteractionTable = COMPONENTS[name].load_factory()(config, context=BuildContext(Path("unused"))).load()
    return table


def edition_files(folder: Path, edition: str, reviews: list[Review]) -> Path:
    folder.mkdir()
    if edition == "2014":
        write_lines(folder / "reviews_Books_5.json.gz", (json.dumps(review_2014(each)) for each in reviews))
        # The 2014 metadata is Python, not JSON: single quotes, and None where nothing is known.
        meta = ({"asin": item, "title": title, "price": None, "brand": "O'Hara"} for item, title in TITLES.items())
        write_lines(folder / "meta_Books.json.gz", map(str, meta))
        return folder
    if edition == "2018":
        return write_2018(folder, reviews, TITLES)
    write_lines(folder / "Books.jsonl.gz", (json.dumps(review_2023(each)) for each in reviews))
    meta = ({"main_category": "Books", "title": title, "parent_asin": item} for item, title in TITLES.items())
    write_lines(folder / "meta_Books.jsonl.gz", map(json.dumps, meta))
    return folder
