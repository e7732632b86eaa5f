"""Running out of memory: smaller micro-batches of the same global batch, in all processes, and one clear error."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from language_fakes import language_task, prompt_rows, tiny_recommender
from process_fakes import in_group

from collm.engine.language_task import recommender_logits
from collm.engine.train import LoopSettings, train
from collm.engine.train_task import InParts, OutOfMemory, attempt
from collm.errors import RunError
from collm.process_group import SINGLE, ProcessGroup


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity ...")


class Divisible:
    """A linear model; more than `room` rows at once do not fit."""

    title = "tune"

    def __init__(self, *, room: int, poisoned: int | None = None) -> None:
        generator = np.random.default_rng(0)
        self.model = torch.nn.Linear(4, 1).double()
        with torch.no_grad():
            self.model.weight.fill_(0.1)
            self.model.bias.zero_()
        self.x = torch.from_numpy(generator.normal(size=(32, 4)))
        self.room, self.size, self.poisoned, self.sizes = room, 8, poisoned, [[0]]
        self.sizes.clear()

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def factor(self, step: int, group: Any) -> float:
        return 1.0

    def batches(self, epoch: int) -> list[list[np.ndarray]]:
        order = np.random.default_rng(epoch).permutation(32)
        return [np.array_split(part, -(-16 // self.size)) for part in np.split(order, 2)]

    def half_size(self, micro_batches: Any) -> int:
        return max(1, min(self.size, max(map(len, micro_batches))) // 2)

    def limit(self, size: int) -> str:
        self.size = size
        return f"size: {size}"

    def smaller_rows(self) -> str:
        return "use shorter rows"

    def cost(self, rows: np.ndarray) -> float:
        return float(len(rows))

    def loss_sum(self, rows: np.ndarray) -> torch.Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.room or self.poisoned in rows:
            raise out_of_memory()
        return (self.model(self.x[rows])[:, 0] - 1).square().sum()

    def validate(self) -> float:
        return 0.5

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self.model.state_dict())

    def load_state(self, state: Any) -> None:
        self.model.load_state_dict(dict(state), strict=True)


def run(task: Divisible, path: Path, processes: ProcessGroup = SINGLE, **changes: Any) -> Divisible:
    values: dict[str, Any] = {
        "max_steps": 6,
        "validate_every": 6,
        "patience": 9,
        "clip_norm": 1.0,
        "checkpoint_seconds": 0.0,
        "seed": 1,
    }
    train(
        task,
        LoopSettings(**{**values, **changes}),
        accelerator=Accelerator(cpu=True),
        checkpoint=path,
        observer=lambda step, values: None,
        processes=processes,
    )
    return task


@pytest.mark.parametrize(("room", "n_warnings"), [(8, 0), (4, 1), (1, 3)])
def test_smaller_micro_batches_train_the_same_weights(tmp_path: Path, caplog, room: int, n_warnings: int) -> None:
    roomy = run(Divisible(room=99), tmp_path / "roomy")
    with caplog.at_level(logging.WARNING):
        tight = run(Divisible(room=room), tmp_path / "tight")
    torch.testing.assert_close(tight.model.weight, roomy.model.weight, rtol=0, atol=1e-12)
    assert len(caplog.messages) == n_warnings
    assert all("out of memory; going on with micro-batches half as large" in each for each in caplog.messages)
    # What had failed once is not tried again.
    assert sum(size > room for size in tight.sizes) == n_warnings


@pytest.mark.parametrize("room", [4, 2])
def test_all_processes_go_on_with_the_same_micro_batches(tmp_path: Path, room: int) -> None:
    alone = run(Divisible(room=99), tmp_path / "alone")
    # The main process has room for all; the others learn of the smaller size from each other.
    group = in_group(
        lambda processes: run(
            Divisible(room=99 if processes.is_main else room), tmp_path / f"group-{processes.size}", processes
        ),
        3,
    )
    assert {task.size for task in group} == {room}
    for task in group:
        torch.testing.assert_close(task.model.weight, alone.model.weight, rtol=0, atol=1e-6)
        assert torch.equal(task.model.weight, group[0].model.weight)


def test_a_resumed_run_begins_with_the_size_that_fitted(tmp_path: Path) -> None:
    whole = run(Divisible(room=2), tmp_path / "whole")
    run(Divisible(room=2), tmp_path / "part", max_steps=3, validate_every=9)
    resumed = Divisible(room=2)
    run(resumed, tmp_path / "part", max_steps=3)
    assert resumed.size == 2
    assert max(resumed.sizes, default=0) <= 2
    assert whole.size == 2


@pytest.mark.parametrize("size", [1, 3])
def test_a_row_that_does_not_fit_alone_is_one_clear_error(tmp_path: Path, size: int) -> None:
    message = r"tune: 1 rows? at once do(es)? not fit into memory \(CUDA out of memory.*\); use shorter rows"
    if size == 1:
        with pytest.raises(RunError, match=message):
            run(Divisible(room=99, poisoned=5), tmp_path / "alone")
        return
    errors = in_group(lambda processes: run(Divisible(room=99, poisoned=5), tmp_path / "group", processes), size)
    for error in errors:
        with pytest.raises(RunError, match=message):
            raise error


def test_a_task_that_cannot_be_divided_says_what_to_lower(tmp_path: Path) -> None:
    task = Divisible(room=2)
    plain = {name: getattr(task, name) for name in dir(task) if not name.startswith("_")}
    for name in ("half_size", "limit", "smaller_rows"):
        plain.pop(name)
    whole = type("Whole", (), {name: staticmethod(each) if callable(each) else each for name, each in plain.items()})()
    with pytest.raises(RunError, match=r"tune: 8 rows at once do not fit into memory .*; lower its batch size"):
        run(whole, tmp_path / "c")


def test_split_weights_are_not_tried_again(tmp_path: Path) -> None:
    errors = in_group(lambda processes: run(Divisible(room=2), tmp_path / "c", processes), 2, shards=True)
    assert any(
        "CUDA out of memory" in str(error) and "lower tuning.micro_batch_tokens" in str(error) for error in errors
    )


def test_gradients_of_a_language_model_step_stay_the_same(tmp_path: Path, caplog) -> None:
    found = []
    for room in (None, 40):
        recommender = tiny_recommender()
        task = language_task(recommender, micro_batch_tokens=4096)
        plain, costs = task.loss_sum, []

        def loss_sum(rows: np.ndarray, plain=plain, costs=costs, room=room, task=task) -> torch.Tensor:
            costs.append(task.cost(rows))
            loss = plain(rows)
            if room is not None and costs[-1] > room and len(rows) > 1:
                raise out_of_memory()
            return loss

        task.loss_sum = loss_sum  # type: ignore[method-assign]
        settings = LoopSettings(
            max_steps=5, validate_every=5, patience=1, clip_norm=None, checkpoint_seconds=99, seed=0
        )
        with caplog.at_level(logging.WARNING):
            train(
                task,
                settings,
                accelerator=Accelerator(cpu=True),
                checkpoint=tmp_path / f"{room}",
                observer=lambda *_: None,
            )
        found.append(torch.cat([p.detach().reshape(-1) for p in recommender.parameter_groups()["projector"].values()]))
    assert "set tuning.micro_batch_tokens: 64 to start with this size" in caplog.messages[-1]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_scoring_goes_on_in_parts(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    recommender, prompts = tiny_recommender(), prompt_rows()
    expected = recommender_logits(recommender, prompts, max_tokens=500)
    forward, sizes = type(recommender).forward, []

    def small(self, batch):
        sizes.append(len(batch))
        if len(batch) > 5:
            raise out_of_memory()
        return forward(self, batch)

    monkeypatch.setattr(type(recommender), "forward", small)
    with caplog.at_level(logging.WARNING):
        found = recommender_logits(recommender, prompts, max_tokens=500)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(caplog.messages) == 1
    # Later batches begin with the parts that fitted.
    failed = [place for place, size in enumerate(sizes) if size > 5]
    assert failed == list(range(len(failed)))


def test_a_single_row_that_cannot_be_scored_is_one_clear_error() -> None:
    def score(rows: np.ndarray) -> torch.Tensor:
        raise out_of_memory()

    with pytest.raises(RunError, match=r"scoring: a single row does not fit into memory \(CUDA out of .*\); use less"):
        InParts(score, smaller="use less")(np.arange(5))


def test_other_errors_pass_and_the_processors_own_is_known() -> None:
    def fail(message: str) -> None:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="shapes differ"):
        attempt(lambda: fail("shapes differ"))
    said = attempt(lambda: fail("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"))
    assert isinstance(said, OutOfMemory)
    assert "can't allocate" in said.said
