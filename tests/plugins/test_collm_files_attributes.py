"""The dataset `files`: attributes of items and users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from own_tables import COLUMNS, config_of, load, write
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm.errors import DataError
from collm.spec.fingerprint import config_payload
from collm_files.source import build

ITEMS = [(item, f"Film {item}", "Drama" if item % 2 else "War", 1900 + item, item / 4) for item in range(38)]
USERS = [(f"u{user}", 20 + user, "" if user == 3 else "yes") for user in range(12)]


def attributed(tmp_path: Path, path: Path, **settings: Any) -> InteractionTable:
    items = write(tmp_path / "items.csv", ITEMS, ("no", "name", "genre", "year", "price"))
    users = write(tmp_path / "users.csv", USERS, ("id", "age", "member"))
    given: dict[str, Any] = {
        "items": items,
        "users": users,
        "columns": {**COLUMNS, "title": "name", "items_key": "no", "users_key": "id"},
        "item_attributes": ("year", "genre", "price"),
        "user_attributes": ("member", "age"),
    }
    return load(path, **{**given, **settings})


def test_attributes_are_those_of_their_ids(tmp_path: Path, path: Path) -> None:
    table = attributed(tmp_path, path)
    assert table.user_attributes is not None and table.item_attributes is not None
    users = dict(zip(table.user_ids, table.user_attributes.rows(), strict=True))
    assert users.pop("") == (None, None)
    assert users == {user: (member or None, age) for user, age, member in USERS}
    items = dict(zip(table.item_ids, table.item_attributes.rows(), strict=True))
    wanted = {str(item): (year, genre, price) for item, _, genre, year, price in ITEMS}
    assert items == {item: wanted.get(item, (None, None, None)) for item in table.item_ids}
    assert dict(table.item_attributes.schema) == {"year": pl.Int64, "genre": pl.String, "price": pl.Float64}


def test_attributes_change_no_row_and_no_fingerprint_but_their_own(tmp_path: Path, path: Path) -> None:
    table, plain = attributed(tmp_path, path), load(path)
    assert table.frame.equals(plain.frame)
    assert plain.user_attributes is None
    payload = config_payload(config_of(path))
    assert not {"item_attributes", "user_attributes", "users_key"} & {*payload, *payload["columns"]}
    items = write(tmp_path / "more.csv", ITEMS, ("what", "name", "genre", "year", "price"))
    more = config_of(path, items=items, columns={**COLUMNS, "title": "name"}, item_attributes=("year",))
    assert config_payload(more)["item_attributes"] == ["year"]


def test_attributes_from_json_and_parquet_keep_their_types(tmp_path: Path, path: Path) -> None:
    frame = pl.DataFrame(ITEMS, schema=["no", "name", "genre", "year", "price"], orient="row")
    frame.write_parquet(tmp_path / "items.parquet")
    frame.write_ndjson(tmp_path / "items.jsonl")
    for name in ("items.parquet", "items.jsonl"):
        table = attributed(tmp_path, path, items=tmp_path / name)
        assert table.item_attributes is not None
        assert table.item_attributes.equals(attributed(tmp_path, path).item_attributes)


def test_further_and_unusable_rows_of_attributes_are_said(tmp_path: Path, path: Path) -> None:
    table = attributed(tmp_path, path)
    users = write(tmp_path / "more.csv", [*USERS, ("u1", 99, "no"), USERS[2], ("", 3, "")], ("id", "age", "member"))
    other = attributed(tmp_path, path, users=users)
    assert other.user_attributes is not None
    assert other.user_attributes.equals(table.user_attributes)
    assert "1 further rows of more.csv with other attributes of the same user are not used" in other.notes
    assert "1 rows of more.csv give no attributes (user is missing: 1)" in other.notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"item_attributes": ("year",)},
            "names columns of `items`, which is not set: name the file with one row per item",
        ),
        ({"user_attributes": ("age",)}, "names columns of `users`, which is not set"),
        ({"users": "users.csv"}, "`users` is given, so `user_attributes` must name the columns to read of it"),
        ({"users": "users.csv", "user_attributes": ("age", "age")}, "names 'age' twice"),
        ({"users": "users.csv", "user_attributes": ("user",)}, "an attribute may not be called 'user'"),
        ({"users": "users.xls", "user_attributes": ("age",)}, "unknown ending"),
    ],
)
def test_attributes_without_their_file(path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        config_of(path, **settings)
    assert words in str(raised.value)


def test_a_missing_attribute_is_named_with_the_nearest(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.attributes: no column 'agee' \(did you mean 'age'\?\)"):
        attributed(tmp_path, path, user_attributes=("agee",))
    given = {"users": tmp_path / "users.csv", "user_attributes": ("agee",), "columns": {**COLUMNS, "users_key": "id"}}
    with pytest.raises(DataError, match="did you mean 'age'"):
        build(config_of(path, **given), context=BuildContext(tmp_path)).look()
