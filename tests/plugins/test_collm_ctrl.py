"""CTRL with the tiny backbone as its text side."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from collm.cli.main import call
from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, TrainRows
from collm.errors import PluginError, SpecError
from collm.registry import Registry, default_registry
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.component_config import component_config
from collm.spec.resolve import load_spec
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_ctrl import register_encoders
from collm_ctrl.alignment import Alignment, similarity, standardised
from collm_ctrl.config import CtrlConfig
from collm_ctrl.encoder import Ctrl
from collm_ctrl.features import FOLDER, TextReader, TextVectors, text_vectors
from collm_ctrl.texts import NO_HISTORY, item_texts, user_texts

CTRL, CTRL_DIN = register_encoders()
CPU = torch.device("cpu")
TEXT = {"name": "tiny", "dtype": "float32", "hidden_size": 16, "n_layers": 1}
SMALL_DIN = {"embedding_size": 8, "attention_layers": [6, 4], "layers": [12, 6]}
SETTINGS = {"encoder": SMALL_DIN, "text_backbone": TEXT, "projection_size": 8}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return default_registry()


def settings_of(component, registry: Registry, **changes) -> CtrlConfig:
    config = component_config(component, {**SETTINGS, **changes}, registry)
    assert isinstance(config, CtrlConfig)
    return config


class TestCtrlDin(EncoderContract):
    component = CTRL_DIN
    settings = SETTINGS


class TestCtrlOnSasrec(EncoderContract):
    component = CTRL
    settings: ClassVar = {"encoder": {"name": "sasrec", "embedding_size": 8}, "text_backbone": TEXT}


# -- texts --------------------------------------------------------------------------------------------------------


def test_texts_hold_titles_and_the_latest_liked_training_items() -> None:
    data = encoder_data()
    texts = item_texts(data)
    assert texts[:2] == ["", f'This is an item titled "{data.titles[1]}".']
    assert len(texts) == data.n_items + 1
    users = user_texts(data, max_titles=2)
    assert (users[0], users[data.n_users]) == ("", NO_HISTORY)
    mine = (data.train.user == 1) & (data.train.label == 1)
    last = data.train.item[mine][np.argsort(data.train.timestamp[mine], kind="stable")][-2:]
    assert users[1] == f'This is a user who liked "{data.titles[last[0]]}", "{data.titles[last[1]]}".'


def test_liked_items_of_one_second_keep_the_order_of_the_source() -> None:
    data = encoder_data()
    ones = np.ones(3, dtype=np.int64)
    train = TrainRows(ones, np.array([3, 1, 2]), ones.astype(np.int8), np.array([7, 9, 7]), np.array([5, 6, 4]))
    text = user_texts(type(data)(1, 3, ["", "A", "B", "C"], train, 5), max_titles=5)[1]
    assert text == 'This is a user who liked "B", "C", "A".'


# -- text vectors -------------------------------------------------------------------------------------------------


def reader(registry: Registry, **changes) -> TextReader:
    config = settings_of(CTRL_DIN, registry, **changes)
    backbone = registry.get("backbone", "tiny").load_factory()(config.text_backbone, context=BuildContext(Path("x")))
    return TextReader.of(config, backbone)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_text_vector_is_pooled_over_its_own_tokens(registry: Registry, pooling: str) -> None:
    made, texts = reader(registry, pooling=pooling), ["A short one.", "A somewhat longer text, with a comma."]
    tokenizer, lm = made.backbone.tokenizer(), made.backbone.load(dtype=torch.float32, device=CPU)
    expected = []
    for text in texts:
        ids = [*tokenizer.bos_ids, *tokenizer.encode(text)]
        states = lm.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        own = states[len(tokenizer.bos_ids) :]
        expected.append(own.mean(dim=0) if pooling == "mean" else states[-1])
    torch.testing.assert_close(made.read(texts, CPU), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_long_texts_are_cut(registry: Registry) -> None:
    made = reader(registry, max_text_tokens=3)
    tokenizer = made.backbone.tokenizer()
    text = "one two three four"
    same = tokenizer.decode(tokenizer.encode(text)[:3])
    torch.testing.assert_close(made.read([text], CPU), made.read([same], CPU))


def test_texts_are_read_once_whatever_the_encoder(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["", "One.", "Two.", "One."]
    made = reader(registry)
    first = text_vectors(texts, made, cache_dir=tmp_path, device=CPU)
    assert (first.reused, first.n_distinct, first.codes.tolist()) == (False, 2, [0, 1, 2, 1])
    assert not first.vectors[0].any()
    assert torch.equal(first.vectors[1], first.vectors[3])
    monkeypatch.setattr(type(made.backbone), "load", lambda *_, **__: pytest.fail("the language model was loaded"))
    again = text_vectors(texts, reader(registry, encoder={"dropout": 0.1}), cache_dir=tmp_path, device=CPU)
    assert again.reused
    assert torch.equal(again.vectors, first.vectors)


@pytest.mark.parametrize(
    "changes",
    [{"pooling": "last"}, {"max_text_tokens": 3}, {"text_backbone": {**TEXT, "seed": 5}}],
)
def test_what_changes_the_vectors_changes_their_key(registry: Registry, changes: dict) -> None:
    assert reader(registry).content_key(["a"]) != reader(registry, **changes).content_key(["a"])
    assert reader(registry).content_key(["a"]) != reader(registry).content_key(["a", "b"])


def test_a_damaged_cache_file_is_replaced(registry: Registry, tmp_path: Path) -> None:
    made = reader(registry)
    first = text_vectors(["One."], made, cache_dir=tmp_path, device=CPU)
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_bytes(b"half a file")
    again = text_vectors(["One."], made, cache_dir=tmp_path, device=CPU)
    assert not again.reused
    assert torch.equal(again.vectors, first.vectors)


# -- alignment ----------------------------------------------------------------------------------------------------


def side(vectors: torch.Tensor, codes: list[int]) -> TextVectors:
    return TextVectors(vectors, torch.tensor(codes), max(codes), reused=False, seconds=0.0)


def test_standardised_over_the_distinct_texts_only() -> None:
    vectors = torch.tensor([[0.0, 0.0], [1.0, 5.0], [3.0, 5.0], [3.0, 5.0]])
    scaled = standardised(side(vectors, [0, 1, 2, 2]))
    half = 2**-0.5
    torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.0], [-half, 0.0], [half, 0.0], [half, 0.0]]))
    assert not standardised(side(torch.ones(2, 3), [0, 1])).any()


def test_similarity_takes_the_best_part_of_the_other_side() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 3, 5), torch.randn(6, 3, 5)
    expected = torch.empty(4, 6)
    for i in range(4):
        for j in range(6):
            expected[i, j] = sum(max(float(one[i, m] @ other[j, n]) for n in range(3)) for m in range(3)) / 3
    torch.testing.assert_close(similarity(one, other), expected)
    torch.testing.assert_close(similarity(one[:, :1], other[:, :1]), one[:, 0] @ other[:, 0].T)


def alignment(registry: Registry, tmp_path: Path, **changes) -> tuple[Ctrl, Alignment, CtrlConfig]:
    torch.manual_seed(0)
    config = settings_of(CTRL_DIN, registry, **changes)
    context = BuildContext(cache_dir=tmp_path, find=registry.get)
    encoder: Ctrl = CTRL_DIN.load_factory()(config, data=encoder_data(), context=context)
    align, fit = encoder.fit_phases(config)
    assert (align.name, align.select, align.fit) == ("align", "loss", config.align)
    assert (fit.model, fit.select, fit.fit) == (encoder.encoder, "auc", config.encoder.fit)  # type: ignore[attr-defined]
    assert isinstance(align.model, Alignment)
    return encoder, align.model.eval(), config


def test_loss_is_the_cross_entropy_of_finding_ones_own_text(registry: Registry, tmp_path: Path) -> None:
    encoder, model, config = alignment(registry, tmp_path, temperature=0.3)
    whole = encoder_batch(encoder_data(), history_items=encoder.history_items)
    take = torch.tensor([0, 5, 40, 5])  # one row twice: no negative of itself
    batch = EncoderBatch(user=whole.user[take], item=whole.item[take], history=whole.history[take])
    with torch.no_grad():
        pair = encoder.encode(batch)
        vectors = model.vector_head(torch.cat([pair.user, pair.item], dim=1))
        texts = model.text_head(torch.cat([model.user_text[batch.user], model.item_text[batch.item]], dim=1))
        cosine = torch.cosine_similarity(vectors[:, None], texts[None], dim=-1) / config.temperature
        terms = []
        for i in range(4):
            others = [j for j in range(4) if j == i or {i, j} != {1, 3}]
            terms += [torch.logsumexp(cosine[i, others], 0) - cosine[i, i]]
            terms += [torch.logsumexp(cosine[others, i], 0) - cosine[i, i]]
        torch.testing.assert_close(model.loss(batch), torch.stack(terms).mean())


@pytest.mark.parametrize("n_subspaces", [1, 3])
def test_alignment_trains_vectors_and_heads_and_leaves_no_trace_in_the_encoder(
    registry: Registry, tmp_path: Path, n_subspaces: int
) -> None:
    encoder, model, config = alignment(registry, tmp_path, n_subspaces=n_subspaces, temperature=0.1)
    batch = encoder_batch(encoder_data(), history_items=encoder.history_items)
    optimiser = torch.optim.Adam(model.train().parameter_groups(config.align))
    names, before = set(encoder.state_dict()), model.loss(batch).item()
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch).backward()
        optimiser.step()
    assert model.loss(batch).item() < 0.7 * before
    assert set(encoder.state_dict()) == names
    assert not any("text" in name for name in model.state_dict() if not name.startswith("text_head"))
    assert model.loss(encoder_batch(encoder_data(), history_items=encoder.history_items, rows=[2])).item() == 0


# -- settings -----------------------------------------------------------------------------------------------------


def test_only_encoders_that_can_be_aligned_are_taken(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"encoder\.encoder\.name: 'item-mean' gives scores; here scores and vectors"):
        settings_of(CTRL, registry, encoder={"name": "item-mean"})
    with pytest.raises(SpecError, match="'ctrl-din' is CTRL on 'din', got 'mf'; for another encoder take 'ctrl'"):
        settings_of(CTRL_DIN, registry, encoder={"name": "mf"})
    with pytest.raises(SpecError, match=r"encoder\.encoder: required field is missing"):
        component_config(CTRL, {}, registry)
    config = settings_of(CTRL_DIN, registry)
    with pytest.raises(PluginError, match="this context was made without a registry"):
        CTRL_DIN.load_factory()(config, data=encoder_data(), context=BuildContext(tmp_path))


def test_the_reference_profile_reaches_the_inner_encoder(registry: Registry) -> None:
    config = component_config(CTRL_DIN, {}, registry, profile="reference")
    assert isinstance(config, CtrlConfig)
    assert (config.encoder.name, config.text_backbone.name) == ("din", "smollm2-135m")
    assert not config.encoder.biases  # type: ignore[attr-defined]


def test_what_a_profile_names_is_shown_as_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugins", "encoder", "ctrl-din"]) == 0
    shown = capsys.readouterr().out
    assert "(default {'name': 'din'})" in shown
    assert "(default {'name': 'smollm2-135m'})" in shown
    assert call(["plugins", "encoder", "ctrl"]) == 0
    assert "that of stage two. (required)" in capsys.readouterr().out


# -- a whole run --------------------------------------------------------------------------------------------------

SPEC = """\
name: ctrl
dataset: {name: movielens-small, path: data}
encoder:
  name: ctrl-din
  encoder: {embedding_size: 4, attention_layers: [4], layers: [8], fit: {epochs: 2, batch_size: 64}}
  text_backbone: {name: tiny, dtype: float32, hidden_size: 16, n_layers: 1}
  align: {epochs: 2, batch_size: 64}
evaluate: {resamples: 10}
"""
COLLM = """\
backbone: {name: tiny, dtype: float32, hidden_size: 16, n_layers: 1}
prompt: {name: movie}
tuning: {name: t3, batch_size: 8, max_rows: 24, max_valid_rows: 24, text: {epochs: 1, warmup_steps: 1}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    draw = random.Random(3)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, 13):
        for place, item in enumerate(draw.sample(range(1, 31), 20)):
            lines.append(f"{user},{item},{draw.randint(1, 5)},{1_000_000 + place * 100 + user}")
    (tmp_path / "data" / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    titles = ["movieId,title,genres", *(f"{item},Film {item} (1994),Drama" for item in range(1, 31))]
    (tmp_path / "data" / "movies.csv").write_text("\n".join(titles) + "\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


def test_a_run_says_what_it_did_and_the_next_one_reuses_the_texts(folder: Path, registry: Registry) -> None:
    def run(*overrides: str) -> dict:
        spec = load_spec(folder / "spec.yaml", overrides, registry, cwd=folder)
        return run_spec(
            spec, registry, RunOptions(runs_dir=folder / "runs", cache_dir=folder / "cache", threads=1)
        ).plain()

    first = run()
    phase = first["facts"]["encoder"]["earlier_phases"]["align"]
    assert (phase["text_backbone"], phase["texts_reused"], phase["epochs"]) == ("tiny", False, 2)
    assert phase["best_valid_loss"] > 0
    assert first["facts"]["encoder"]["best_valid_auc"] == first["facts"]["encoder"]["valid_auc_reloaded"]
    other = run("encoder.encoder.dropout=0.1")
    assert not other["timing"]["fit_encoder"]["reused"]
    assert other["facts"]["encoder"]["earlier_phases"]["align"]["texts_reused"]
    # A new text side is new work.
    again = run("encoder.text_backbone.seed=5")
    assert not again["timing"]["fit_encoder"]["reused"]
    assert not again["facts"]["encoder"]["earlier_phases"]["align"]["texts_reused"]


def test_its_vectors_enter_the_prompt(folder: Path, registry: Registry) -> None:
    (folder / "spec.yaml").write_text(SPEC + COLLM, encoding="utf-8")
    spec = load_spec(folder / "spec.yaml", (), registry, cwd=folder)
    result = run_spec(
        spec, registry, RunOptions(runs_dir=folder / "runs", cache_dir=folder / "cache", threads=1)
    ).plain()
    assert result["metrics"]["test"]["all"]["auc"]["n"] == result["counts"]["test"]
