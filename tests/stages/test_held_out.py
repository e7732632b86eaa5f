"""Rows that an encoder does not see, and what a step tunes on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from collm.contracts.data import InteractionTable, Limit
from collm.contracts.tuning import GroupPlan, StepConfig, TuneStep, TuningConfig
from collm.data.checks import SCHEMA
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.registry import default_registry
from collm.stages.held_out import (
    encoder_upstream,
    encoder_view,
    fit_note,
    held_out_share,
    is_held_out,
    training_rows,
    unread_settings,
)
from collm_tuning.config import TwoStepConfig, UntunedConfig
from collm_tuning.strategies import default


class Source:
    """40 rows of 4 users in training, then 4 each in validation and test; each user rates twice a second."""

    def content_hash(self) -> str:
        return "hash"

    def load(self) -> InteractionTable:
        n = 48
        frame = pl.DataFrame(
            {
                "user": np.arange(n) % 4 + 1,
                "item": np.arange(n) // 4 + 1,
                "label": np.arange(n) % 2,
                "rating": np.full(n, 3.0),
                "timestamp": np.arange(n) // 8,
                "split": ["train"] * 40 + ["valid"] * 4 + ["test"] * 4,
                "row": np.arange(n),
                "order": np.arange(n) // 4,
            },
            schema=SCHEMA,
        )
        ids = [""] + [str(i) for i in range(1, 13)]
        return InteractionTable(frame, ids[:5], ids, ids, "by order")


class Strictly:
    visibility = "strictly-earlier"


@pytest.fixture
def data(tmp_path) -> PreparedData:
    prepare(Source(), limit=Limit(), history=Strictly(), folder=tmp_path)
    return PreparedData.open(tmp_path)


def step(rows: str) -> TuneStep:
    plan = {"lora": GroupPlan(False, "previous"), "projector": GroupPlan(True, "scratch")}
    return TuneStep("collaborative", "hybrid", plan, {"projector": StepConfig(rows=rows)})


def test_the_encoder_sees_what_the_step_does_not(data: PreparedData) -> None:
    tuned = training_rows(data, step("held-out"), TuningConfig(name="x", held_out_share=0.3), seed=0)
    view = encoder_view(data, 0.3)
    seen = view.rows("train")
    assert sorted([*tuned.row, *seen.row]) == list(range(40))
    assert seen.timestamp.max() < tuned.timestamp.min()
    # 12 rows were asked for; the second at the cut is not divided.
    assert len(tuned) == 16
    assert np.array_equal(view.item_train_rows, data.item_train_rows)
    assert np.array_equal(view.rows("valid").row, data.rows("valid").row)
    assert len(data.rows("train")) == 40


def test_all_rows_without_it(data: PreparedData) -> None:
    assert len(training_rows(data, step("all"), TuningConfig(name="x"), seed=0)) == 40
    assert encoder_view(data, 0.0) is data
    assert encoder_upstream("print", 0.0) == "print"
    assert encoder_upstream("print", 0.3) != encoder_upstream("print", 0.2) != "print"


def test_drawn_rows_share_history_and_a_smaller_draw_is_a_part(data: PreparedData) -> None:
    drawn = {n: training_rows(data, step("all"), TuningConfig(name="x", max_rows=n), seed=3) for n in (5, 15)}
    largest = np.unique(data.history_groups(data.rows("train")), return_counts=True)[1].max()
    assert all(n <= len(rows) < n + largest for n, rows in drawn.items())
    assert set(drawn[5].row) <= set(drawn[15].row)
    assert len(np.unique(drawn[15].user)) > 2
    rows = data.rows("train")
    groups = data.history_groups(rows)
    for n, some in drawn.items():
        whole = set(rows.row[np.isin(groups, data.history_groups(some))])
        assert whole == set(some.row), n


def test_groups_are_users_with_their_history(data: PreparedData) -> None:
    rows = data.rows("train")
    groups = data.history_groups(rows)
    histories = data.history(rows, 40)
    keys = [(user, *history) for user, history in zip(rows.user, histories, strict=True)]
    for a in range(40):
        for b in range(a):
            if groups[a] == groups[b]:
                assert keys[a] == keys[b]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_second_is_never_divided(data: PreparedData, share: float) -> None:
    rows = data.rows("train")
    held = is_held_out(rows, share)
    assert held.sum() >= share * len(rows)
    assert not set(rows.timestamp[held]) & set(rows.timestamp[~held])


def test_the_spec_decides_through_its_strategy() -> None:
    class Spec:
        tuning = TwoStepConfig(name="default")
        all_encoders: ClassVar = {"": object()}

    registry = default_registry()
    assert held_out_share(Spec(), registry) == 0.0
    Spec.tuning = TwoStepConfig(name="default", held_out_share=0.25, collaborative=StepConfig(rows="held-out"))
    assert held_out_share(Spec(), registry) == 0.25
    assert default(Spec.tuning).plan()[0].optimiser["lora"].rows == "all"
    Spec.all_encoders = {}
    assert held_out_share(Spec(), registry) == 0.0


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (TwoStepConfig, {"held_out_share": 0.5}, "held_out_share is 0.5, .* or set rows: held-out in a step"),
        (UntunedConfig, {"held_out_share": 0.5}, "there is none; remove held_out_share"),
        (TuningConfig, {"min_learning_rate": 1e-4}, "linear-warmup-cosine does not read it; remove min_learning_rate"),
        (TuningConfig, {"schedule": "cosine_with_min_lr", "warmup_start": 1e-4}, "or set schedule: reference-sawtooth"),
    ],
)
def test_settings_that_nothing_reads_are_refused(
    config: type[TuningConfig], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config(name="x", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"held_out_share": 0.2, "min_learning_rate": 8e-5, "warmup_start": 1e-5},
        {"held_out_share": 0.5, "text": {"rows": "held-out"}},
        {"schedule": "cosine_with_min_lr", "min_learning_rate": 1e-4},
        {"schedule": "reference-sawtooth", "min_learning_rate": 1e-4, "warmup_start": 1e-4},
    ],
)
def test_settings_that_are_read_or_usual_are_accepted(settings: dict[str, Any]) -> None:
    found = TwoStepConfig.model_validate({"name": "x", **settings})
    assert TwoStepConfig.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("is_fitted", "n_seen", "said"),
    [
        ({}, 40, "floors were fitted on all 40"),
        ({"": True}, 40, "the encoder and floors were fitted on all 40"),
        ({"": True}, 32, "the encoder was fitted on the earliest 32, floors on all 40"),
        ({"a": True, "b": True}, 32, "the encoders were fitted on the earliest 32, floors on all 40"),
        (
            {"": False},
            32,
            "floors were fitted on all 40; the encoder was not fitted before, tuning trains it from initial weights",
        ),
        (
            {"a": True, "b": False},
            40,
            "encoder a and floors were fitted on all 40; encoder b was not fitted before, tuning trains it from "
            "initial weights",
        ),
    ],
)
def test_notes_name_the_fits_that_were_made(is_fitted: dict[str, bool], n_seen: int, said: str) -> None:
    assert fit_note(is_fitted, trained={"encoder", "projector"}, n_rows=40, n_seen=n_seen) == said


def test_settings_that_a_joint_step_does_not_read_are_said():
    both = {"lora": GroupPlan(True, "scratch"), "projector": GroupPlan(True, "scratch")}
    lora, mapping = StepConfig(learning_rate=1e-4, epochs=2), StepConfig(epochs=3, rows="held-out")
    joint = TuneStep("joint", "hybrid", both, {"lora": lora, "projector": mapping})
    assert unread_settings(joint) == (
        "Step joint trains lora and projector together with the settings of lora: epochs 2, not 3 of projector; rows "
        "all, not held-out of projector."
    )
    same = TuneStep("joint", "hybrid", both, {"lora": mapping, "projector": mapping})
    assert unread_settings(same) == ""
    assert unread_settings(step("held-out")) == ""
