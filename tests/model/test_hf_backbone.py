"""Local model folders: tiny checkpoints of the real classes, Llama with SentencePiece and Qwen2 with byte-level BPE."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import SHAPE, write_llama, write_qwen2
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    GPTNeoConfig,
    MambaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.errors import DataError
from collm.model.hf_backbone import HfBackbone, describe_model
from collm.model.hf_tokenizer import HfTokenizer
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.show import show_prompts

TEXT = '#Question: A user: "Heat (1995)", "Alien (1979)". item titled "Toy Story (1995)"? #Answer:'
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(params=["llama", "qwen2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def copy_of(folder: Path, target: Path, *, without: str = "") -> Path:
    shutil.copytree(folder, target)
    for path in target.glob(without) if without else ():
        path.unlink()
    return target


def test_facts_without_loading_weights(folder: Path, tmp_path: Path) -> None:
    backbone = HfBackbone(folder, cache_dir=tmp_path)
    assert (backbone.hidden_size, backbone.max_length, backbone.lora_targets) == (32, 512, ("q_proj", "v_proj"))
    facts = backbone.describe()
    model = backbone.load(dtype=torch.float32, device=CPU)
    n_embedding = model.get_input_embeddings().weight.numel() * (1 if model.config.tie_word_embeddings else 2)
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["embedding_parameters"] == n_embedding
    assert facts["non_embedding_parameters"] == facts["parameters"] - n_embedding
    assert facts["architecture"] == type(model).__name__
    assert facts["quantisation"] is None
    assert json.loads(json.dumps(facts)) == facts


def test_describing_leaves_the_random_state_alone(folder: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    HfBackbone(folder, cache_dir=tmp_path).describe()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_frozen_in_eval_mode_with_the_saved_numbers(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = HfBackbone(folder, cache_dir=tmp_path).load(dtype=dtype, device=CPU)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    state = model.state_dict()
    for name, saved in load_file(folder / "model.safetensors").items():
        assert torch.equal(state[name], saved.to(dtype))
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("change", ["fewer layers", "more tensors"])
def test_tensors_that_are_not_used_are_said(
    llama: Path, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(llama, tmp_path / "m")
    if change == "fewer layers":
        settings = json.loads((folder / "config.json").read_text())
        settings["num_hidden_layers"] -= 1
        (folder / "config.json").write_text(json.dumps(settings))
    else:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.ones(4)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    HfBackbone(folder, cache_dir=tmp_path).load(dtype=torch.float32, device=CPU)
    assert "have no place in LlamaForCausalLM and are not used (model.layers." in caplog.text
    caplog.clear()
    HfBackbone(llama, cache_dir=tmp_path).load(dtype=torch.float32, device=CPU)
    assert "have no place" not in caplog.text


def test_a_value_of_another_type_in_config_json(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "m")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_size": "32"}))
    with pytest.raises(DataError, match=r"config\.json is broken"):
        HfBackbone(folder, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("config", "inner", "heads"),
    [
        (MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, intermediate_size=64), 64, 0),
        (
            GPTNeoConfig(vocab_size=64, hidden_size=32, num_layers=2, attention_types=[[["global"], 2]], num_heads=4),
            128,
            4,
        ),
    ],
)
def test_architectures_without_the_usual_fields(
    llama: Path, tmp_path: Path, config: Any, inner: int, heads: int
) -> None:
    facts = describe_model(config, tokenizer=HfBackbone(llama, cache_dir=tmp_path).tokenizer())
    assert (facts["intermediate_size"], facts["attention_heads"]) == (inner, heads)


def test_pieces_give_the_ids_of_the_whole_text(folder: Path, tmp_path: Path) -> None:
    tokenizer = HfBackbone(folder, cache_dir=tmp_path).tokenizer()
    pieces = re.findall(r" ?[^ ]+", TEXT)
    assert [number for ids in tokenizer.encode_many(pieces) for number in ids] == tokenizer.encode(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    for piece in [*pieces, "item", " two  spaces", "ü☃ 映"]:
        assert tokenizer.decode(tokenizer.encode(piece)) == piece


def test_begin_and_answer_are_the_tokenizers_own(llama: Path, qwen2: Path, tmp_path: Path) -> None:
    sentencepiece, byte_level = (HfBackbone(each, cache_dir=tmp_path).tokenizer() for each in (llama, qwen2))
    # Facts 3 and 4.
    assert sentencepiece.bos_ids == (1,)
    assert byte_level.bos_ids == ()
    words = AutoTokenizer.from_pretrained(llama)
    assert words.convert_ids_to_tokens([sentencepiece.answer.positive, sentencepiece.answer.negative]) == [
        "▁Yes",
        "▁No",
    ]
    words = AutoTokenizer.from_pretrained(qwen2)
    assert words.convert_ids_to_tokens([byte_level.answer.positive, byte_level.answer.negative]) == ["ĠYes", "ĠNo"]
    plain = HfBackbone(qwen2, cache_dir=tmp_path, answer_space=False).tokenizer().answer
    assert (plain.positive_word, plain.negative_word) == ("Yes", "No")
    assert len({plain.positive, plain.negative, byte_level.answer.positive}) == 3


@pytest.mark.parametrize("text", ["</s>", " a <s> b", "<|im_end|>", "x<|endoftext|>y", "<unk><pad>"])
def test_names_of_special_tokens_are_plain_text(folder: Path, tmp_path: Path, text: str) -> None:
    tokenizer = HfBackbone(folder, cache_dir=tmp_path).tokenizer()
    special = set(AutoTokenizer.from_pretrained(folder).all_special_ids)
    ids = tokenizer.encode(text)
    assert not special & set(ids)
    assert tokenizer.decode(ids) == text


def test_slots_stand_where_the_words_say(folder: Path, tmp_path: Path) -> None:
    template = PromptTemplate(
        hybrid=(
            Text("#Question: A user has given high ratings to the following movies: "),
            HistoryTitles(),
            Text("."),
            Text(" Additionally encoded in the feature ", collaborative=True),
            UserSlot(),
            Text(".", collaborative=True),
            Text(" would enjoy the item titled "),
            TargetTitle(),
            Text(" with the feature ", collaborative=True),
            ItemSlot(),
            Text('? Answer with "Yes" or "No". #Answer:'),
        )
    )
    backbone = HfBackbone(folder, cache_dir=tmp_path)
    titles = ["", "Heat (1995)", 'Alien "</s>" <UserID>\n<|im_end|>', "Toy Story (1995)"]
    encoder = PromptEncoder(
        template, backbone.tokenizer(), titles, fills={"user": SlotFill(2), "item": SlotFill(1)}, max_tokens=512
    )
    shown = show_prompts(encoder, 2, [0, 1, 2])
    assert shown["hybrid"]["text"].removeprefix("<s>") == (
        "#Question: A user has given high ratings to the following movies: "
        '"Heat (1995)", "Alien "</s>" <UserID> <|im_end|>". Additionally encoded in the feature <user><user>. would '
        'enjoy the item titled "Alien "</s>" <UserID> <|im_end|>" with the feature <item>? Answer with "Yes" or "No". '
        "#Answer:"
    )
    prompts = encoder.encode(np.array([2, 3]), np.array([[0, 1, 2], [0, 1, 2]]), "hybrid")
    assert (prompts.slots["user"][0] == prompts.slots["user"][1]).all()
    n = int(prompts.shared[0])
    assert (prompts.prompt(0)[:n] == prompts.prompt(1)[:n]).all()
    ids = torch.from_numpy(prompts.prompt(0).astype(np.int64))[None]
    logits = backbone.load(dtype=torch.float32, device=CPU)(ids).logits
    assert torch.isfinite(logits).all()


def test_hash_is_of_content_and_not_of_paths(folder: Path, tmp_path: Path) -> None:
    original = HfBackbone(folder, cache_dir=tmp_path).content_hash()
    copied = copy_of(folder, tmp_path / "copy")
    assert HfBackbone(copied, cache_dir=tmp_path).content_hash() == original
    (copied / "README.md").write_text("words", encoding="utf-8")
    assert HfBackbone(copied, cache_dir=tmp_path).content_hash() == original
    state = load_file(copied / "model.safetensors")
    name = next(iter(state))
    save_file(state | {name: state[name] + 1}, copied / "model.safetensors", metadata={"format": "pt"})
    assert HfBackbone(copied, cache_dir=tmp_path).content_hash() != original


@pytest.mark.parametrize("n_shards", [1, 2])
def test_bin_weights_are_converted_once(llama: Path, tmp_path: Path, n_shards: int) -> None:
    folder = copy_of(llama, tmp_path / "bins", without="*.safetensors")
    state = load_file(llama / "model.safetensors")
    names = [list(state)[start::n_shards] for start in range(n_shards)]
    for number, part in enumerate(names, start=1):
        name = f"pytorch_model-{number:05d}-of-{n_shards:05d}.bin" if n_shards > 1 else "pytorch_model.bin"
        torch.save({each: state[each] for each in part}, folder / name)
    for _ in range(2):
        model = HfBackbone(folder, cache_dir=tmp_path / "cache").load(dtype=torch.float32, device=CPU)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    (converted,) = (tmp_path / "cache" / "converted").iterdir()
    assert len(list(converted.glob("*.safetensors"))) == n_shards


def test_code_in_a_bin_file_never_runs(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "evil", without="*.safetensors")
    target = tmp_path / "was-run"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (target,)

    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: is not a plain weight file; nothing in it was run"):
        HfBackbone(folder, cache_dir=tmp_path / "cache").load(dtype=torch.float32, device=CPU)
    assert not target.exists()


def test_missing_parts_are_named(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        HfBackbone(tmp_path / "nowhere", cache_dir=tmp_path)
    for pattern, message in (
        ("config.json", "has no config.json"),
        ("tokenizer*", "has no tokenizer"),
        ("*.safetensors", "has no weights"),
    ):
        broken = copy_of(llama, tmp_path / f"no-{pattern.strip('*.')}", without=pattern)
        with pytest.raises(DataError, match=message):
            HfBackbone(broken, cache_dir=tmp_path)


def test_unknown_and_unfit_models_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"model_type": "never-heard", "auto_map": {"AutoConfig": "code.Config"}}, "is never run"),
        ({"model_type": "t5"}, "a t5 model is not a causal language model"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            HfBackbone(folder, cache_dir=tmp_path)


def test_weights_that_lack_a_parameter_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "lacking")
    state = load_file(folder / "model.safetensors")
    state.pop("model.layers.1.self_attn.q_proj.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"do not fit together .*layers\.1\.self_attn\.q_proj"):
        HfBackbone(folder, cache_dir=tmp_path).load(dtype=torch.float32, device=CPU)


def test_a_tokenizer_of_another_model_is_refused(qwen2: Path, tmp_path: Path) -> None:
    folder = copy_of(qwen2, tmp_path / "small", without="*.safetensors")
    Qwen2ForCausalLM(Qwen2Config(vocab_size=64, **SHAPE)).save_pretrained(folder)
    with pytest.raises(DataError, match=r"the tokenizer uses id .* but the model has 64 token embeddings"):
        HfBackbone(folder, cache_dir=tmp_path).load(dtype=torch.float32, device=CPU)


def byte_tokenizer(merges: list[tuple[str, str]], extra: list[str]) -> PreTrainedTokenizerFast:
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *extra]
    model = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_answer_words_that_begin_alike() -> None:
    # Bytes only: " Yes" and " No" both begin with the token of the space, the plain words do not.
    tokenizer = byte_tokenizer([], [])
    assert HfTokenizer(tokenizer).answer.positive_word == "Yes"
    with pytest.raises(DataError, match="' Yes' and ' No' begin with the same token"):
        HfTokenizer(tokenizer, answer_space=True, label="bytes")
    assert HfTokenizer(byte_tokenizer([("Ġ", "Y")], ["ĠY"])).answer.positive_word == " Yes"
