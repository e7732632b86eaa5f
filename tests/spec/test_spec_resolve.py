from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from collm.contracts.backbone import BackboneConfig
from collm.errors import Problem, SpecError
from collm.registry import Registry, default_registry
from collm.spec.fingerprint import config_payload, fingerprint
from collm.spec.model import ResolvedSpec
from collm.spec.profiles import CHOICES, PROFILES
from collm.spec.resolve import load_spec

Load = Callable[..., ResolvedSpec]


def problems(load: Load, text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError, match=r".") as caught:
        load(text, *overrides)
    return caught.value.problems


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


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("paper", ("all", 10, "at-least-3", "rest", "paper", "yes_logit", "linear-warmup-cosine", False, None, "full")),
        (
            "reference",
            ("all", 10, "more-than-3", "unseen", "reference", "yes_logit", "reference-sawtooth", True, None, "half"),
        ),
        (
            "recommended",
            (
                *("strictly-earlier", 10, "at-least-3", "rest", "paper", "yes_minus_no"),
                *("linear-warmup-cosine", False, 1.0, "full"),
            ),
        ),
    ],
)
def test_profiles(load: Load, full: str, profile: str, expected: tuple[object, ...]) -> None:
    plain = load(full, f"profile={profile}").plain()
    got = (
        plain["history"]["visibility"],
        plain["history"]["max_items"],
        plain["slices"]["warm"],
        plain["slices"]["cold"],
        plain["prompt"]["wording"],
        plain["answer"]["readout"],
        plain["tuning"]["schedule"],
        plain["tuning"]["frozen_lora_dropout"],
        plain["tuning"]["clip_norm"],
        plain["select"]["rows"],
    )
    assert got == expected


def test_the_published_codes_loop_is_the_reference_profile(load: Load, full: str) -> None:
    plain = load(full, "profile=reference").plain()
    step = {"warmup_steps": 200, "epoch_steps": 50, "epochs": 200.0, "validations_per_epoch": 1.0, "patience": 21}
    for name in ("text", "collaborative"):
        assert {key: plain["tuning"][name][key] for key in step} == step
    assert (plain["tuning"]["warmup_start"], plain["tuning"]["min_learning_rate"]) == (1e-5, 8e-5)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("paper", {"init": "torch-default", "standardise": False, "width_factor": 10, "tokens": 1}),
        ("reference", {"init": "torch-default", "standardise": False, "width_factor": 10, "tokens": 1}),
        ("recommended", {"init": "token-norm", "standardise": True, "width_factor": 10, "tokens": 1}),
    ],
)
def test_the_mapping_is_a_row_of_the_profiles(load: Load, full: str, profile: str, expected: dict[str, object]) -> None:
    assert load(full, f"profile={profile}").plain()["mapping"] == expected


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        ({"dataset": "amazon-book", "encoder": "sasrec"}, "mapping.width_factor", 15),
        ({"dataset": "amazon-book", "encoder": "mf"}, "mapping.width_factor", 10),
        ({"dataset": "ml-1m", "encoder": "sasrec"}, "mapping.width_factor", 10),
        ({"dataset": "amazon-book"}, "tuning.text.epoch_steps", 100),
        ({"dataset": "amazon-book"}, "select.rows", "quarter"),
        ({"dataset": "collm-released"}, "select.rows", "published"),
        ({"dataset": "ml-1m"}, "select.rows", "half"),
        ({"backbone": "qwen2-1.5b"}, "tuning.text.learning_rate", 1e-4),
        ({"backbone": "qwen2-1.5b"}, "tuning.collaborative.learning_rate", 1e-2),
        ({"dataset": "amazon-book", "encoder": "sasrec"}, "tuning.collaborative.learning_rate", 1e-4),
        ({"encoder": "soft-prompt"}, "tuning.collaborative.learning_rate", 1e-4),
        ({"dataset": "amazon-book", "encoder": "soft-prompt"}, "tuning.collaborative.learning_rate", 1e-2),
        ({"encoder": "id-tokens"}, "tuning.collaborative.learning_rate", 1e-2),
    ],
)
def test_the_published_code_differs_by_dataset_encoder_and_backbone(
    names: dict[str, str], path: str, expected: object
) -> None:
    assert CHOICES[path].of("reference", names) == expected
    if path != "mapping.width_factor":
        assert CHOICES[path].of("recommended", names) == CHOICES[path].of("recommended", {})


@pytest.mark.parametrize(
    ("dataset", "profile", "name", "field", "expected"),
    [
        ("ml-1m", "paper", "sasrec", "max_length", None),
        ("ml-1m", "reference", "sasrec", "max_length", 25),
        ("amazon-book", "reference", "sasrec", "max_length", 20),
        ("amazon-book", "paper", "sasrec", "max_length", None),
        ("ml-1m", "reference", "lightgcn", "embedding_size", 64),
        ("amazon-book", "reference", "lightgcn", "embedding_size", 256),
        ("amazon-book", "paper", "lightgcn", "fit.learning_rate", 1e-4),
        ("amazon-book", "reference", "lightgcn", "fit.weight_decay", 1e-7),
        ("amazon-book", "reference", "din", "embedding_size", 256),
        ("amazon-book", "reference", "mf", "fit.batch_size", 10240),
        ("amazon-book", "recommended", "lightgcn", "embedding_size", 64),
    ],
)
def test_encoder_profiles_know_the_dataset(
    dataset: str, profile: str, name: str, field: str, expected: object, tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        f"name: x\nprofile: {profile}\ndataset: {{name: {dataset}, path: raw}}\nencoder: {{name: {name}}}\n"
    )
    found: Any = load_spec(path, [], default_registry(), cwd=tmp_path).plain()["encoder"]
    for part in field.split("."):
        found = found[part]
    assert found == expected


def test_recommended_profile_is_the_defaults_of_the_classes(registry: Registry) -> None:
    from collm.spec.model import CORE_SECTIONS
    from collm.spec.profiles import section_defaults

    for section, model in CORE_SECTIONS.items():
        for field, value in section_defaults(section, model, "recommended", {}):
            assert getattr(model(), field) == value, (section, field)
    assert PROFILES == ("paper", "reference", "recommended")


def test_a_components_own_profile_values(load: Load, full: str) -> None:
    assert load(full, "profile=paper").plain()["encoder"]["fit"]["epochs"] == 77
    assert load(full, "profile=paper", "encoder.fit.epochs=3").plain()["encoder"]["fit"]["epochs"] == 3
    assert load(full, "profile=paper").sources["encoder.fit.epochs"] == "profile paper"


def test_user_null_wins_over_a_profile(load: Load, full: str) -> None:
    spec = load(full, "tuning.clip_norm=null")
    assert spec.tuning is not None
    assert spec.tuning.clip_norm is None
    assert spec.sources["tuning.clip_norm"] == "--set"


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


def test_five_mistakes_in_one_report(load: Load, full: str) -> None:
    text = (
        full.replace("name: movies", "name: movis")
        .replace("embedding_size: 8", "embeding_size: 8")
        .replace("1e-3", "-1")
        .replace("{name: tiny}", "{name: tiny, dtype: float31}")
        + "evaluate: {metrics: [auk]}\n"
    )
    found = problems(load, text)
    places = [(problem.line, problem.column, problem.path) for problem in found]
    assert places == [
        (2, 17, "dataset.name"),
        (3, 21, "encoder.embeding_size"),
        (3, 60, "encoder.fit.learning_rate"),
        (4, 31, "backbone.dtype"),
        (7, 22, "evaluate.metrics[0]"),
    ]
    assert "did you mean 'movies'" in found[0].message
    assert "did you mean 'embedding_size'" in found[1].message
    assert "got the number -1, must be greater than 0" in found[2].message
    assert "did you mean 'float32'" in found[3].message
    assert "did you mean 'auc'" in found[4].message


def test_a_bad_neighbour_hides_no_misspelled_metric(load: Load, full: str) -> None:
    found = problems(load, full + "evaluate: {metrics: [auk], splits: [train]}\n")
    assert [problem.path for problem in found] == ["evaluate.metrics[0]", "evaluate.splits[0]"]


@pytest.mark.parametrize(
    ("override", "path", "part"),
    [
        ("seed=-1", "seed", "must be greater than or equal to 0"),
        ("seed=true", "seed", "got the boolean true, must be a whole number"),
        ("seed=1.0", "seed", "write 1"),
        ("profile=papr", "profile", "must be one of: paper, reference, recommended; did you mean 'paper'?"),
        ("name=Yes", "name", 'YAML reads Yes as a boolean: quote it ("Yes")'),
        ("name=12", "name", 'quote it ("12")'),
        ("name=a/b", "name", "got 'a/b', must match pattern"),
        ("encoder=mf", "encoder", "write {name: mf}"),
        ("encoder.name=null", "encoder.name", "must be the encoder's name"),
        ("encoder.name=Yes", "encoder.name", 'quote it: "Yes"'),
        ("encoder={fit: {epochs: 3}}", "encoder.name", "installed: item-mean, mf, soft-prompt, text-din"),
        ("encoder.learning_rate=1", "encoder.learning_rate", "did you mean 'fit.learning_rate'?"),
        ("encoder.fit=3", "encoder.fit", "must be a mapping of fields"),
        ("encoder.fit.epochs='3'", "encoder.fit.epochs", "remove the quotes"),
        ("encoder.fit.epochs=1e2", "encoder.fit.epochs", "got the number 1e2, must be a whole number; write 100"),
        ("encoder.fit.learning_rate=yes", "encoder.fit.learning_rate", "must be a number"),
        ("evaluate.splits=[train]", "evaluate.splits[0]", "must be one of: valid, test"),
        ("evaluate.splits=valid", "evaluate.splits", "must be a list"),
        ("evaluate.metrics=[]", "evaluate.metrics", "at least 1 item"),
        ("evaluate.metrics=[auc, auc]", "evaluate.metrics[1]", "'auc' is given twice"),
        ("evaluate=3", "evaluate", "must be a mapping"),
        ("tuning.frozen_lora_dropout='true'", "tuning.frozen_lora_dropout", "remove the quotes"),
        ("prompt.wording=No", "prompt.wording", 'quote it ("No")'),
        ("dataset.limit.train=0", "dataset.limit.train", "greater than or equal to 1"),
        ("dataset=null", "dataset", "required section is missing"),
        ("name=null", "name", "must be text"),
        ("bakbone.name=x", "bakbone", "did you mean 'backbone'?"),
        ("runs={}", "runs", "belongs to a suite"),
        ("study={}", "study", "belongs to a study file"),
    ],
)
def test_located_messages(load: Load, full: str, override: str, path: str, part: str) -> None:
    (problem,) = problems(load, full, override)
    assert problem.path == path
    assert part in problem.message
    assert problem.file == "--set" or override == "dataset=null"


def test_name_is_required_and_top_must_be_a_mapping(load: Load, full: str) -> None:
    (problem,) = problems(load, full.replace("name: demo\n", ""))
    assert str(problem).endswith(
        ":1:1: name: required field is missing: Name of the run and of its folder: letters, digits, '.', '_', '+', '-'."
    )
    assert "must be a mapping" in problems(load, "- a\n")[0].message
    assert "must be a mapping" in problems(load, "hello\n")[0].message


def test_union_branches_become_one_problem(load: Load) -> None:
    text = "name: x\nencoder: {name: mf}\ndataset: {name: files, interactions: a, columns: {user: u}, threshold: 1.5}\n"
    (problem,) = problems(load, text)
    assert problem.path == "dataset.threshold"
    assert problem.message.startswith("got the number 1.5, must be a whole number")
    assert "or must be text" in problem.message


def test_name_changed_by_set_says_how_to_replace(load: Load, full: str) -> None:
    found = problems(load, full, "encoder.name=item-mean")
    assert any("--set 'encoder={name: item-mean}'" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("overrides", "path", "part"),
    [
        (("encoder=null",), "tuning.name", "'default' needs an encoder and none is given"),
        (("tuning={name: text-only}",), "tuning.name", "'text-only' reads text only and would ignore the encoder"),
        (("prompt=null",), "prompt", "add e.g. `prompt: {name: movie}`"),
        (("tuning=null",), "tuning", "add e.g. `tuning: {name: default}`"),
        (("backbone=null", "tuning=null"), "prompt", "`prompt` is given without `backbone`"),
        (("backbone=null", "prompt=null"), "tuning", "--set tuning=null"),
        (
            ("backbone=null", "prompt=null", "tuning=null", "encoder=null"),
            "encoder",
            "a spec needs an `encoder`, a `backbone`, or both",
        ),
        (("encoder={name: item-mean}",), "encoder.name", "'item-mean' gives only scores, a prompt needs vectors"),
        (
            ("backbone=null", "prompt=null", "tuning=null", "encoder={name: soft-prompt}"),
            "encoder.name",
            "cannot recommend alone",
        ),
    ],
)
def test_rules_across_sections(load: Load, full: str, overrides: tuple[str, ...], path: str, part: str) -> None:
    (problem,) = problems(load, full, *overrides)
    assert problem.path == path
    assert part in problem.message


def test_rules_and_component_problems_come_together(load: Load, full: str) -> None:
    found = problems(load, full, "encoder=null", "backbone.layers=0", "colour=red")
    assert {problem.path for problem in found} == {"tuning.name", "backbone.layers", "colour"}


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
