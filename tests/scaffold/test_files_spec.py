"""The spec that `collm data init` writes: valid YAML for any names, files named relative to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

from collm.registry import default_registry
from collm.scaffold.files_spec import files_spec
from collm.scaffold.guess_columns import guess_columns
from collm.spec.resolve import load_spec
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


@pytest.mark.parametrize(
    "stem",
    ["2024", "yes", "No", "1e3", "null", "~", ".5", "0x1F", "2024-01-01", "on", "y", "1_000", "True", "nan", "-"],
)
def test_a_name_is_text_whatever_the_file_is_called(tmp_path: Path, stem: str) -> None:
    rated = {"user": ["a", "b"], "item": ["1", "2"], "rating": ["5", "1"]}
    path = tmp_path / f"{stem}.csv"
    guess = guess_columns(pl.DataFrame(rated), None)
    spec = tmp_path / f"{stem}.yaml"
    spec.write_text(files_spec(path, None, guess, spec=spec))
    read = yaml.safe_load(spec.read_text())["name"]
    assert isinstance(read, str)
    resolved = load_spec(spec, [], default_registry(), cwd=tmp_path)
    assert (resolved.name, resolved.dataset.interactions.name) == (read, path.name)  # type: ignore[union-attr]


def test_what_values_hold_cannot_leave_a_comment(tmp_path: Path) -> None:
    liked = ["yes\x1b[2J", "no\u2028x: 1", "yes\ny: 2"]
    guess = replace(
        guess_columns(pl.DataFrame({"user": ["a"], "item": ["1"], "rating": ["5"]}), None), values=", ".join(liked)
    )
    text = files_spec(tmp_path / "a\nb.csv", None, guess, spec=tmp_path / "s.yaml")
    assert set(yaml.safe_load(text)) == {"name", "dataset", "encoder"}
    assert "\x1b" not in text


def test_what_the_user_said_is_written(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user": ["a"] * 9, "item": ["1"] * 9, "rating": ["0"] * 5 + list("1245"), "when": list("123456789")}
    )
    guess = replace(guess_columns(frame, None, given={"timestamp": "when"}, times="relative"), encoding="cp1252")
    dataset = yaml.safe_load(files_spec(tmp_path / "x.csv", None, guess, spec=tmp_path / "spec.yaml"))["dataset"]
    config = FilesConfig.model_validate({**dataset, "name": "files"})
    assert (config.times, config.encoding, config.label.not_rated) == ("relative", "cp1252", (0.0,))
    assert config.split.by == "quantiles"
