"""The spec that `collm data init` writes: valid YAML for any names, files named relative to it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from collm.data.guess_columns import guess_columns
from collm.scaffold.files_spec import files_spec
from collm_files.config import FilesConfig


def written(
    folder: Path, interactions: Path, columns: dict[str, list[str]], items: Path | None = None
) -> dict[str, object]:
    names = pl.DataFrame({"id": ["1", "2"], "name": ["A", "B"]}) if items is not None else None
    guess = guess_columns(pl.DataFrame(columns), names)
    content: dict[str, object] = yaml.safe_load(files_spec(interactions, items, guess, spec=folder / "s" / "spec.yaml"))
    return content


@pytest.mark.parametrize("name", ["plain", "bought at", "yes", "a: b", "#1", "größe", "null", '"', "1e5", "- x", "{}"])
def test_any_column_name_survives(tmp_path: Path, name: str) -> None:
    columns = {"user": ["a", "b"], "item": ["1", "2"], "rating": ["5", "1"], name: ["2020-01-01", "2020-01-02"]}
    spec = written(tmp_path, tmp_path / "x.csv", columns)
    config = FilesConfig.model_validate(
        {key: value for key, value in spec["dataset"].items() if key != "name"} | {"name": "files"}  # type: ignore[attr-defined]
    )
    assert config.columns.timestamp == name
    assert config.split.by == "quantiles"
    assert config.label.positive_above == 3


def test_files_are_named_from_the_specs_folder(tmp_path: Path) -> None:
    rated = {"user": ["a", "b"], "item": ["1", "2"], "rating": ["5", "1"]}
    spec = written(tmp_path, tmp_path / "data" / "my sales.csv.gz", rated, tmp_path / "s" / "items.csv")
    dataset = spec["dataset"]
    assert isinstance(dataset, dict)
    assert (dataset["interactions"], dataset["items"]) == ("../data/my sales.csv.gz", "items.csv")
    assert dataset["split"] == {"by": "random", "valid": 0.1, "test": 0.1}
    assert dataset["columns"]["items_key"] == "id"
    assert spec["name"] == "my-sales"


def test_a_ready_label_and_split(tmp_path: Path) -> None:
    columns = {"user": ["a", "b"], "item": ["1", "2"], "label": ["1", "0"], "split": ["train", "test"]}
    dataset = written(tmp_path, tmp_path / "x.csv", columns)["dataset"]
    assert isinstance(dataset, dict)
    assert dataset["label"] == {"from": "label"}
    assert dataset["split"] == {"by": "column"}
