"""A million raw reviews in under half a minute, in bounded memory."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

N_REVIEWS = 1_000_000
MOST_SECONDS = 30.0
MOST_BYTES = 1 << 30
LOAD = """
import json, resource, sys, time
from pathlib import Path
from collm.component import BuildContext
from collm_amazon import register_datasets
component = next(each for each in register_datasets() if each.name == "amazon-book")
config = component.config(name="amazon-book", path=Path(sys.argv[1]), edition="unchecked")
source = component.load_factory()(config, context=BuildContext(Path("unused")))
start = time.perf_counter()
table = source.load()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "peak": peak, "rows": table.frame.height, "titles": list(table.titles[:2])}))
"""


def write_reviews(path: Path) -> None:
    """Writes reviews of the lengths that real ones have: a few words to a few hundred, about 700 bytes each."""
    draw = random.Random(0)
    words = [f"w{n}" for n in range(5000)] + ["the", "and", "of", "a", "book"] * 400
    texts = [" ".join(draw.choices(words, k=draw.choice([5, 20, 60, 120, 300]))) for _ in range(4000)]
    with gzip.open(path, "wt", compresslevel=3) as stream:
        for place in range(N_REVIEWS):
            review = {
                "overall": float(draw.randint(1, 5)),
                "verified": True,
                "reviewTime": "06 17, 2017",
                "reviewerID": f"A{draw.randrange(20_000):013}",
                "asin": f"{1_000_000_000 + draw.randrange(30_000)}",
                "style": {"Format:": " Hardcover"},
                "reviewerName": "Some Reader",
                "reviewText": texts[place % len(texts)],
                "summary": "Five stars \u2014 and more",
                "unixReviewTime": 1_483_228_800 + 86_400 * draw.randrange(365),
            }
            stream.write(json.dumps(review) + "\n")


@pytest.mark.slow
def test_a_million_raw_reviews(tmp_path: Path) -> None:
    write_reviews(tmp_path / "Books_5.json.gz")
    with gzip.open(tmp_path / "meta_Books.json.gz", "wt", compresslevel=3) as stream:
        for item in range(30_000):
            entry = {"asin": str(1_000_000_000 + item), "title": f"Book &amp; {item}", "description": ["long"] * 50}
            stream.write(json.dumps(entry) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=True, timeout=600
    )
    measured = json.loads(done.stdout)
    assert measured["rows"] > 0.9 * N_REVIEWS
    assert measured["titles"] == ["", "Book & 0"]
    assert measured["seconds"] < MOST_SECONDS, measured
    assert measured["peak"] < MOST_BYTES, measured
