"""What a spec names outside of itself is looked at before anything starts, each fault at its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collm.component import BuildContext
from collm.look import look_around
from collm.registry import Registry, default_registry
from collm.spec.expand import Suite, load_any
from collm_hf.config import HfConfig

LM = """name: lm
dataset: {name: collm-released, path: split.zip}
backbone: {name: hf, path: model}
prompt: {name: movie}
tuning: {name: none, lora: {target_modules: [q_proj, foo_proj]}}
"""
FILES = """name: s
dataset:
  name: files
  interactions: a.csv
  columns: {user: user, item: movie, rating: rating, timestamp: timestamp}
  label: {from: rating, positive_above: 3}
  split: {by: quantiles, valid: 0.2, test: 0.2}
encoder: {name: mf}
"""


@pytest.fixture(scope="module")
def installed() -> Registry:
    return default_registry()


@pytest.fixture
def problems(tmp_path: Path, installed: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def look(text: str, *overrides: str) -> list[str]:
        Path("spec.yaml").write_text(text, encoding="utf-8")
        loaded = load_any(Path("spec.yaml"), overrides, installed, cwd=tmp_path)
        specs = [run.spec for run in loaded.runs] if isinstance(loaded, Suite) else [loaded]
        found = look_around(specs, installed, BuildContext(tmp_path / "cache", find=installed.get))
        return [str(problem).replace(f"{tmp_path}/", "") for problem in found]

    return look


def test_missing_data_and_models_are_said_together_and_in_place(problems) -> None:
    data, model = problems(LM)
    assert data.startswith("spec.yaml:2:39: dataset.path: 'split.zip': no such file or folder; a relative path starts")
    assert model.startswith("spec.yaml:3:28: backbone.path: model: no such folder")


def test_an_address_where_none_can_be_is_named_as_one(problems) -> None:
    data, _ = problems(LM, "dataset.path=https://example.org/split.zip")
    assert data == "--set: dataset.path: 'https://...' is an address; this field takes a file or folder on this machine"


def test_a_hub_id_is_recognised(problems) -> None:
    (found, _) = sorted(problems(LM, "backbone.path=meta-llama/Llama-3.2-1B"))
    assert found.startswith("--set: backbone.path: meta-llama/Llama-3.2-1B: no such folder. 'meta-llama/Llama-3.2-1B' ")
    assert "hf download meta-llama/Llama-3.2-1B --local-dir Llama-3.2-1B" in found


def test_names_of_lora_targets_are_looked_up(problems) -> None:
    Path("split.zip").write_bytes(b"")
    (found,) = [each for each in problems(LM, "backbone={name: tiny}") if "lora" in each]
    assert found == (
        "spec.yaml:5:54: tuning.lora.target_modules[1]: the backbone has no module 'foo_proj' (did you mean 'o_proj'?)"
        "; its modules: down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    )


def test_lora_targets_of_a_folder_are_those_of_its_weights(problems, tmp_path: Path) -> None:
    from collm.testing.tiny_model import write_tiny_model

    (tmp_path / "model").mkdir()
    write_tiny_model(tmp_path / "model")
    found = [each for each in problems(LM) if "lora" in each]
    assert len(found) == 1
    assert "no module 'foo_proj'" in found[0]


def test_a_header_without_the_column_is_said(problems) -> None:
    Path("a.csv").write_text("user,movieId,rating,timestamp\n1,2,3,1500000000\n")
    (found,) = problems(FILES)
    assert found.startswith(
        "spec.yaml:3:3: dataset: a.csv: dataset.columns.item: no column 'movie' (did you mean 'movi"
    )


def test_a_sound_spec_has_no_problem(problems) -> None:
    Path("a.csv").write_text("user,movie,rating,timestamp\n1,2,3,1500000000\n")
    assert problems(FILES) == []
    assert problems("name: t\ndataset: {name: tiny}\nencoder: {name: mf}\n") == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a.csv/x.csv", "no such file or folder"),
        ("x" * 300 + ".csv", "cannot be read (File name too long)"),
        ('"a\\0b.csv"', "cannot be a path (embedded null byte)"),
        ("A.csv", "did you mean 'a.csv'?"),
        ("none/b.csv", "the folder 'none' does not exist either"),
    ],
)
def test_strange_paths_are_problems_and_no_bugs(problems, path: str, said: str) -> None:
    Path("a.csv").write_text("user,movie,rating,timestamp\n1,2,3,1500000000\n")
    (found,) = problems(FILES, f"dataset.interactions={path}")
    assert said in found


def test_a_suite_is_looked_at_once_for_each_component(problems, installed: Registry, monkeypatch) -> None:
    Path("base.yaml").write_text(FILES, encoding="utf-8")
    Path("a.csv").write_text("user,movieId,rating,timestamp\n1,2,3,1500000000\n")
    from collm_files.source import FilesSource

    looked: list[int] = []
    inner = FilesSource.look
    monkeypatch.setattr(FilesSource, "look", lambda self: (looked.append(1), inner(self)))
    found = problems("name: many\nbase: base.yaml\nseeds: [0, 1, 2, 3]\n")
    assert len(found) == 1
    assert len(looked) == 1


@pytest.mark.parametrize("backbone", ["hf, path: model", "smollm2-135m"])
def test_a_template_with_other_answer_words_is_said(problems, monkeypatch, tmp_path: Path, backbone: str) -> None:
    from collm_prompts import wordings

    inner = wordings.build_domain
    monkeypatch.setattr(wordings, "build_domain", lambda config: replace(inner(config), positive="Like"))
    monkeypatch.setattr(HfConfig, "look", lambda self: ())
    (tmp_path / "model").mkdir()
    text = f"name: lm\ndataset: {{name: tiny}}\nbackbone: {{name: {backbone}}}\n"
    text += "prompt: {name: movie}\ntuning: {name: text-only}\n"
    said = "prompt: asks for 'Like' or 'No', but this backbone reads 'Yes' and 'No'; use the same words"
    assert [problem for problem in problems(text) if said in problem]


def test_an_unsound_template_of_a_plugin_is_said(problems, monkeypatch) -> None:
    from collm_prompts import wordings

    inner = wordings.build_domain
    monkeypatch.setattr(wordings, "build_domain", lambda config: replace(inner(config), negative="Yes"))
    text = "name: lm\ndataset: {name: tiny}\nbackbone: {name: tiny}\nprompt: {name: movie}\ntuning: {name: text-only}\n"
    (found,) = problems(text)
    assert found.startswith("spec.yaml:4:9: prompt: the two")


def test_a_checkpoint_that_was_not_fetched_is_said_and_a_fetched_one_is_looked_at(problems, tmp_path: Path) -> None:
    from collm.testing.tiny_model import write_tiny_model

    Path("split.zip").write_bytes(b"")
    backbone = "backbone={name: hf, checkpoint: someone/lm, revision: v2}"
    (found,) = [each for each in problems(LM, backbone) if "backbone" in each]
    assert found == (
        "--set: backbone.checkpoint: its weights are not on this machine: run 'collm fetch hf --set "
        "checkpoint=someone/lm --set revision=v2', or give a copy in backbone.path"
    )
    folder = tmp_path / "cache" / "weights" / "someone--lm@v2"
    folder.mkdir(parents=True)
    write_tiny_model(folder)
    (found,) = [each for each in problems(LM, backbone) if "tuning" in each or "backbone" in each]
    assert "tuning.lora.target_modules[1]: the backbone has no module 'foo_proj'" in found
