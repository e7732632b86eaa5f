"""Encoders are quick on the published ML-1M split: seconds of one core, so that a busy machine adds little."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.engine.encoder_task import EncoderBatcher, EncoderTask
from collm.model.encoder import EncoderModule
from collm.registry import default_registry
from collm.spec.expand import load_any
from collm.spec.model import ResolvedSpec
from collm.stages.fit_encoder import build_encoder

# Seconds per epoch of training and validation, of one core.
MOST = {"mf": 10, "mf-bias": 10, "lightgcn": 5, "sasrec": 10, "din": 10}


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def spec(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ResolvedSpec]:
    """Resolves a spec of one encoder on the published split."""
    path = shared_data / "ml-1m-released-split.zip"
    if not path.is_file():
        pytest.skip("the published ML-1M split is missing")
    folder = tmp_path_factory.mktemp("speed")
    file = folder / "speed.yaml"
    file.write_text(f"name: speed\ndataset: {{name: collm-released, path: {path}}}\nencoder: {{name: mf}}\n")

    def resolve(*settings: str) -> ResolvedSpec:
        found = load_any(file, list(settings), default_registry(), cwd=folder)
        assert isinstance(found, ResolvedSpec)
        return found

    return resolve


@pytest.fixture(scope="module")
def data(spec: Callable[..., ResolvedSpec], tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder, plain = tmp_path_factory.mktemp("prepared"), spec()
    source = default_registry().get("dataset", "collm-released").load_factory()
    built = source(plain.dataset, context=BuildContext(cache_dir=folder))
    prepare(built, limit=plain.dataset.limit, history=plain.history, folder=folder)
    return PreparedData.open(folder)


def build(spec: ResolvedSpec, data: PreparedData) -> EncoderModule:
    registry = default_registry()
    assert spec.encoder is not None
    component = registry.get("encoder", spec.encoder.name)
    return build_encoder(component, spec.encoder, data, spec, BuildContext(cache_dir=Path("unused"), find=registry.get))


def epoch_of(spec: ResolvedSpec, data: PreparedData) -> Callable[[], None]:
    """Returns one epoch of training and its validation, through the engine's task."""
    encoder = build(spec, data)
    (phase,) = encoder.fit_phases(spec.encoder)
    batcher = EncoderBatcher.of(encoder, data, torch.device("cpu"))
    rows = {"train": data.rows("train"), "valid": data.rows("valid")}
    task = EncoderTask(encoder, phase, title="speed", batcher=batcher, seed=0, **rows)
    optimiser = task.optimiser()

    def epoch() -> None:
        for (batch,) in task.batches(0):
            optimiser.zero_grad()
            (task.loss_sum(batch) / len(batch)).backward()
            optimiser.step()
        task.validate()

    return epoch


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["recommended", "reference"])
@pytest.mark.parametrize("name", MOST)
def test_an_epoch(spec: Callable[..., ResolvedSpec], data: PreparedData, name: str, profile: str) -> None:
    epoch = epoch_of(spec(f"encoder.name={name}", f"profile={profile}"), data)
    seconds = cpu_seconds(epoch)
    print(f"{name} {profile}: {seconds:.2f} s per epoch")  # noqa: T201 - shown by `pytest -s`
    assert seconds < MOST[name]


@pytest.mark.slow
def test_scoring_a_million_pairs(spec: Callable[..., ResolvedSpec], data: PreparedData) -> None:
    encoder = build(spec(), data).eval()
    generator = np.random.default_rng(0)
    user = torch.from_numpy(generator.integers(1, data.n_users + 1, 1_000_000))
    item = torch.from_numpy(generator.integers(1, data.n_items + 1, 1_000_000))

    @torch.no_grad()
    def score() -> None:
        for start in range(0, len(user), 16_384):
            encoder.score(EncoderBatch(user=user[start : start + 16_384], item=item[start : start + 16_384]))

    seconds = cpu_seconds(score)
    print(f"mf: {seconds:.2f} s for a million pairs")  # noqa: T201 - shown by `pytest -s`
    assert seconds < 2
