"""The `hf` plugin; folder loading itself is tested with `collm.model.hf_backbone`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from collm.component import BuildContext, load_attribute
from collm.errors import DataError
from collm.registry import default_registry
from collm.testing.tiny_model import write_tiny_model
from collm_hf.config import HfConfig
from collm_tiny.tokenizer import tiny_tokenizer


def test_builds_from_a_folder(tmp_path: Path) -> None:
    component = default_registry().get("backbone", "hf")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    config = component.config(name="hf", path=tmp_path, answer_space=False)
    backbone = component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))
    assert backbone.hidden_size == 16
    assert backbone.tokenizer().answer.positive_word == "Yes"


def test_missing_folder(tmp_path: Path) -> None:
    component = default_registry().get("backbone", "hf")
    config = HfConfig(name="hf", path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))


def test_path_is_required() -> None:
    with pytest.raises(ValidationError, match="path"):
        HfConfig(name="hf")


def test_a_checkpoint_of_the_hub_is_fetched_once_and_then_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    class Hub:
        def list_repo_files(self, repository: str, *, revision: str | None) -> list[str]:
            asked.append((repository, revision))
            return ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "modeling.py"]

    def download(repository: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]) -> None:
        assert (repository, revision) == asked[-1]
        assert "modeling.py" not in allow_patterns
        assert "chat_template.jinja" in allow_patterns
        local_dir.mkdir(parents=True)
        write_tiny_model(local_dir)

    monkeypatch.setattr("collm.model.hub.HfApi", Hub)
    monkeypatch.setattr("collm.model.hub.snapshot_download", download)
    component, context = default_registry().get("backbone", "hf"), BuildContext(cache_dir=tmp_path)
    build, fetch = component.load_factory(), load_attribute(str(component.fetch), owner="hf")
    for revision, folder in ((None, "someone--lm"), ("v1/x", "someone--lm@v1-x")):
        config = HfConfig(name="hf", checkpoint="someone/lm", revision=revision)
        said = "collm fetch hf --set checkpoint=someone/lm" + (f" --set revision={revision}" if revision else "")
        with pytest.raises(DataError, match=f"run '{said}'"):
            build(config, context=context)
        assert config.fetched_folder() == (folder, said)
        assert fetch(context, config) == tmp_path / "weights" / folder
        assert build(config, context=context).hidden_size > 0
    fetch(context, HfConfig(name="hf", checkpoint="someone/lm"))
    assert asked == [("someone/lm", None), ("someone/lm", "v1/x")]
    own = HfConfig(name="hf", checkpoint="someone/lm", path=tmp_path / "weights" / "someone--lm")
    assert own.fetched_folder() is None
    assert build(own, context=context).hidden_size > 0
    with pytest.raises(DataError, match="name the model: collm fetch hf --set checkpoint=OWNER/NAME"):
        fetch(context, HfConfig(name="hf", path=tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give path .* or checkpoint"),
        ({"path": Path("x"), "revision": "main"}, "revision 'main' is one of a checkpoint"),
        ({"checkpoint": "no-owner"}, "checkpoint"),
        ({"checkpoint": "../../etc"}, "checkpoint"),
    ],
)
def test_what_names_no_model_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HfConfig(name="hf", **settings)
