"""What lies at the places that a spec names is a part of it, whatever component names them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from collm.component import BuildContext, Component, ComponentConfig, component_field, location_field, locations
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig
from collm.contracts.metric import MetricConfig
from collm.contracts.prompt import PromptConfig
from collm.contracts.tuning import TuningConfig
from collm.errors import DataError
from collm.registry import registry_of
from collm.spec.contents import config_contents, run_hash, spec_contents
from collm.spec.fingerprint import config_payload


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = location_field(..., description="A table.")


class InnerConfig(BackboneConfig):
    weights: Path | None = location_field(description="Weights.", files=("*.bin",))


class OuterConfig(EncoderConfig):
    vectors: Path | None = location_field(description="Vectors.")
    parts: tuple[Path, ...] = location_field((), description="More vectors.")
    named: dict[str, Path] = location_field({}, description="Vectors by name.")
    plain: Path | None = Field(default=None, description="A path without location_field.")
    table: Table | None = Field(default=None, description="A nested section.")
    text: BackboneConfig | None = component_field("backbone", None, description="Reads titles.")


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    return [folder / name for name in names]


def test_every_place_of_a_config_is_found(tmp_path: Path) -> None:
    a, b, c, d, e = files(tmp_path, "a", "b", "c", "d", "e")
    inner = InnerConfig(name="inner", weights=tmp_path)
    config = OuterConfig(
        name="outer", vectors=a, parts=(b, c), named={"x": d}, plain=e, table=Table(file=a), text=inner
    )
    found = {each.field: (each.path, each.owner) for each in locations(config, "encoder", "encoder.")}
    assert found == {
        "encoder.vectors": (a, "encoder"),
        "encoder.parts[0]": (b, "encoder"),
        "encoder.parts[1]": (c, "encoder"),
        "encoder.named.x": (d, "encoder"),
        "encoder.plain": (e, "encoder"),
        "encoder.table.file": (a, "encoder"),
        "encoder.text.weights": (tmp_path, "backbone"),
    }
    assert not any(str(tmp_path) in str(value) for value in config_payload(config).values())


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_bytes_decide_and_names_do_not(tmp_path_factory: pytest.TempPathFactory, one: bytes, two: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "one").write_bytes(one)
    (folder / "two").write_bytes(two)
    first, second = (config_contents(OuterConfig(name="o", plain=folder / name), "encoder") for name in ("one", "two"))
    assert (first == second) == (one == two)


def test_only_files_that_count_count(tmp_path: Path) -> None:
    files(tmp_path, "w.bin", "README")
    before = config_contents(InnerConfig(name="inner", weights=tmp_path), "backbone")
    files(tmp_path, "notes")
    assert config_contents(InnerConfig(name="inner", weights=tmp_path), "backbone") == before
    (tmp_path / "w.bin").write_text("other")
    assert config_contents(InnerConfig(name="inner", weights=tmp_path), "backbone") != before


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npy: cannot be read"):
        config_contents(OuterConfig(name="o", vectors=tmp_path / "nowhere.npy"), "encoder")


CONFIGS: dict[str, type[ComponentConfig]] = {
    "dataset": DatasetConfig,
    "encoder": EncoderConfig,
    "backbone": BackboneConfig,
    "prompt": PromptConfig,
    "tuning": TuningConfig,
    "metric": MetricConfig,
}


class Source:
    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    def content_hash(self) -> str:
        return "rows" if self.config.path is None else self.config.path.read_text(encoding="utf-8")


def build(config: DatasetConfig, *, context: BuildContext) -> Source:
    return Source(config)


def spec_of(sections: dict[str, Any], *, spec_hash: str, metrics: tuple[str, ...] = ()) -> Any:
    """What is read of a resolved spec."""
    given = [(kind, kind, config) for kind, config in sections.items()]
    evaluate = SimpleNamespace(metrics=metrics, ranking=None)
    return SimpleNamespace(spec_hash=spec_hash, evaluate=evaluate, components=lambda: iter(given), **sections)


@pytest.mark.parametrize("kind", CONFIGS)
def test_files_of_a_component_of_any_kind_decide_the_run(tmp_path: Path, kind: str) -> None:
    (place,) = files(tmp_path, "file")

    class Named(CONFIGS[kind]):  # type: ignore[misc]
        file: Path | None = location_field(place if kind == "metric" else None, description="A file.")

    gives = {"gives": frozenset({"scores"})} if kind == "encoder" else {}
    component = Component(kind, "named", f"{__name__}:build", Named, "Named.", **gives)  # type: ignore[arg-type]
    plain = Component("dataset", "rows", f"{__name__}:build", DatasetConfig, "Rows.")
    registry = registry_of([component, plain])
    sections: dict[str, Any] = {"dataset": DatasetConfig(name="rows")}
    if kind != "metric":
        sections[kind] = Named(name="named", file=place)
    metrics = ("named",) if kind == "metric" else ()
    spec = spec_of(sections, spec_hash="0123456789", metrics=metrics)
    context = BuildContext(tmp_path)

    first = run_hash(spec, registry, context)  # type: ignore[arg-type]
    assert first != "0123456789"
    field = "evaluate.metrics.named.file" if kind == "metric" else f"{kind}.file"
    assert field in spec_contents(spec, registry, context)  # type: ignore[arg-type]
    place.write_text("other", encoding="utf-8")
    assert run_hash(spec, registry, context) != first  # type: ignore[arg-type]


def test_the_dataset_says_what_its_path_holds(tmp_path: Path) -> None:
    registry = registry_of([Component("dataset", "rows", f"{__name__}:build", DatasetConfig, "Rows.")])
    one, two = files(tmp_path, "one", "two")

    def hashed(path: Path | None) -> str:
        spec = spec_of({"dataset": DatasetConfig(name="rows", path=path)}, spec_hash="abc")
        return run_hash(spec, registry, BuildContext(tmp_path))

    assert hashed(None) == "abc"
    assert len({hashed(None), hashed(one), hashed(two)}) == 3
    two.write_text("one", encoding="utf-8")
    assert hashed(one) == hashed(two)
