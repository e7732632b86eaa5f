from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from collm.errors import SpecError
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.spec.schema import json_schema


@pytest.fixture(scope="module")
def validator(registry: Registry) -> jsonschema.Draft202012Validator:
    schema = json_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


BASE: dict[str, Any] = {
    "name": "demo",
    "dataset": {"name": "movies", "limit": {"train": 10}},
    "encoder": {"name": "mf", "fit": {"epochs": 3}},
    "backbone": {"name": "tiny", "layers": 3},
    "prompt": {"name": "movie", "wording": "reference"},
    "tuning": {"name": "default", "clip_norm": None},
    "evaluate": {"metrics": ["auc"]},
}
FILES = {"name": "files", "interactions": "a.csv", "columns": {"user": "u"}}
VALID = [
    BASE,
    {**BASE, "history": None, "answer": None},
    {**BASE, "encoder": None, "tuning": {"name": "text-only"}},
    {**BASE, "evaluate": {"metrics": ["auc", "top@5", {"name": "top", "k": 3}, "top(k=4)", {"name": "top"}]}},
    {"name": "x", "seed": 3, "profile": "paper", "dataset": FILES, "encoder": {"name": "mf"}},
    {**BASE, "encoder": {"name": "text-din", "text_backbone": {"name": "tiny", "cache": "w"}}},
]
INVALID = [
    {**BASE, "sed": 1},
    {**BASE, "encoder": {"name": "mff"}},
    {**BASE, "encoder": {"name": "mf", "layers": 3}},
    {**BASE, "encoder": {"fit": {}}},
    {**BASE, "encoder": {"name": "mf", "fit": {"epoch": 3}}},
    {**BASE, "encoder": {"name": "mf", "fit": {"epochs": 0}}},
    {**BASE, "backbone": {"name": "large", "layers": 3}},
    {**BASE, "evaluate": {"metrics": ["auk"]}},
    {**BASE, "evaluate": {"metrics": ["auc@10"]}},
    {**BASE, "evaluate": {"metrics": [{"name": "top", "l": 3}]}},
    {**BASE, "evaluate": {"metrics": [{"name": "tap", "k": 3}]}},
    {**BASE, "evaluate": {"metrics": [{"k": 3}]}},
    {**BASE, "encoder": {"name": "text-din", "text_backbone": {"name": "tyni"}}},
    {**BASE, "encoder": {"name": "text-din", "text_backbone": {"name": "tiny", "layer": 1}}},
    {**BASE, "encoder": {"name": "text-din"}},
    {**BASE, "dataset": {"name": "files", "columns": {"user": "u"}}},
    {**BASE, "dataset": None},
    {key: value for key, value in BASE.items() if key != "name"},
]


@pytest.mark.parametrize("spec", VALID)
def test_what_resolves_validates(
    spec: dict[str, Any], validator: jsonschema.Draft202012Validator, load: Callable[..., ResolvedSpec]
) -> None:
    resolved = load(json.dumps(spec))
    validator.validate(spec)
    validator.validate(resolved.plain())


@pytest.mark.parametrize("spec", INVALID)
def test_what_does_not_validate_does_not_resolve(
    spec: dict[str, Any], validator: jsonschema.Draft202012Validator, load: Callable[..., ResolvedSpec]
) -> None:
    assert not validator.is_valid(spec)
    with pytest.raises(SpecError, match=r"\.yaml:1"):
        load(json.dumps(spec))


def test_suites(validator: jsonschema.Draft202012Validator) -> None:
    suite = {
        "name": "s",
        "base": "base.yaml",
        "runs": {"mf": {"backbone": None, "encoder": {"name": "mf"}, "tuning.max_rows": 3}, "all": {}},
        "matrix": {"backbone.name": ["tiny", "large"]},
        "seeds": [0, 1],
        "exclude": ["mf-tiny", {"run": "mf"}],
    }
    validator.validate(suite)
    validator.validate({"name": "s", "base": BASE})
    for wrong in ({"sed": [1]}, {"runs": {"a": {"encodr": {}}}}, {"runs": {"a": {"encoder": {"name": "mff"}}}}):
        assert not validator.is_valid({**suite, **wrong})


def test_every_component_and_field_is_described(registry: Registry) -> None:
    defs = json_schema(registry)["$defs"]
    for component in registry.components():
        if component.kind == "metric":
            assert component.name in json.dumps(defs["spec"]["properties"]["evaluate"])
        body = defs[f"{component.kind}.{component.name}"]
        assert body["description"] == component.summary
        assert body["properties"]["name"]["const"] == component.name
        assert all(field.get("description") for field in body["properties"].values())
    assert "x-collm-component" not in json.dumps(defs)
