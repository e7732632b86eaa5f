"""Several encoders in one spec: `encoders`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from spec_reports import Load, problems

from collm.registry import Registry
from collm.spec.expand import Suite, load_any
from collm.spec.schema import json_schema

TWO = """\
name: demo
dataset: {name: movies, path: raw}
encoders:
  cf: {name: mf, embedding_size: 8}
  text: {name: text-din, text_backbone: {name: tiny, cache: weights}}
backbone: {name: tiny}
prompt: {name: movie}
tuning: {name: default}
"""
ONE = TWO.replace("encoders:\n  cf: ", "encoder: ").replace(
    "  text: {name: text-din, text_backbone: {name: tiny, cache: weights}}\n", ""
)


def test_each_has_its_own_settings_defaults_and_sources(load: Load, tmp_path: Path) -> None:
    spec = load(TWO, "encoders.text.fit.epochs=7", "profile=paper")
    assert spec.encoder is None
    assert list(spec.all_encoders) == ["cf", "text"]
    plain = spec.plain()["encoders"]
    assert plain["cf"]["embedding_size"] == 8
    assert plain["cf"]["fit"]["epochs"] == 77, "the profile of the component"
    assert plain["text"]["fit"]["epochs"] == 7
    assert spec.sources["encoders.text.fit.epochs"] == "--set"
    assert spec.sources["encoders.cf.fit.epochs"] == "profile paper"
    assert spec.sources["encoders.cf.embedding_size"] == "user"
    assert plain["text"]["text_backbone"]["cache"] == str(tmp_path / "weights")
    assert [(path, kind) for path, kind, _ in spec.components() if kind == "encoder"] == [
        ("encoders.cf", "encoder"),
        ("encoders.text", "encoder"),
    ]


def test_plain_is_a_spec_with_the_same_hash_and_order_counts_for_nothing(load: Load) -> None:
    spec = load(TWO)
    again = load(yaml.safe_dump(spec.plain()))
    assert again.plain() == spec.plain()
    assert again.spec_hash == spec.spec_hash
    assert load(TWO, "encoders.cf.embedding_size=9").spec_hash != spec.spec_hash
    assert "encoders" not in load(ONE).plain()
    # A spec with one encoder has the hash of versions that knew one only.
    assert load(ONE).spec_hash == load(ONE, "encoders=null").spec_hash == "b1313e10e7"


@pytest.mark.parametrize(
    ("overrides", "path", "said"),
    [
        (["encoder={name: mf}"], "encoders", "`encoder` and `encoders` are given"),
        (["backbone=null", "prompt=null", "tuning=null"], "encoders", "several encoders fill the slots of a prompt"),
        (["encoders.cf.name=mff"], "encoders.cf.name", "did you mean 'mf'?"),
        (["encoders.cf.embeding_size=4"], "encoders.cf.embeding_size", "unknown field 'embeding_size'"),
        (["encoders.cf.name=item-mean"], "encoders.cf.name", "'item-mean' gives only scores, a prompt needs vectors"),
        (["encoders.Cf={name: mf}"], "encoders.Cf", "got 'Cf', a name must be lower-case letters"),
        (["encoders=mf"], "encoders", "must map names of your choice to encoders"),
        (["tuning.name=text-only"], "tuning.name", "reads text only and would ignore the encoder"),
        (["encoder.embedding_size=4"], "encoder.name", "`name` of the encoder is missing"),
    ],
)
def test_mistakes_are_located(load: Load, overrides: list[str], path: str, said: str) -> None:
    found = problems(load, TWO, *overrides)
    assert any(each.path == path and said in each.message for each in found), found


def test_a_run_of_a_suite_adds_removes_and_replaces_one(
    write: Callable[..., Path], registry: Registry, tmp_path: Path
) -> None:
    write(TWO, "base.yaml")
    suite = """\
name: several
base: base.yaml
runs:
  both: {}
  cf-alone: {encoders.text: null}
  other: {encoders: {cf: {name: text-din, text_backbone: {name: tiny}}}}
  bigger: {encoders.cf.embedding_size: 16}
"""
    loaded = load_any(write(suite, "suite.yaml"), ["encoders.cf.fit.epochs=5"], registry, cwd=tmp_path)
    assert isinstance(loaded, Suite)
    specs = {run.key: run.spec for run in loaded.runs}
    assert list(specs["cf-alone"].encoders) == ["cf"]
    assert specs["other"].encoders["cf"].name == "text-din"
    assert specs["other"].plain()["encoders"]["cf"]["fit"]["epochs"] == 5, "also where the run names another"
    assert specs["bigger"].plain()["encoders"]["cf"]["embedding_size"] == 16
    assert specs["bigger"].plain()["encoders"]["cf"]["fit"]["epochs"] == 5, "--set reaches every run"


def test_the_schema_knows_them(registry: Registry) -> None:
    schema = json.loads(json.dumps(json_schema(registry)))
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(TWO))
    assert not validator.is_valid(yaml.safe_load(TWO.replace("embedding_size", "embeding_size")))
    suite = {"name": "s", "base": "b.yaml", "runs": {"a": {"encoders": {"cf": None}, "encoders.cf.name": "mf"}}}
    assert validator.is_valid(suite)
