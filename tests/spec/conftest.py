"""A registry of fake components and a writer of YAML files, for the tests of the spec layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from collm.component import Component, component_field, location_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig, FitConfig, VectorEncoderConfig
from collm.contracts.metric import MetricConfig
from collm.contracts.prompt import PromptConfig
from collm.contracts.tuning import StepConfig, TuningConfig
from collm.registry import Registry, registry_of
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec


class FakeColumns(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(description="Column of the user.")
    item: str = Field(default="item", description="Column of the item.")


class FilesConfig(DatasetConfig):
    interactions: Path = location_field(..., description="File of interactions.")
    parts: tuple[Path, ...] = location_field((), description="More files.")
    columns: FakeColumns = Field(description="Names of columns.")
    threshold: int | str = Field(default=3, description="Rating or word that is positive.")


class TextDinConfig(VectorEncoderConfig):
    fit: FitConfig = Field(default=FitConfig(epochs=20), description="Training settings.")
    text_backbone: BackboneConfig = component_field("backbone", description="Reads titles.")


class TinyConfig(BackboneConfig):
    layers: int = Field(default=2, ge=1, description="Number of layers.")
    cache: Path | None = location_field(description="Folder of weights.")


class WordedConfig(PromptConfig):
    wording: Literal["paper", "reference"] = Field(default="paper", description="Wording.")


class DefaultConfig(TuningConfig):
    text: StepConfig = Field(default=StepConfig(), description="First step.")
    collaborative: StepConfig = Field(default=StepConfig(), description="Second step.")


class TextOnlyConfig(TuningConfig):
    text: StepConfig = Field(default=StepConfig(), description="The step.")


class TopConfig(MetricConfig):
    k: int = Field(default=20, ge=1, description="Places that count.")


def fake(kind: Any, name: str, config: Any, **facts: Any) -> Component:
    return Component(kind, name, "fake_plugin.build:make", config, f"Fake {name}.", **facts)


def fake_components() -> list[Component]:
    both = frozenset({"scores", "vectors"})
    return [
        fake("dataset", "movies", DatasetConfig),
        fake("dataset", "files", FilesConfig),
        fake("encoder", "mf", VectorEncoderConfig, gives=both, profiles={"paper": {"fit.epochs": 77}}),
        fake("encoder", "text-din", TextDinConfig, gives=both, needs=frozenset({"text"})),
        fake("encoder", "item-mean", EncoderConfig, gives=frozenset({"scores"}), floor=True),
        fake("encoder", "soft-prompt", EncoderConfig, gives=frozenset({"llm-tokens"})),
        fake("backbone", "tiny", TinyConfig, profiles={"reference": {"layers": 5}}),
        fake("backbone", "large", BackboneConfig),
        fake("prompt", "movie", WordedConfig),
        fake("prompt", "plain", PromptConfig),
        fake("tuning", "default", DefaultConfig, needs=frozenset({"encoder"})),
        fake("tuning", "text-only", TextOnlyConfig),
        *(fake("metric", name, MetricConfig) for name in ("auc", "uauc", "ndcg", "gauc")),
        fake("metric", "top", TopConfig),
    ]


@pytest.fixture(scope="session")
def registry() -> Registry:
    return registry_of(fake_components())


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str | bytes, name: str = "spec.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


@pytest.fixture
def load(write: Write, registry: Registry, tmp_path: Path) -> Callable[..., ResolvedSpec]:
    def load_text(text: str | bytes, *overrides: str) -> ResolvedSpec:
        return load_spec(write(text), overrides, registry, cwd=tmp_path / "cwd")

    return load_text


FULL = """\
name: demo
dataset: {name: movies, path: raw}
encoder: {name: mf, embedding_size: 8, fit: {learning_rate: 1e-3}}
backbone: {name: tiny}
prompt: {name: movie}
tuning: {name: default}
"""


@pytest.fixture
def full() -> str:
    """A spec with every component section."""
    return FULL
