"""What appears inside a component decides its fingerprint: sources, and the content of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.component import BuildContext, Component, component_field, location_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.encoder import EncoderConfig
from collm.errors import PluginError
from collm.registry import registry_of
from collm.stages.fit_encoder import inner_payload


class FolderConfig(BackboneConfig):
    folder: Path | None = location_field(description="Where the weights lie.")


class OuterConfig(EncoderConfig):
    text: BackboneConfig = component_field("backbone", description="Reads titles.")


class Weights:
    def __init__(self, content: str) -> None:
        self.content = content

    def content_hash(self) -> str:
        return self.content


def build(config: FolderConfig, *, context: BuildContext) -> Weights:
    assert config.folder is not None
    return Weights((config.folder / "weights").read_text(encoding="utf-8"))


REGISTRY = registry_of([Component("backbone", "stored", f"{__name__}:build", FolderConfig, "Stored weights.")])


def test_the_content_of_inner_files_counts_and_their_place_does_not(tmp_path: Path) -> None:
    def payload(folder: str, content: str) -> list[dict[str, str]]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "weights").write_text(content, encoding="utf-8")
        config = OuterConfig(name="outer", text=FolderConfig(name="stored", folder=tmp_path / folder))
        return inner_payload(config, REGISTRY, BuildContext(tmp_path))

    (first,) = payload("a", "one")
    assert (first["kind"], first["name"], first["content"]) == ("backbone", "stored", "one")
    assert first["plugin"] == REGISTRY.code_version("backbone", "stored")
    assert payload("b", "one") == [first]
    assert payload("a", "two") != [first]


def test_a_config_without_components_adds_nothing(tmp_path: Path) -> None:
    assert inner_payload(EncoderConfig(name="mf"), REGISTRY, BuildContext(tmp_path)) == []


def test_a_context_finds_components_where_it_has_a_registry(tmp_path: Path) -> None:
    assert BuildContext(tmp_path, find=REGISTRY.get).component("backbone", "stored").config is FolderConfig
    with pytest.raises(PluginError, match="backbone 'stored' cannot be built inside another component"):
        BuildContext(tmp_path).component("backbone", "stored")
