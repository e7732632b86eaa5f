"""How weights are held; what needs CUDA devices is refused in words without one."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from model_fakes import tiny_lm

from collm.errors import DataError
from collm.model.hf_loading import FOUR_BIT, Loading, check_placement, is_spread, placement

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_plain_loading_needs_no_placement() -> None:
    assert placement(Loading(), dtype=torch.bfloat16, device=CPU) == {}
    assert Loading().quantisation is None
    assert not is_spread(tiny_lm())


@pytest.mark.parametrize(
    ("loading", "said"),
    [
        (Loading(four_bit=True), r"backbone\.four_bit: needs a CUDA device.*'cpu'.*set it to false"),
        (Loading(device_map="auto"), r"backbone\.device_map: 'auto'.*'cpu'; set backbone\.device_map to null"),
    ],
)
def test_a_processor_alone_is_refused(loading: Loading, said: str) -> None:
    with pytest.raises(DataError, match=said):
        placement(loading, dtype=torch.bfloat16, device=CPU)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs bitsandbytes: pip install 'collm\[four-bit\]'"):
        placement(Loading(four_bit=True), dtype=torch.bfloat16, device=CUDA)


def test_four_bits_go_to_the_own_device_unless_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace())
    options = placement(Loading(four_bit=True), dtype=torch.bfloat16, device=CUDA)
    assert options["device_map"] == {"": CUDA}
    assert options["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert options["quantization_config"].bnb_4bit_compute_dtype == torch.bfloat16
    spread = placement(Loading(four_bit=True, device_map="balanced"), dtype=torch.bfloat16, device=CUDA)
    assert spread["device_map"] == "balanced"
    assert Loading(four_bit=True).quantisation == FOUR_BIT


def test_parts_outside_of_the_devices_are_refused() -> None:
    lm = tiny_lm()
    lm.hf_device_map = {"model.layers.0": 0, "model.layers.1": "cpu", "lm_head": "disk"}
    with pytest.raises(DataError, match=r"tiny: 2 parts \(first: model\.layers\.1\) do not fit on the CUDA devices"):
        check_placement(lm, label="tiny")


def test_several_devices_are_told_what_they_cost(caplog: pytest.LogCaptureFixture) -> None:
    lm = tiny_lm()
    lm.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    assert is_spread(lm)
    check_placement(lm, label="tiny")
    assert "prompts that begin alike are computed one by one" in caplog.text
