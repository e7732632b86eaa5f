"""The dataset `files`: labels, times, encodings and titles in unusual forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from own_tables import COLUMNS, START, config_of, load, pairs, rows, write
from pydantic import ValidationError

from collm.component import BuildContext
from collm.errors import DataError
from collm.ingest import table_files, times
from collm.ingest.bad_rows import BadRowsError
from collm_files import config
from collm_files.source import build


def labelled(path: Path, labels: Mapping[int, Any]) -> Path:
    return write(path, [(user, item, labels[stars], when) for user, item, stars, when in rows()])


LABEL_COLUMNS = {"user": "who", "item": "what", "timestamp": "when", "label": "stars"}


@pytest.mark.parametrize(
    "words", [("-1", "1"), ("no", "yes"), ("N", "Y"), ("f", "t"), ("Dislike", "Like"), ("-1.0", "+1")]
)
def test_labels_in_words(tmp_path: Path, words: tuple[str, str]) -> None:
    path = labelled(tmp_path / "a.csv", {stars: words[stars > 3] for stars in range(1, 6)})
    table = load(path, columns=LABEL_COLUMNS, label={"from": "label"})
    assert pairs(table, label=1) == {(user, str(item)) for user, item, stars, _ in rows() if stars > 3}


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ({1: -1, 2: -1, 3: 0, 4: 1, 5: 1}, r"-1 \(\d+\), 0 \(\d+\), 1 \(\d+\)"),
        ({1: 1, 2: 1, 3: 2, 4: 2, 5: 2}, r"1 \(\d+\), 2 \(\d+\)"),
        ({1: "bad", 2: "meh", 3: "meh", 4: "good", 5: "good"}, "meh"),
    ],
)
def test_labels_that_are_not_known_are_not_dropped(tmp_path: Path, labels: dict[int, Any], shown: str) -> None:
    path = labelled(tmp_path / "a.csv", labels)
    with pytest.raises(DataError, match=rf"columns\.label: 'stars' holds .*{shown}") as caught:
        load(path, columns=LABEL_COLUMNS, label={"from": "label"})
    assert "max_bad_rows" not in str(caught.value)


def test_ratings_that_mean_not_rated(tmp_path: Path) -> None:
    unrated = [(user, item, 0 if (user, item, when)[1] % 3 else stars, when) for user, item, stars, when in rows()]
    path = write(tmp_path / "a.csv", unrated)
    n_zero = sum(stars == 0 for *_, stars, _ in unrated)
    said = [note for note in load(path).notes if "may mean 'not rated'" in note]
    assert said == [note for note in said if f"of {n_zero:,} rows" in note]
    assert len(said) == 1
    table = load(path, label={"from": "rating", "positive_above": 3, "not_rated": [0]})
    assert table.frame.height == 200 - n_zero
    assert f"{n_zero} rows whose rating means 'not rated' ([0]) are left out" in table.notes
    assert not any("may mean" in note for note in table.notes)
    with pytest.raises(ValidationError, match="remove positive_above, lowest, highest and not_rated"):
        config_of(path, columns=LABEL_COLUMNS, label={"from": "label", "not_rated": [0]})


def test_a_rare_class_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [(*row[:2], 5 if place < 2 else 1, row[3]) for place, row in enumerate(rows())])
    assert "only 2 of 200 rows (1.0%) are positive: look at the label rule" in load(path).notes
    assert not any("look at the label rule" in note for note in load(write(path, rows())).notes)


def test_times_that_the_user_says(tmp_path: Path) -> None:
    days = [(*row[:3], f"{(row[3] - START) / 86400 + 44087:.6f}") for row in rows()]
    path = write(tmp_path / "a.csv", days)
    with pytest.raises(DataError, match=r"columns\.timestamp: 'when' is not a column of times.*`spreadsheet-days`"):
        load(path)
    table = load(path, times="spreadsheet-days")
    assert "timestamps read as spreadsheet days" in table.notes
    relative = load(write(path, [(*row[:3], row[3] - START) for row in rows()]), times="relative")
    assert sorted(relative.frame["timestamp"]) == sorted(row[3] - START for row in rows())
    with pytest.raises(ValidationError, match="relative times have no dates"):
        config_of(path, times="relative", split={"by": "dates", "valid_from": "2020-01-01", "test_from": "2020-01-02"})
    with pytest.raises(ValidationError, match=r"columns\.timestamp holds, which is not set"):
        config_of(path, times="days", columns={**COLUMNS, "timestamp": None}, split={"by": "random"})


def test_an_items_file_about_other_items(path: Path, tmp_path: Path) -> None:
    columns = {**COLUMNS, "title": "name", "items_key": "no"}
    items = write(tmp_path / "items.csv", [(f"tt{item}", f"Film {item}") for item in range(40)], ("no", "name"))
    with pytest.raises(
        DataError,
        match=r"dataset\.items: the ids in 'no' of .*items\.csv match the items of 0 of 200 .*sales\.csv has '",
    ) as caught:
        load(path, items=items, columns=columns)
    assert "items.csv has 'tt0', 'tt1', 'tt2'" in str(caught.value)
    counted = sorted(range(40), key=lambda item: -sum(row[1] == item for row in rows()))
    n_known = 0
    for n in range(40):
        n_known += sum(row[1] == counted[n] for row in rows())
        write(items, [(f"{item}.0", f"Film {item}") for item in counted[: n + 1]], ("no", "name"))
        if 2 * n_known >= 200:
            assert dict(zip(*(load(path, items=items, columns=columns).item_ids,) * 2, strict=True))
            break
        with pytest.raises(DataError, match=f"match the items of {n_known} of 200"):
            load(path, items=items, columns=columns)


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "who,what,stars,when\n" + "".join(f"é{user},{item},{stars},{when}\n" for user, item, stars, when in rows())
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadRowsError, match="not UTF-8 text: 200"):
        load(path)
    assert load(path, encoding="latin-1").user_ids[1].startswith("é")
    for wrong in ("utf-99", "rot13", "utf-16"):
        with pytest.raises(ValidationError, match="encoding"):
            config_of(path, encoding=wrong)


def test_long_titles_are_cut_where_the_spec_says(path: Path, tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", [(item, "x" * (item + 10)) for item in range(40)], ("no", "name"))
    columns = {**COLUMNS, "title": "name", "items_key": "no"}
    table = load(path, items=items, columns=columns, longest_title=20)
    assert max(len(title) for title in table.titles) == 20
    assert dict(zip(table.item_ids, table.titles, strict=True))["11"] == "x" * 17 + "..."
    assert dict(zip(table.item_ids, table.titles, strict=True))["10"] == "x" * 20
    assert "29 titles of more than 20 characters are cut" in table.notes


def test_a_missing_title_in_words_is_no_title(path: Path, tmp_path: Path) -> None:
    names = [(item, "nan" if item < 5 else "None" if item == 5 else f"Film {item}") for item in range(40)]
    items = write(tmp_path / "items.csv", names, ("no", "name"))
    table = load(path, items=items, columns={**COLUMNS, "title": "name", "items_key": "no"})
    titles = dict(zip(table.item_ids, table.titles, strict=True))
    assert (titles["4"], titles["5"], titles["6"]) == ("item 4", "None", "Film 6")
    assert "titles that are words for a missing value are not used: 'nan' (5)" in table.notes


def test_a_folder_of_parts_counts_by_its_parts(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder / "part-0.csv", rows()[:120])
    write(folder / "part-1.csv", rows()[120:])
    whole, parted = load(path), load(folder)
    assert pairs(parted, label=1, split="test") == pairs(whole, label=1, split="test")
    source = build(config_of(folder), context=BuildContext(cache_dir=tmp_path))
    before = source.content_hash()
    (folder / "part-1.csv").rename(folder / "part-2.csv")
    assert source.content_hash() != before


def test_settings_say_what_is_readable() -> None:
    assert get_args(config.TimeForm) == get_args(times.TimeForm)
    assert tuple(table_files.ENDINGS) == config.ENDINGS
