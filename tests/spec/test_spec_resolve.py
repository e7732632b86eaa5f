from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from spec_reports import Load, problems

from collm.contracts.backbone import BackboneConfig
from collm.spec.fingerprint import config_payload, fingerprint


def test_defaults_and_sources(load: Load, full: str, tmp_path: Path) -> None:
    spec = load(full, "encoder.embedding_size=16")
    assert (spec.name, spec.seed, spec.profile) == ("demo", 0, "recommended")
    assert spec.evaluate.splits == ("valid", "test")
    assert spec.evaluate.slices == ("all", "warm", "cold")
    assert spec.evaluate.metrics == ("auc", "uauc", "ndcg")
    assert spec.evaluate.resamples == 1000
    assert spec.dataset.path == tmp_path / "raw"
    assert spec.plain()["encoder"]["embedding_size"] == 16
    assert spec.sources["name"] == "user"
    assert spec.sources["encoder.fit.learning_rate"] == "user"
    assert spec.sources["encoder.embedding_size"] == "--set"
    assert spec.sources["encoder.fit.epochs"] == "default"
    assert spec.sources["history.visibility"] == "profile recommended"
    assert spec.sources["evaluate.metrics"] == "default"


def test_plain_is_a_spec_with_the_same_hash(load: Load, full: str) -> None:
    spec = load(full, "profile=reference")
    again = load(yaml.safe_dump(spec.plain()))
    assert again.plain() == spec.plain()
    assert again.spec_hash == spec.spec_hash
    assert len(spec.spec_hash) == 10


def test_hash_ignores_name_locations_and_number_style(load: Load, full: str) -> None:
    base = load(full).spec_hash
    assert load(full, "name=other", "dataset.path=/elsewhere").spec_hash == base
    assert load(full, "tuning.lora.alpha=16.0").spec_hash == base
    assert load(full, "seed=1").spec_hash != base


def test_sections_are_removed_by_null(load: Load, full: str) -> None:
    spec = load(full, "backbone=null", "prompt=null", "tuning=null", "history=null")
    assert (spec.backbone, spec.prompt, spec.tuning) == (None, None, None)
    assert "backbone" not in spec.plain()
    assert spec.history.max_items == 10


def test_locations_resolve_where_they_were_written(load: Load, tmp_path: Path) -> None:
    text = "name: x\nencoder: {name: mf}\n"
    text += "dataset: {name: files, interactions: ../a.csv, parts: [b, /c], columns: {user: u}}\n"
    plain = load(text, "dataset.path=z").plain()["dataset"]
    assert plain["interactions"] == str(tmp_path.parent / "a.csv")
    assert plain["parts"] == [str(tmp_path / "b"), "/c"]
    assert plain["path"] == str(tmp_path / "cwd" / "z")


def test_a_component_inside_a_component(load: Load, tmp_path: Path) -> None:
    text = (
        "name: x\nprofile: reference\ndataset: {name: movies}\n"
        "encoder: {name: text-din, text_backbone: {name: tiny, dtype: float32, cache: w}}\n"
    )
    spec = load(text)
    inner = spec.encoder.text_backbone  # type: ignore[union-attr]
    assert isinstance(inner, BackboneConfig)
    assert (inner.name, inner.dtype, inner.layers) == ("tiny", "float32", 5)
    assert inner.cache == tmp_path / "w"
    assert spec.sources["encoder.text_backbone.layers"] == "profile reference"
    payload = config_payload(spec.encoder)
    assert payload["text_backbone"] == {
        "name": "tiny",
        "dtype": "float32",
        "max_prompt_tokens": 1024,
        "layers": 5,
        "probe": True,
    }
    assert load(yaml.safe_dump(spec.plain())).spec_hash == spec.spec_hash


def test_problems_inside_an_inner_component(load: Load) -> None:
    text = (
        "name: x\ndataset: {name: movies}\nencoder: {name: text-din, text_backbone: {name: tiny, layer: 3, dtype: f}}\n"
    )
    found = problems(load, text)
    assert [problem.path for problem in found] == ["encoder.text_backbone.layer", "encoder.text_backbone.dtype"]
    assert "did you mean 'layers'" in found[0].message
    (unknown,) = problems(load, text.replace("tiny, layer: 3, dtype: f", "tyni"))
    assert unknown.path == "encoder.text_backbone.name"
    assert "unknown backbone 'tyni' (did you mean 'tiny'?)" in unknown.message
    (missing,) = problems(load, text.partition(", text_backbone")[0] + "}\n")
    assert missing.message == "required field is missing: Reads titles."


def test_fingerprint_is_canonical() -> None:
    assert fingerprint({"b": 1, "a": [1.0, "é"]}) == fingerprint({"a": (1, "é"), "b": 1.0})
    assert fingerprint({"a": 1}) != fingerprint({"a": True})
    assert len(fingerprint(None)) == 16
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(float("nan"))


def test_resolving_never_imports_torch() -> None:
    code = (
        "import sys; import collm.spec.expand, collm.spec.schema, collm.registry; "
        "print(sorted({'torch', 'polars', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
