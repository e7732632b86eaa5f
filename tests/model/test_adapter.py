"""Adapters as PEFT keeps them: written, read by peft itself, begun from, refused where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_architectures import build

from collm.contracts.adapter_folder import base_fault, read_adapter
from collm.contracts.tuning import LoraConfig
from collm.errors import DataError, RunError
from collm.model.adapter import begin_from, save_adapter
from collm.model.parameters import add_lora, lora_parameters, merge_lora

IDS = torch.arange(3, 20)[None]
SETTINGS = {
    "plain": LoraConfig(r=4, dropout=0.0, target_modules=("q_proj", "v_proj")),
    "rslora": LoraConfig(r=4, dropout=0.0, use_rslora=True, target_modules=("q_proj", "v_proj")),
    "dora": LoraConfig(r=4, dropout=0.0, use_dora=True, target_modules=("q_proj", "v_proj")),
    "all-linear": LoraConfig(r=2, alpha=4, dropout=0.0, target_modules="all-linear"),
}


def logits(lm: Any) -> torch.Tensor:
    with torch.no_grad():
        return lm(input_ids=IDS).logits


def moved(name: str, config: LoraConfig) -> Any:
    """A model whose adapters are somewhere else than where they start."""
    lm = build(name)
    torch.manual_seed(1)
    add_lora(lm, config, ())
    for parameter in lora_parameters(lm).values():
        parameter.data += torch.randn_like(parameter) * 0.1
    return lm


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_peft_loads_what_is_written_and_it_begins_again(name: str, kind: str, tmp_path: Path) -> None:
    config = SETTINGS[kind]
    if name == "gpt2" and kind != "all-linear":
        config = config.model_copy(update={"target_modules": ("c_attn",)})
    lm = moved(name, config)
    tuned = logits(lm)
    assert (tuned - logits(build(name))).abs().max() > 0.01
    save_adapter(lm, tmp_path, base_name="someone/base", base_weights="abc")
    plain = PeftModel.from_pretrained(build(name), tmp_path).eval()
    torch.testing.assert_close(logits(plain), tuned, atol=2e-5, rtol=0)
    again = build(name)
    add_lora(again, config, ())
    begin_from(again, tmp_path, config, base_weights="abc")
    assert torch.equal(logits(again), tuned)
    assert merge_lora(again) == len({key.rpartition(".")[0] for key in lora_parameters(lm)})
    torch.testing.assert_close(logits(again), tuned, atol=1e-4, rtol=0)


def test_all_linear_leaves_the_output_layer_alone() -> None:
    names = {name.rpartition(".")[2] for name in add_lora(build("llama"), SETTINGS["all-linear"], ())}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_rank_stabilised_updates_are_scaled_by_the_root_of_the_rank() -> None:
    changes = {}
    for kind in ("plain", "rslora"):
        lm = moved("llama", SETTINGS[kind])
        module = lm.model.layers[0].self_attn.q_proj
        changes[kind] = module.scaling["default"]
    assert changes == {"plain": 16 / 4, "rslora": 16 / 2}


def test_somebody_elses_adapter_begins(tmp_path: Path) -> None:
    torch.manual_seed(2)
    settings = PeftLoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    theirs = get_peft_model(build("llama"), settings).eval()
    theirs.save_pretrained(tmp_path)
    ours = build("llama")
    add_lora(ours, SETTINGS["plain"], ())
    begin_from(ours, tmp_path, SETTINGS["plain"], base_weights="whatever")
    torch.testing.assert_close(logits(ours), logits(theirs), atol=2e-5, rtol=0)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    save_adapter(moved("llama", SETTINGS["plain"]), tmp_path / "a", base_name="someone/base", base_weights="abc")
    return tmp_path / "a"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 8}, "tuning.lora.r is 8, the adapter's in .* is 4: set it to 4"),
        ({"alpha": 32}, "tuning.lora.alpha is 32, the adapter's in .* is 16"),
        ({"use_dora": True}, "tuning.lora.use_dora is true, the adapter's in .* is false"),
        ({"use_rslora": True}, "tuning.lora.use_rslora is true"),
        ({"target_modules": ("q_proj",)}, r"names q_proj, the adapter in .* has q_proj, v_proj: set it to \[q_proj"),
        ({"target_modules": "all-linear"}, r"does not fit the adapters of this run: .*'someone/base'.*q_proj, v_proj"),
    ],
)
def test_other_settings_are_refused_with_what_to_set(written: Path, changes: dict[str, Any], said: str) -> None:
    config = SETTINGS["plain"].model_copy(update=changes)
    lm = build("llama")
    add_lora(lm, config, ())
    with pytest.raises(RunError, match=said):
        begin_from(lm, written, config, base_weights="abc")


def test_another_base_model_is_refused(written: Path) -> None:
    lm = build("llama")
    add_lora(lm, SETTINGS["plain"], ())
    with pytest.raises(RunError, match=r"was made on other weights than the backbone's \('someone/base', digest abc"):
        begin_from(lm, written, SETTINGS["plain"], base_weights="xyz")
    adapter = read_adapter(written)
    shapes = {name: tuple(value.shape) for name, value in build("llama").state_dict().items()}
    assert base_fault(adapter, shapes, None) == base_fault(adapter, shapes, "Someone/Base") == ""
    assert "was made on someone/base, the backbone is other/model" in base_fault(adapter, shapes, "other/model")
    short = {name: shape for name, shape in shapes.items() if ".layers.3." not in name}
    assert "the backbone has no module 'model.layers.3.self_attn.q_proj'" in base_fault(adapter, short, None)
    wide = {name: (64, 64) if "q_proj" in name else shape for name, shape in shapes.items()}
    assert "takes 32 numbers to 32, the backbone's weight has shape [64, 64]" in base_fault(adapter, wide, None)


@pytest.mark.parametrize("spoil", [lambda value: value * float("nan"), lambda value: (value * 100).int()])
def test_values_that_are_no_finite_fractions_are_refused(written: Path, spoil: Callable[[Any], Any]) -> None:
    path = written / "adapter_model.safetensors"
    tensors = load_file(path)
    last = max(tensors)
    save_file(tensors | {last: spoil(tensors[last])}, path)
    lm = build("llama")
    add_lora(lm, SETTINGS["plain"], ())
    with pytest.raises(RunError, match=rf"'{last}' is of whole numbers, or holds NaN .*1 of {len(tensors)} tensors"):
        begin_from(lm, written, SETTINGS["plain"], base_weights="abc")


def test_what_cannot_be_begun_from_is_said(written: Path, tmp_path: Path) -> None:
    config = json.loads((written / "adapter_config.json").read_text())
    for changes, said in (
        ({"peft_type": "IA3"}, "peft_type is IA3; LORA alone"),
        ({"bias": "all"}, "bias: all: the adapter is more than one low-rank update"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: the adapter is more"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4 .it changes the base model's weights.: the adapter is"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"r": None}, "r and lora_alpha must be numbers"),
    ):
        (written / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(DataError, match=said):
            read_adapter(written)
    (written / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(written / "adapter_model.safetensors")
    save_file({name.removeprefix("base_model."): value for name, value in tensors.items()}, written / "x.safetensors")
    (written / "x.safetensors").replace(written / "adapter_model.safetensors")
    with pytest.raises(DataError, match=r"holds model\.model\.layers.*expected names such as base_model\.model\."):
        read_adapter(written)
    (written / "adapter_model.safetensors").replace(written / "adapter_model.bin")
    with pytest.raises(DataError, match=r"no adapter_model\.safetensors; adapter_model\.bin is a pickle"):
        read_adapter(written)
    with pytest.raises(DataError, match=r"no such folder \(did you mean '.*/a'\?\)"):
        read_adapter(tmp_path / "aa")


def test_modules_that_train_whole_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="the answer is read from its own output layer"):
        LoraConfig.model_validate({"modules_to_save": ["lm_head"]})
    assert LoraConfig.model_validate({"modules_to_save": None}) == LoraConfig()
