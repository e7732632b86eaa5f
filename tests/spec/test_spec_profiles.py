"""Profiles: what each fills in, and who wins over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spec_reports import Load

from collm.registry import Registry, default_registry
from collm.spec.profiles import CHOICES, PROFILES
from collm.spec.resolve import load_spec


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
    assert load(full, f"profile={profile}").plain()["mapping"] == {**expected, "vectors": "shared"}


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
