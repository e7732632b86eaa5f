"""Generated MovieLens files and the command line, for tests that run the real thing."""

from __future__ import annotations

import random
import sys
from pathlib import Path


def write_data(folder: Path) -> None:
    folder.mkdir()
    generator = random.Random(7)
    ratings = ["userId,movieId,rating,timestamp"]
    for user in range(1, 21):
        for place, item in enumerate(generator.sample(range(1, 41), 30)):
            stars = min(5, max(1, round(generator.gauss(3 + (user % 3) - 1 + (item % 5 - 2) / 2, 1))))
            ratings.append(f"{user},{item},{stars},{1_000_000 + place * 100 + user}")
    titles = ["movieId,title,genres", *(f'{item},"Film, The {item} (1994)",Drama' for item in range(1, 41))]
    (folder / "ratings.csv").write_text("\n".join(ratings) + "\n", encoding="utf-8")
    (folder / "movies.csv").write_text("\n".join(titles) + "\n", encoding="utf-8")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "collm", *arguments]
