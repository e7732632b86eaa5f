"""The published split: counts, histories row by row, slices, and refused files."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from collm.component import BuildContext
from collm.contracts.data import SPLITS, InteractionTable, Limit
from collm.data.checks import check_table
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.data.slices import slice_masks
from collm.engine.language_task import selection_rows
from collm.errors import DataError
from collm.ingest.restricted_pickle import read_frame
from collm.ingest.source_files import SourceFiles
from collm_released import register_datasets
from collm_released.source import FILES, SMALL_FILE, ReleasedSource

(COMPONENT,) = register_datasets()


def released(path: Path | None, **settings: Any) -> ReleasedSource:
    config = COMPONENT.config(name="collm-released", path=path, **settings)
    source: ReleasedSource = COMPONENT.load_factory()(config, context=BuildContext(Path("unused")))
    return source


@pytest.fixture(scope="module")
def archive(shared_data: Path) -> Path:
    path = shared_data / "ml-1m-released-split.zip"
    if not path.is_file():
        pytest.skip("the published ML-1M split is missing")
    return path


@pytest.fixture(scope="module")
def data(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("released")
    history: Any = SimpleNamespace(visibility="all", max_items=10)
    prepare(released(archive), limit=Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


def test_counts(data: PreparedData) -> None:
    assert data.counts() == {"train": 33_891, "valid": 10_401, "test": 7_331, "users": 838, "items": 3_255}
    assert data.user_ids == ["", *map(str, range(1, 839))]
    assert data.item_ids == ["", *map(str, range(1, 3256))]
    assert data.titles[1] == "Shawshank Redemption, The (1994)"


def test_the_published_half_of_validation_can_select(archive: Path, data: PreparedData) -> None:
    small = read_frame(SourceFiles(archive, (SMALL_FILE,), owner="test").read(SMALL_FILE), name="small")
    chosen = selection_rows(data, "published", max_rows=None, seed=0)
    assert sorted(chosen.row.tolist()) == sorted(small.index.tolist())
    assert len(chosen) == 5_200
    assert len(data.rows("valid")) == 10_401


@pytest.mark.parametrize("split", SPLITS)
def test_histories_under_all_are_the_published_ones(archive: Path, data: PreparedData, split: str) -> None:
    """Row by row, and with them the users, items, labels and times of the file."""
    frame = read_frame(SourceFiles(archive, (FILES[split],), owner="test").read(FILES[split]), name=split)
    rows = data.rows(split)
    np.testing.assert_array_equal(rows.row, np.sort(frame.index))
    published = np.argsort(frame.index)
    for name, column in (("user", "uid"), ("item", "iid"), ("label", "label"), ("timestamp", "timestamp")):
        np.testing.assert_array_equal(getattr(rows, name), frame.columns[column][published])
    histories = [frame.columns["his"][place][1:] for place in published]
    width = max(map(len, histories))
    expected = np.zeros((len(rows), width), dtype=np.int64)
    for place, items in enumerate(histories):
        expected[place, width - len(items) :] = items
    np.testing.assert_array_equal(data.history(rows, width), expected)
    np.testing.assert_array_equal(data.history(rows, 10), expected[:, -10:])


@pytest.mark.parametrize(("warm", "n_warm"), [("at-least-3", 3_682), ("more-than-3", 3_522)])
def test_slices_have_the_known_sizes(data: PreparedData, warm: str, n_warm: int) -> None:
    """Fact 28; the files' own `not_cold` column is 0 exactly where user or item is unseen in training."""
    rows = data.rows("test")
    counts = data.user_train_rows[rows.user], data.item_train_rows[rows.item]
    masks = slice_masks(*counts, warm=warm, cold="unseen")
    assert (int(masks["warm"].sum()), int(masks["cold"].sum())) == (n_warm, 3_178)


def test_the_published_small_validation_set(archive: Path) -> None:
    table = released(archive, validation="published-small").load()
    check_table(table)
    counts = dict(table.frame["split"].value_counts().iter_rows())
    assert (counts["valid"], counts[None]) == (5_200, 5_201)
    assert "valid_small" in table.notes[0]


class Part:
    """Rows of one made-up file, in the published form."""

    def __init__(self, index: list[int], his: list[list[int]], **columns: list[Any]) -> None:
        pandas = pytest.importorskip("pandas")
        n = len(index)
        self.frame = pandas.DataFrame({**columns, "flag": [0.0] * n, "not_cold": [1] * n}, index=index)
        self.frame["his"] = pandas.Series(his, index=index, dtype=object)
        self.frame["title"] = pandas.Series([f"T{i}" for i in columns["iid"]], index=index, dtype=object)
        self.frame.columns = pandas.Index(list(self.frame.columns), dtype=object)


def write(folder: Path, **changes: Any) -> Path:
    parts = {
        "train": Part([0, 1], [[0], [0, 1]], uid=[1, 1], iid=[1, 2], label=[1, 0], timestamp=[5, 5]),
        "valid": Part([2], [[0, 1]], uid=[1], iid=[3], label=[1], timestamp=[6]),
        "test": Part([3], [[0, 1, 3]], uid=[1], iid=[2], label=[1], timestamp=[7]),
    }
    for name, part in (parts | changes).items():
        content = pickle.dumps(part.frame) if isinstance(part, Part) else part
        (folder / FILES[name]).write_bytes(content)
    return folder


def test_a_folder_of_pickles(tmp_path: Path) -> None:
    table: InteractionTable = released(write(tmp_path), edition="unchecked").load()
    check_table(table)
    assert table.frame.sort("row")["order"].to_list() == [0, 1, 2, 3]
    assert list(table.titles) == ["", "T1", "T2", "T3"]


def test_other_counts_than_the_published_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train: found 2, the recipe expects 33891"):
        check_table(released(write(tmp_path)).load())


def test_files_of_different_releases_are_noticed(tmp_path: Path) -> None:
    wrong = Part([3], [[0, 3, 1]], uid=[1], iid=[2], label=[1], timestamp=[7])
    with pytest.raises(DataError, match=r"row 3 .*does not fit the rows of its user"):
        released(write(tmp_path, test=wrong), edition="unchecked").load()


def test_a_malicious_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test_ood2\.pkl: refused as unsafe.*'builtins\.eval'"):
        released(write(tmp_path, test=pickle.dumps(eval)), edition="unchecked").load()


def test_missing_files_and_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs train_ood2\.pkl, valid_ood2\.pkl, test_ood2\.pkl"):
        released(None).content_hash()
    part = Part([0], [[0]], uid=[1], iid=[1], label=[1], timestamp=[5])
    part.frame = part.frame.drop(columns="not_cold")
    with pytest.raises(DataError, match=r"train_ood2\.pkl: column 'not_cold' is missing"):
        released(write(tmp_path, train=part), edition="unchecked").load()
    listless = Part([0], [[1]], uid=[1], iid=[1], label=[1], timestamp=[5])
    with pytest.raises(DataError, match=r"train_ood2\.pkl: row 0: his is not a list of item ids that starts with 0"):
        released(write(tmp_path, train=listless), edition="unchecked").load()


def test_every_field_is_described() -> None:
    assert all(field.description for field in COMPONENT.config.model_fields.values())


def test_extra_published_columns_are_kept(archive: Path) -> None:
    frame = released(archive).load().frame
    assert frame["published_not_cold"].dtype == pl.Int8
    unseen = frame.filter((pl.col("split") == "test") & (pl.col("published_not_cold") == 0))
    assert unseen.height == 3_178
