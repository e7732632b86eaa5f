"""Damaged .bin weights are refused in words, whatever torch raises for them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from collm.errors import DataError
from collm.model import weight_files
from collm.model.weight_files import _read_bin


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused_or_hold_tensors(tmp_path: Path, zipped: bool) -> None:
    shard, generator = tmp_path / "pytorch_model.bin", random.Random(0)
    torch.save({"w": torch.randn(4, 4), "b": torch.ones(3)}, shard, _use_new_zipfile_serialization=zipped)
    whole = shard.read_bytes()
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(damaged)) :]
        for _ in range(min(len(damaged), generator.choice((1, 2, 8)))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        shard.write_bytes(bytes(damaged))
        try:
            found = _read_bin(shard)
        except DataError as error:
            assert "pytorch_model.bin: " in str(error)
            refused += 1
        else:
            assert all(isinstance(value, torch.Tensor) for value in found.values())
    assert refused > 50


def test_full_memory_is_not_taken_for_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(weight_files.torch, "load", full)
    with pytest.raises(MemoryError):
        _read_bin(tmp_path / "pytorch_model.bin")
