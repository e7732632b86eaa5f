"""Components inside components: names that a profile fills, what must be given, whose mistake it is."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import Field, field_validator

from collm.component import Component, component_field, inner_components
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig, VectorEncoderConfig
from collm.contracts.metric import MetricConfig
from collm.errors import SpecError
from collm.registry import Registry, registry_of
from collm.spec.component_config import component_config
from collm.spec.node import Place, from_plain
from collm.spec.resolve import resolve_document
from collm.spec.schema import json_schema

VECTORS = frozenset({"vectors"})


class OuterConfig(EncoderConfig):
    inner: EncoderConfig = component_field("encoder", description="Encoder inside.", gives=VECTORS)
    text: BackboneConfig | None = component_field("backbone", None, description="Reads titles.")

    @field_validator("inner")
    @classmethod
    def _not_svd(cls, value: EncoderConfig) -> EncoderConfig:
        if value.name == "svd":
            raise ValueError("svd is too old")
        return value


class LayersConfig(BackboneConfig):
    layers: int = Field(default=2, ge=1, description="Number of layers.")


def fake(kind: Any, name: str, config: Any, **facts: Any) -> Component:
    return Component(kind, name, "fake_plugin.build:make", config, f"Fake {name}.", **facts)


@pytest.fixture(scope="module")
def registry() -> Registry:
    both = VECTORS | {"scores"}
    return registry_of(
        [
            fake("dataset", "movies", DatasetConfig),
            fake("encoder", "mf", VectorEncoderConfig, gives=both, profiles={"paper": {"embedding_size": 7}}),
            fake("encoder", "svd", VectorEncoderConfig, gives=both),
            fake("encoder", "mean", EncoderConfig, gives=frozenset({"scores"})),
            fake("encoder", "outer", OuterConfig, gives=both),
            fake(
                "encoder",
                "filled",
                OuterConfig,
                gives=both,
                profiles={name: {"inner.name": "mf", "text.name": "llm"} for name in ("paper", "recommended")},
            ),
            fake("backbone", "llm", LayersConfig),
            *(fake("metric", name, MetricConfig) for name in ("auc", "uauc", "ndcg")),
        ]
    )


def resolve(registry: Registry, encoder: dict[str, Any], **head: Any) -> Any:
    plain = {"name": "x", "dataset": {"name": "movies"}, "encoder": encoder, **head}
    return resolve_document(from_plain(plain, Place("x.yaml")), registry).encoder


def test_a_profile_fills_the_name_and_the_inner_profile_follows(registry: Registry) -> None:
    config = resolve(registry, {"name": "filled"}, profile="paper")
    assert (config.inner.name, config.inner.embedding_size, config.text.layers) == ("mf", 7, 2)
    partly = resolve(registry, {"name": "filled", "inner": {"fit": {"epochs": 3}}, "text": {"layers": 9}})
    assert (partly.inner.name, partly.inner.fit.epochs, partly.text.layers) == ("mf", 3, 9)
    other = resolve(registry, {"name": "filled", "inner": {"name": "outer", "inner": {"name": "mf"}}})
    assert other.inner.inner.name == "mf"
    assert [(kind, each.name) for kind, each in inner_components(other)] == [
        ("encoder", "outer"),
        ("encoder", "mf"),
        ("backbone", "llm"),
    ]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            {"name": "outer", "inner": {"name": "mean"}},
            r"encoder\.inner\.name: 'mean' gives scores; here vectors are needed, which these give: filled, mf, outer",
        ),
        ({"name": "outer", "inner": {"name": "svd"}}, r"encoder\.inner: .*svd is too old"),
        ({"name": "outer", "inner": {"name": "mf", "layers": 3}}, r"encoder\.inner\.layers: unknown field 'layers'"),
        ({"name": "outer"}, r"encoder\.inner: required field is missing"),
    ],
)
def test_every_mistake_is_told_once(registry: Registry, encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        resolve(registry, encoder)
    assert len(caught.value.problems) == 1
    settings = {key: value for key, value in encoder.items() if key != "name"}
    with pytest.raises(SpecError, match=message):
        component_config(registry.get("encoder", "outer"), settings, registry)


def test_settings_alone_give_the_config_that_a_spec_would(registry: Registry) -> None:
    settings = {"inner": {"embedding_size": 3}}
    made = component_config(registry.get("encoder", "filled"), settings, registry, profile="paper")
    assert made == resolve(registry, {"name": "filled", **settings}, profile="paper")


def test_the_schema_takes_a_component_whose_name_a_profile_fills(registry: Registry) -> None:
    schema = json.loads(json.dumps(json_schema(registry)))
    marks = ("x-collm-component", "x-collm-gives", "x-collm-name-filled")
    assert not any(mark in json.dumps(schema) for mark in marks)
    validator = jsonschema.Draft202012Validator(schema)
    base = {"name": "x", "dataset": {"name": "movies"}}
    for good in (
        {"name": "filled"},
        {"name": "filled", "inner": {"fit": {"epochs": 3}}, "text": None},
        {"name": "filled", "inner": {"name": "mf", "embedding_size": 3}},
    ):
        validator.validate({**base, "encoder": good})
    for bad in (
        {"name": "filled", "inner": {"name": "mf", "layers": 3}},
        {"name": "filled", "inner": {"name": "svdd"}},
        {"name": "filled", "inner": 3},
        {"name": "outer"},
        {"name": "outer", "inner": {"embedding_size": 3}},
    ):
        assert not validator.is_valid({**base, "encoder": bad})
