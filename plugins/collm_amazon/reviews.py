"""Reviews of one category -> user, item, rating, time, in any of the three editions' field names."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import read_json_lines
from collm.ingest.times import FIRST, FIRST_YEAR, LAST, LAST_YEAR
from collm.ingest.typed_rows import WantedColumns, without

# 2014 and 2018 first, then 2023, where a product's variants share `parent_asin`, the id of the metadata.
FIELDS = {
    "user": ("reviewerID", "user_id"),
    "item": ("parent_asin", "asin"),
    "rating": ("overall", "rating"),
    "seconds": ("unixReviewTime",),
    "milliseconds": ("timestamp",),
}
DTYPES = {
    "user": pl.String(),
    "item": pl.String(),
    "rating": pl.Float64(),
    "seconds": pl.Int64(),
    "milliseconds": pl.Int64(),
}
REQUIRED = ("user", "item", "rating")
MOST_STARS = 5


def read_reviews(path: Path, *, first_day: date | None, end_day: date | None, bad: BadRows) -> pl.DataFrame:
    """Reads the reviews of some days.

    Args:
        path: Reviews file.
        first_day: First day (UTC) to keep; None = all before `end_day`.
        end_day: First day (UTC) not to keep; None = all from `first_day` on.
        bad: Takes reviews that cannot be used; ratings and times are judged within these days only.

    Returns:
        `user`, `item` as text, `rating` float64 (0 where no stars were given), `moment` int64 milliseconds,
        `timestamp` int64 seconds, `row` int64 (line in the file), in the order of the file.

    Raises:
        DataError: If the file cannot be read or is not a reviews file.
    """
    moment = pl.coalesce(pl.col("seconds") * 1000, "milliseconds")
    start, end = _milliseconds(first_day), _milliseconds(end_day)
    inside = pl.lit(True)
    if start is not None:
        inside &= moment >= start
    if end is not None:
        inside &= moment < end
    # A review without a time is kept here, to be reported below.
    rows = read_json_lines(path, WantedColumns(FIELDS, DTYPES, REQUIRED), bad=bad, where=inside | moment.is_null())
    reviews = rows.select("user", "item", "rating", moment.alias("moment"), "line")
    fault = (
        pl.when(pl.col("moment").is_null())
        .then(pl.lit("the time is missing"))
        .when(~pl.col("moment").is_between(FIRST * 1000, LAST * 1000))
        .then(pl.lit(f"the time lies before {FIRST_YEAR} or after {LAST_YEAR}"))
        .when(~pl.col("rating").is_between(0, MOST_STARS))
        .then(pl.lit(f"the rating lies outside 0 to {MOST_STARS}"))
    )
    sound = without(
        reviews, fault, file=path.name, bad=bad, text_of=lambda place: ", ".join(map(str, reviews.row(place)[:-1]))
    )
    return sound.select(
        "user", "item", "rating", "moment", (pl.col("moment") // 1000).alias("timestamp"), pl.col("line").alias("row")
    )


def _milliseconds(day: date | None) -> int | None:
    return None if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
