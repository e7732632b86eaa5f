"""The tiny benchmark, opened once per test module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_types import OpenSubject

from collm.bench.subject import Subject, open_subject
from collm.component import BuildContext
from collm.model.parameters import lora_parameters
from collm.registry import default_registry
from collm.spec.expand import load_any

TINY = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "tiny.yaml"
SMALL = ("dataset.n_users=12", "dataset.rows_per_user=20", "tuning.lora.dropout=0", "tuning.clip_norm=null")


@pytest.fixture
def open_tiny(tmp_path: Path) -> OpenSubject:
    """Opens the tiny benchmark with overrides; its adapters do something."""

    def open_with(*overrides: str) -> Subject:
        registry = default_registry()
        spec = load_any(TINY, [*SMALL, *overrides], registry, cwd=tmp_path)
        context = BuildContext(cache_dir=tmp_path / "cache", find=registry.get)
        subject = open_subject(spec, registry, context=context, device=torch.device("cpu"), folder=tmp_path / "bench")
        generator = torch.Generator().manual_seed(3)
        for name, parameter in lora_parameters(subject.recommender.lm).items():
            if name.endswith("lora_B"):
                parameter.data.normal_(std=0.05, generator=generator)
        return subject

    return open_with
