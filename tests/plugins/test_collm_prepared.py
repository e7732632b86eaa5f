"""Prepared folders written by `collm` and by SQL (the example of docs/large-data.md), sound and damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from collm.component import BuildContext
from collm.contracts.data import DatasetConfig, Limit
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.data.prepared_files import FILES, write_manifest
from collm.errors import DataError
from collm.registry import default_registry
from collm.testing.fakes import interaction_table
from collm_prepared import check
from collm_prepared.source import PreparedFolder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "large-data.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page's example, which knows nothing of collm."""
    (example,) = re.findall(
        r"^```python example\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    folder = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})  # noqa: S102 - our own page
    return folder / "prepared"


def source(folder: Path) -> PreparedFolder:
    config = DatasetConfig(name="prepared", path=folder)
    built: PreparedFolder = (
        default_registry().get("dataset", "prepared").load_factory()(config, context=BuildContext(Path("unused")))
    )
    return built


def prepared(folder: Path, target: Path, *, visibility: str = "strictly-earlier", **limit: int) -> PreparedData:
    rule: Any = SimpleNamespace(visibility=visibility)
    prepare(source(folder), limit=Limit(**limit), history=rule, folder=target, recipe={"name": "prepared"})
    return PreparedData.open(target)


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def change(folder: Path, name: str, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Changes a file as another engine might have written it: the manifest describes what is there."""
    edit(pl.read_parquet(folder / name)).write_parquet(folder / name)
    write_manifest(folder, json.loads((folder / "manifest.json").read_text()))


def test_a_folder_written_elsewhere_is_used_as_it_is(written: Path, tmp_path: Path) -> None:
    data = prepared(written, tmp_path / "stage")
    for name in FILES:
        assert (tmp_path / "stage" / name).samefile(written / name)
    assert data.manifest["recipe"] == {"name": "prepared"} and data.notes == ("made up by a few lines of SQL",)
    assert data.full_counts() == data.counts() and data.counts()["users"] == data.n_users == 60
    assert len(data.rows("test")) == data.counts()["test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_its_histories_are_those_that_collm_computes(written: Path, tmp_path: Path, split: str) -> None:
    theirs = prepared(written, tmp_path / "theirs")
    bare = copy(written, tmp_path / "bare")
    manifest = json.loads((bare / "manifest.json").read_text())
    del manifest["history"]
    (bare / "manifest.json").write_text(json.dumps(manifest))
    (bare / "positives.parquet").unlink()
    ours = prepared(bare, tmp_path / "ours")
    rows = ours.rows(split)
    np.testing.assert_array_equal(theirs.rows(split).row, rows.row)
    np.testing.assert_array_equal(theirs.history(theirs.rows(split), 12), ours.history(rows, 12))
    assert (ours.history(rows, 12) > 0).any()
    np.testing.assert_array_equal(theirs.user_train_rows, ours.user_train_rows)
    assert theirs.manifest["history"]["repeats"] == ours.manifest["history"]["repeats"]


def test_another_visibility_or_a_limit_is_computed_from_the_table(written: Path, tmp_path: Path) -> None:
    other = prepared(written, tmp_path / "all", visibility="all")
    assert other.visibility == "all" and not (tmp_path / "all" / "interactions.parquet").samefile(
        written / "interactions.parquet"
    )
    cut = prepared(written, tmp_path / "cut", train=500)
    assert 500 <= len(cut.rows("train")) < cut.full_counts()["train"]


def test_what_collm_wrote_is_used_again_and_its_limit_is_not(tmp_path: Path) -> None:
    fixed: Any = SimpleNamespace(load=interaction_table, content_hash=lambda: "x")
    rule: Any = SimpleNamespace(visibility="as-of-split")
    for name, limit in (("whole", Limit()), ("cut", Limit(train=30)), ("few", Limit(user_rows=1))):
        prepare(fixed, limit=limit, history=rule, folder=tmp_path / name)
    whole = prepared(tmp_path / "whole", tmp_path / "a", visibility="as-of-split")
    assert (tmp_path / "a" / "users.parquet").samefile(tmp_path / "whole" / "users.parquet")
    for name in ("cut", "few"):
        assert any(each.startswith("dataset.limit: ") for each in PreparedData.open(tmp_path / name).notes)
        again = prepared(tmp_path / name, tmp_path / f"of-{name}", visibility="as-of-split")
        assert whole.counts() == again.counts() == whole.full_counts()
        assert again.notes == whole.notes
        cut = prepared(tmp_path / name, tmp_path / f"test-of-{name}", visibility="as-of-split", test=1)
        (note,) = (each for each in cut.notes if each.startswith("dataset.limit: "))
        assert (
            f"test {cut.counts()['test']} of {whole.counts()['test']} rows" in note
            and "train" not in note.split("(")[0]
        )


def set_to(column: str, value: Any, place: int = 3) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def edit(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[place] = value
        return frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype))

    return edit


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "interactions.parquet",
            lambda f: f.with_columns(pl.col("user").cast(pl.Int64)),
            "'user' is Int64, expected Int32",
        ),
        ("interactions.parquet", lambda f: f.drop("kept"), "column 'kept' is missing, expected Boolean"),
        ("interactions.parquet", set_to("timestamp", None), "column 'timestamp' lacks a value in 1 rows"),
        ("interactions.parquet", set_to("label", 2), "column 'label' may hold 0 and 1 alone"),
        ("interactions.parquet", set_to("row", 0), "must be sorted by 'row'"),
        ("interactions.parquet", set_to("split", "dev"), r"column 'split' holds \['dev'\]"),
        ("interactions.parquet", set_to("kept", False), "column 'kept' must be true in the rows of a split"),
        ("interactions.parquet", set_to("user", 61), "column 'user' runs 1..61, users.parquet has 1..60"),
        ("interactions.parquet", set_to("history_end", 10**7), "history_start and history_end must lie in 0"),
        ("interactions.parquet", set_to("order", 0, 2000), "column 'order' repeats or contradicts 'timestamp'"),
        ("interactions.parquet", set_to("history_end", 1163, 2), "histories of .* rows looked at are not those"),
        ("positives.parquet", set_to("item", 0), "positives.parquet: items run 0"),
        ("positives.parquet", lambda f: f.with_columns(pl.col("item").reverse()), "are not those of visibility"),
        ("users.parquet", set_to("train_rows", 9999), "'train_rows' is wrong for 1 of 60"),
        ("users.parquet", set_to("id", "u0", 5), "column 'id' must be unique"),
        ("items.parquet", lambda f: f.reverse(), "column 'item' must run 0, 1, 2"),
        ("items.parquet", set_to("title", None), "items.parquet: column 'title' lacks a value"),
    ],
)
def test_what_is_not_in_the_form_is_named(written: Path, tmp_path: Path, file: str, edit: Any, message: str) -> None:
    folder = copy(written, tmp_path / "changed")
    change(folder, file, edit)
    with pytest.raises(DataError, match=message):
        source(folder).written(visibility="strictly-earlier", limit=Limit())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("history", {"visibility": "strictly-earlier", "repeats": 0}, r"history\.repeats is 0, a row looked at needs"),
        ("counts", {"train": 1, "valid": 2, "test": 3}, "train: found 3200 rows, the manifest says 1"),
    ],
)
def test_what_the_manifest_states_wrongly_is_named(
    written: Path, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    folder = copy(written, tmp_path / "changed")
    write_manifest(folder, {**json.loads((folder / "manifest.json").read_text()), field: value})
    with pytest.raises(DataError, match=message):
        source(folder).written(visibility="strictly-earlier", limit=Limit())


def test_files_are_held_against_the_manifest(written: Path, tmp_path: Path) -> None:
    folder = copy(written, tmp_path / "changed")
    first = source(folder).content_hash()
    assert first == source(written).content_hash()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "notes": ["another"]}))
    assert source(folder).content_hash() != first
    pl.read_parquet(folder / "users.parquet").write_parquet(folder / "users.parquet", compression="lz4")
    with pytest.raises(DataError, match=r"users\.parquet: sha256 is .*, manifest\.json says .*: the file was changed"):
        source(folder).content_hash()
    (folder / "manifest.json").write_text(json.dumps({key: manifest[key] for key in manifest if key != "tie_rule"}))
    with pytest.raises(DataError, match=r"manifest\.json: 'tie_rule' is missing; docs/large-data\.md has all fields"):
        source(folder).load()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.path: '.*nowhere' is not a folder; 'prepared' needs"):
        source(tmp_path / "nowhere").content_hash()
    with pytest.raises(DataError, match=r"dataset\.path: is not set"):
        PreparedFolder(DatasetConfig(name="prepared"), context=BuildContext(tmp_path)).load()


def test_a_sample_of_users_is_enough_to_see_a_systematic_fault(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "N_SAMPLED_USERS", 3)
    folder = copy(written, tmp_path / "changed")
    # Rows of the same second and the row itself counted in: a window that ends at the current row.
    change(folder, "interactions.parquet", lambda f: f.with_columns(pl.col("history_end") + pl.col("label")))
    with pytest.raises(DataError, match="are not those of visibility 'strictly-earlier', the first is of row"):
        source(folder).written(visibility="strictly-earlier", limit=Limit())
