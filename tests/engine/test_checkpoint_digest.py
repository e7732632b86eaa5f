"""A checkpoint knows its bytes: a flipped bit never trains on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.engine.checkpoint import load_tensors, save_tensors
from collm.errors import RunError

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "none": torch.empty(0, 4),
}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_tensors(tmp_path / "c.safetensors", TENSORS, {"step": 3})
    tensors, metadata = load_tensors(tmp_path / "c.safetensors")
    assert metadata == {"step": 3}
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=80, deadline=None)
def test_a_flipped_bit_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "c.safetensors"
    save_tensors(path, TENSORS, {"step": 3})
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        tensors, metadata = load_tensors(path)
    except RunError as error:
        assert str(path) in str(error)
        assert "remove this stage's folder and run again" in str(error)
    else:
        assert metadata == {"step": 3}
        assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
