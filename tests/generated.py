"""Generated MovieLens files and the command line, for tests that run the real thing."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

from forked import COLLM, run_forked

DOCS = Path(__file__).resolve().parents[1] / "docs"


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


def docs_section(page: str, heading: str) -> str:
    """Returns the text of a page of docs below a heading of the second level."""
    return (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def docs_command(section: str) -> list[str]:
    """Returns the words after `collm` of the one block of a section that is one command."""
    (words,) = re.findall(r"^```bash\ncollm (.*?)\n```$", section, re.MULTILINE)
    return str(words).split()


def command(*arguments: str) -> list[str]:
    return [*COLLM, *arguments]


def call(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of collm in a folder; its cache lies below it."""
    given = {**os.environ, "COLLM_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1", **environment}
    return run_forked(command(*arguments), cwd=root, environment=given)


def collm(root: Path, *arguments: str) -> str:
    """Returns what a command prints; it must succeed."""
    done = call(root, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
