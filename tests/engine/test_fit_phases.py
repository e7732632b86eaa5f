"""A fit in two phases: heads train with the encoder and go, and an interruption anywhere changes no bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from collm.contracts.data import Limit
from collm.contracts.encoder import FitConfig, FitPhase
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.engine import fit_phases
from collm.engine.device import seed_torch
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.fit_phases import fit_in_phases
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm.testing.fakes import interaction_table

FIT = FitConfig(learning_rate=0.05, epochs=4, batch_size=32, patience=10)


class Level(EncoderModule):
    """User and item levels, with dropout so that the generator's state matters."""

    def __init__(self, data: PreparedData) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(data.n_users + 1, 3), nn.Embedding(data.n_items + 1, 3)
        self.drop = nn.Dropout(0.3)

    def score(self, batch):
        return self.drop(self.user(batch.user) * self.item(batch.item)).sum(dim=1)


class Heads(nn.Module):
    """Predicts a constant from the item vector: needs no label."""

    def __init__(self, encoder: Level, *, stop_after: int | None = None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(3, 1)
        self.calls, self.stop_after = 0, stop_after

    def loss(self, batch):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        return (self.head(self.encoder.drop(self.encoder.item(batch.item))) - 1).square().mean()

    def parameter_groups(self, fit):
        return [{"params": list(self.parameters()), "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]


class StoppingLevel(Level):
    calls, stop_after = 0, 5

    def loss(self, batch):
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        return super().loss(batch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data")
    source = SimpleNamespace(load=interaction_table, content_hash=lambda: "c0ffee")
    history = SimpleNamespace(visibility="strictly-earlier", max_items=10)
    prepare(source, limit=Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


@pytest.fixture(autouse=True)
def _every_step_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_phases, "CHECKPOINT_SECONDS", 0.0)


def run(data: PreparedData, folder: Path, *, model: type[Level] = Level, stop_after: int | None = None):
    seed_torch(0)
    encoder = model(data)
    phases = [FitPhase("align", Heads(encoder, stop_after=stop_after), FIT, select="loss", facts={"texts": 7})]
    phases.append(FitPhase("fit", encoder, FIT))
    logged: list[tuple[int, dict]] = []
    courses = fit_in_phases(
        encoder,
        phases,
        data,
        batcher=EncoderBatcher(data, history_items=0, device=torch.device("cpu")),
        title="fit_encoder level",
        seed=3,
        folder=folder,
        accelerator=Accelerator(cpu=True),
        observer=lambda step, values: logged.append((step, dict(values))),
    )
    return encoder, courses, logged


def test_phases_say_what_selected_them_and_steps_count_on(data: PreparedData, tmp_path: Path) -> None:
    _, (align, fit), logged = run(data, tmp_path)
    assert align.facts() == {
        "best_valid_loss": -align.best_value,
        "best_epoch": align.best_epoch,
        "epochs": 4,
        "texts": 7,
    }
    assert fit.facts()["best_valid_auc"] == fit.best_value
    assert [step for step, _ in logged] == [steps * align.steps // 4 for steps in range(1, 9)]
    losses, aucs = [values for _, values in logged[:4]], [values for _, values in logged[4:]]
    assert all("valid_auc" not in values for values in losses) and all("valid_loss" not in values for values in aucs)
    assert min(values["valid_loss"] for values in losses) == -align.best_value
    assert losses[-1]["valid_loss"] < losses[0]["valid_loss"]


def test_the_second_phase_starts_from_the_first_ones_best_weights(data: PreparedData, tmp_path: Path) -> None:
    encoder, _, _ = run(data, tmp_path)
    seed_torch(0)
    alone = Level(data)
    assert not torch.allclose(encoder.item.weight, alone.item.weight, atol=0.2)
    assert not any("head" in name for name in encoder.state_dict())


@pytest.mark.parametrize("interrupted", [{"stop_after": 9}, {"model": StoppingLevel}], ids=["align", "fit"])
def test_resume_equals_no_interruption(data: PreparedData, tmp_path: Path, interrupted: dict) -> None:
    whole, _, _ = run(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "broken", **interrupted)
    continued, _, _ = run(data, tmp_path / "broken")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, continued.state_dict()[name]), name


def test_phases_that_cannot_be_run_are_refused(data: PreparedData, tmp_path: Path) -> None:
    encoder = Level(data)
    by_loss, by_auc = FitPhase("a", Heads(encoder), FIT, select="loss"), FitPhase("a", encoder, FIT)
    for phases, shown in (([], "none"), ([by_loss], r"a \(by loss\)"), ([by_loss, by_auc], r"a \(by loss\), a \(by")):
        with pytest.raises(PluginError, match=rf"the last one must select by auc; got: {shown}"):
            fit_in_phases(
                encoder,
                phases,
                data,
                batcher=EncoderBatcher(data, history_items=0, device=torch.device("cpu")),
                title="t",
                seed=0,
                folder=tmp_path,
                accelerator=Accelerator(cpu=True),
                observer=lambda step, values: None,
            )
