"""Training on from given weights: which rows, which bits move, and that a killed attempt ends with the same bits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from collm.component import BuildContext
from collm.contracts.data import Limit
from collm.contracts.encoder import EncoderConfig
from collm.contracts.tuning import GroupPlan, StepConfig
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import load_tensors
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.errors import RunError
from collm.registry import default_registry
from collm.stages.continued import Length, _fitting, continue_encoder, continued_step, settled_config
from collm.stages.fit_encoder import build_encoder, encoder_data, fit_directly, load_encoder
from collm.stages.stage import RunContext
from collm.testing.fakes import interaction_table
from collm_tuning.config import JointConfig, TextOnlyConfig, TwoStepConfig, TwoStepWithEncoderConfig
from collm_tuning.strategies import default, t1, t3, text_only

REGISTRY = default_registry()


class Source:
    def content_hash(self) -> str:
        return "hash"

    def load(self) -> Any:
        return interaction_table()


class Strictly:
    visibility = "strictly-earlier"


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    prepare(Source(), limit=Limit(), history=Strictly(), folder=tmp_path / "data")
    return PreparedData.open(tmp_path / "data")


def context(tmp_path: Path, observer: Any = lambda *_: None) -> RunContext:
    spec: Any = SimpleNamespace(seed=0, history=SimpleNamespace(max_items=4))
    build = BuildContext(cache_dir=tmp_path, find=REGISTRY.get)
    stages: Any = None
    return RunContext(spec, REGISTRY, build, stages, Accelerator(cpu=True), observer)


def config(name: str, **settings: Any) -> EncoderConfig:
    found = REGISTRY.get("encoder", name).config(name=name, **settings)
    assert isinstance(found, EncoderConfig)
    return found


def fresh(run: RunContext, chosen: EncoderConfig, data: PreparedData) -> Any:
    return build_encoder(REGISTRY.get("encoder", chosen.name), chosen, data, run.spec, run.build)


def all_rows(data: PreparedData) -> Rows:
    return data.rows_at(np.flatnonzero(data.split_places() < 3))


def continued(tmp_path: Path, chosen: EncoderConfig, data: PreparedData, rows: Rows, epochs: int, **more: Any) -> Any:
    run = context(tmp_path, **more)
    start = fresh(run, chosen, data).state_dict()
    folder = tmp_path / "stage"
    folder.mkdir(exist_ok=True)
    return continue_encoder(run, chosen, data, rows, start=start, epochs=epochs, folder=folder)


def test_rows_that_it_learns_from_move_its_vectors_and_no_others_do(data: PreparedData, tmp_path: Path) -> None:
    chosen = config("mf", init_std=0.1, fit={"epochs": 9, "weight_decay": 0.0, "batch_size": 8})
    before = fresh(context(tmp_path), chosen, data).state_dict()
    test = data.rows("test")
    rows = test.take(test.user == test.user[0])
    found = continued(tmp_path, chosen, data, rows, 2)
    after = found.encoder.state_dict()
    for name, ids in (("user_factors.weight", rows.user), ("item_factors.weight", rows.item)):
        assert set(torch.nonzero((after[name] != before[name]).any(dim=1)).flatten().tolist()) == set(ids.tolist())
    assert found.facts["train_rows"] == len(rows)
    assert found.facts["phases"] == {"fit": {"epochs": 2, "optimiser_steps": 2 * -(-len(rows) // 8)}}
    assert "best_valid_auc" not in str(found.facts)


@pytest.mark.parametrize("refit", [True, False])
def test_a_phase_on_earlier_rows_goes_on_with_all(data: PreparedData, tmp_path: Path, refit: bool) -> None:
    inner = config("mf-bias", embedding_size=4, fit={"batch_size": 8})
    chosen = config("online", inner=inner, refit=refit)
    rows = all_rows(data)
    facts = continued(tmp_path, chosen, data, rows, 2).facts
    name = "fit-again" if refit else "fit"
    assert facts["phases"] == {name: {"epochs": 2, "optimiser_steps": 2 * -(-len(rows) // 8)}}


def test_no_pass_gives_the_weights_that_it_began_with(data: PreparedData, tmp_path: Path) -> None:
    chosen = config("mf-bias")
    before = fresh(context(tmp_path), chosen, data).state_dict()
    found = continued(tmp_path, chosen, data, all_rows(data), 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.encoder.state_dict().items())


def test_the_graph_is_that_of_the_rows_also_when_it_is_loaded_again(data: PreparedData, tmp_path: Path) -> None:
    chosen = config("lightgcn", embedding_size=4, fit={"batch_size": 16})
    rows, run = all_rows(data), context(tmp_path)
    found = continued(tmp_path, chosen, data, rows, 1)
    assert len(found.encoder.value) > len(fresh(run, chosen, data).value)
    stage: Any = SimpleNamespace(folder=tmp_path / "stage")
    again = load_encoder(run, stage, chosen, data)
    batcher = EncoderBatcher.of(again, data, torch.device("cpu"))
    np.testing.assert_array_equal(encoder_logits(found.encoder, batcher, rows), encoder_logits(again, batcher, rows))
    # Without the rows it was trained on it would give other scores.
    other = fresh(run, chosen, data)
    other.load_state_dict(load_tensors(tmp_path / "stage" / "encoder.safetensors")[0])
    assert not np.array_equal(encoder_logits(other, batcher, rows), encoder_logits(again, batcher, rows))


def test_direct_encoders_are_solved_again_on_the_rows(data: PreparedData, tmp_path: Path) -> None:
    chosen, rows, run = config("item-knn"), all_rows(data), context(tmp_path)
    found = continued(tmp_path, chosen, data, rows, 3)
    assert found.facts["continued"] == "solved again"
    wanted, view = fresh(run, chosen, data), data.trained_on(rows)
    fit_directly(wanted, view, EncoderBatcher.of(wanted, view, torch.device("cpu")), history_items=4)
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(tensor, found.encoder.state_dict()[name])
    fit_directly(wanted, data, EncoderBatcher.of(wanted, data, torch.device("cpu")), history_items=4)
    assert not torch.equal(wanted.similarity, found.encoder.similarity)


def test_a_killed_attempt_ends_with_the_same_bits(data: PreparedData, tmp_path: Path) -> None:
    chosen, rows = config("din", fit={"batch_size": 8}), all_rows(data)
    (tmp_path / "whole").mkdir()
    whole = continued(tmp_path / "whole", chosen, data, rows, 2)

    def stop(step: int, values: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "part").mkdir()
    with pytest.raises(KeyboardInterrupt):
        continued(tmp_path / "part", chosen, data, rows, 2, observer=stop)
    again = continued(tmp_path / "part", chosen, data, rows, 2)
    for name, tensor in whole.encoder.state_dict().items():
        assert torch.equal(tensor, again.encoder.state_dict()[name])


def test_what_the_rows_decided_stays_when_there_are_more(data: PreparedData, tmp_path: Path) -> None:
    chosen, run = config("sasrec", embedding_size=4, fit={"batch_size": 16}), context(tmp_path)
    encoder = fresh(run, chosen, data)
    settled = settled_config(chosen, encoder)
    assert (chosen.max_length, settled.max_length) == (None, encoder.history_items)  # type: ignore[attr-defined]
    assert settled_config(settled, fresh(run, settled, data)) == settled
    given = config("sasrec", max_length=3)
    assert settled_config(given, fresh(run, given, data)) == given
    rows, start = all_rows(data), encoder.state_dict()
    assert continue_encoder(run, settled, data, rows, start=start, epochs=1, folder=tmp_path).facts["train_rows"]
    with pytest.raises(RunError, match="position_embedding"):
        continue_encoder(run, chosen, data, rows, start=start, epochs=1, folder=tmp_path)


def test_settings_inside_of_another_encoder_are_settled_too(data: PreparedData, tmp_path: Path) -> None:
    inner = config("sasrec", embedding_size=4)
    chosen = config("ctrl", encoder=inner, text_backbone={"name": "tiny"})
    encoder = SimpleNamespace(settled=lambda: {"encoder.max_length": 7})
    found: Any = settled_config(chosen, encoder)  # type: ignore[arg-type]
    assert (found.encoder.max_length, type(found.encoder)) == (7, type(inner))


def test_weights_of_other_sizes_and_no_rows_are_refused(data: PreparedData, tmp_path: Path) -> None:
    run, chosen = context(tmp_path), config("mf-bias")
    start = fresh(run, chosen, data).state_dict()
    with pytest.raises(RunError, match="no rows to train on"):
        continue_encoder(run, chosen, data, data.rows_at(np.arange(0)), start=start, epochs=1, folder=tmp_path)
    start["user_bias.weight"] = start["user_bias.weight"][:-1]
    with pytest.raises(RunError, match="weights to go on from"):
        continue_encoder(run, chosen, data, data.rows("train"), start=start, epochs=1, folder=tmp_path)


def test_trained_on_takes_rows_of_any_split(data: PreparedData) -> None:
    view = data.trained_on(all_rows(data))
    assert len(view.rows("train")) == len(all_rows(data))
    assert not len(view.rows("valid")) and not len(view.rows("test"))
    assert set(view.interactions()["split"].drop_nulls()) == {"train"}
    assert encoder_data(view, 4).valid is not None
    assert len(data.rows("test")) and set(data.interactions()["split"].drop_nulls()) == {"train", "valid", "test"}


STEP = StepConfig(learning_rate=0.25, epochs=7, warmup_steps=20, rows="held-out")
OTHER = StepConfig(learning_rate=0.5)


def test_a_group_trains_as_in_the_last_step_that_trained_it() -> None:
    steps = default(TwoStepConfig(name="default", text=dict(STEP), collaborative=dict(OTHER))).plan()
    step = continued_step(steps, ["projector"], Length(epochs=2))
    assert step.variant == "hybrid"
    assert step.groups == {
        "lora": GroupPlan(False, "previous"),
        "projector": GroupPlan(True, "previous"),
        "encoder": GroupPlan(False, "pretrained"),
    }
    assert step.optimiser["projector"].learning_rate == 0.5
    both = continued_step(steps, ["projector", "lora"], Length(steps=5))
    assert {group: each.learning_rate for group, each in both.optimiser.items()} == {"lora": 0.25, "projector": 0.5}
    assert {(each.epochs, each.epoch_steps, each.rows) for each in both.optimiser.values()} == {(1.0, 5, "all")}


def test_strategies_without_a_mapping_or_with_a_tuned_encoder() -> None:
    text = text_only(TextOnlyConfig(name="text-only", text=dict(STEP))).plan()
    assert set(continued_step(text, ["lora"], Length()).groups) == {"lora"}
    with pytest.raises(RunError, match="projector cannot be trained on: the run's tuning trained lora"):
        continued_step(text, ["projector"], Length())
    settings = {"text": dict(STEP), "collaborative": dict(OTHER)}
    joint = continued_step(t3(JointConfig(name="t3", **settings)).plan(), ["projector"], Length())
    assert joint.groups["lora"] == GroupPlan(False, "previous")
    tuned = continued_step(t1(TwoStepWithEncoderConfig(name="t1", **settings)).plan(), ["projector"], Length())
    assert tuned.groups["encoder"] == GroupPlan(False, "previous")


def test_a_warm_up_never_takes_more_than_a_tenth() -> None:
    assert _fitting(STEP, 400) is STEP
    assert _fitting(STEP, 50).warmup_steps == 5
    assert _fitting(STEP, 3).warmup_steps == 0
    ratio = StepConfig(warmup_ratio=0.5)
    assert (_fitting(ratio, 40).warmup_ratio, _fitting(ratio, 40).warmup_steps) == (None, 4)
    with pytest.raises(ValueError, match="above 0"):
        Length(steps=0)
