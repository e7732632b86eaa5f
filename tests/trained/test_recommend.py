"""What `recommend` says beside its items: titles that the prompt holds, what was left out, ranks of a short list."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import polars as pl
import pytest

import collm
from collm.cli.main import call
from collm.errors import UsageError
from collm.trained.model import TrainedModel
from collm.trained.recommend import Recommendations, recommend

SPEC = """\
name: short
seed: 0
dataset: {name: tiny, n_users: 12, n_items: 30, rows_per_user: 14}
history: {include: both, max_items: 6, max_disliked: 4}
backbone: {name: tiny, dtype: float32, max_prompt_tokens: 190}
prompt: {name: movie}
tuning: {name: text-only, batch_size: 16, max_rows: 32, text: {epochs: 1, warmup_steps: 1}}
evaluate: {resamples: 0}
"""
LISTS = re.compile(r"high ratings to the following movies: (.*)\. The user has given low .* movies: (.*)\. Using all")
HEADS = "these titles are in the prompt of item 1; prompts of other items have others"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A run whose prompts have room for some of the titles."""
    folder = tmp_path_factory.mktemp("recommend")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLM_CACHE", str(folder / "cache"))
        run = collm.run(folder / "spec.yaml", runs_dir=folder / "runs", device="cpu", threads=1).runs[0]
        return collm.open_run(run.folder, device="cpu")


@pytest.fixture(scope="module")
def found(model: TrainedModel) -> list[Recommendations]:
    """All that is recommended to each user."""
    return [recommend(model, user, k=30) for user in model.data.user_ids[1:]]


def prompt_titles(model: TrainedModel, user: str, item: str) -> tuple[tuple[str, ...], ...]:
    """Liked and disliked titles as the prompt's own text has them."""
    assert model.language is not None
    pairs = model.asked([user], [item])
    view, rows = model.histories.rows(pairs.user, pairs.item, pairs.moment)
    prompts = model.language.source(view).encode(rows).prompts
    text = model.language.setup.backbone.tokenizer().decode(prompts.prompt(0).tolist())
    (lists,) = LISTS.findall(text)
    return tuple(tuple(re.findall(r'"([^"]*)"', titles)) for titles in lists)


def test_titles_are_those_in_the_prompt_of_the_best_item(model: TrainedModel, found: list[Recommendations]) -> None:
    for each in found:
        prompts = [prompt_titles(model, each.user, item.item) for item in each.items]
        assert (each.history, each.disliked) == prompts[0]
        assert each.prompts_differ == (len(set(prompts)) > 1)
    assert {each.prompts_differ for each in found} == {True, False}
    assert any(each.history for each in found)
    assert any(each.disliked for each in found)


def test_items_that_were_rated_are_counted(model: TrainedModel, found: list[Recommendations]) -> None:
    rows = model.data.interactions()
    for place, each in enumerate(found, start=1):
        rated = rows.filter(pl.col("user") == place)["item"].n_unique()
        assert (each.n_candidates, each.n_rated, each.n_ranked) == (30, rated, 30 - rated)
    everything = recommend(model, "u1", include_seen=True)
    assert (everything.n_candidates, everything.n_rated, everything.n_ranked) == (30, 0, 30)


def test_only_a_short_list_has_ranks(model: TrainedModel, found: list[Recommendations]) -> None:
    assert {item.shortlist_rank for each in found for item in each.items} == {None}
    short = recommend(model, "u1", shortlist=5)
    assert (short.shortlist_by, sorted(item.shortlist_rank or 0 for item in short.items)) == (
        "popularity",
        [1, 2, 3, 4, 5],
    )


def test_command_says_what_was_left_out_and_shown(
    model: TrainedModel, found: list[Recommendations], capfd: pytest.CaptureFixture[str]
) -> None:
    def shown(user: str, *options: str) -> str:
        assert call(["recommend", str(model.path), "--user", user, "-k", "30", "--device", "cpu", *options]) == 0
        return capfd.readouterr().out

    differ, same = (next(each for each in found if each.prompts_differ == differs) for differs in (True, False))
    printed = shown(differ.user)
    assert f"user {differ.user}: 30 candidates, 14 left out as rated, 16 ranked\n" in printed
    assert HEADS in printed
    assert "rank in short list" not in printed
    assert HEADS not in shown(same.user)
    printed = shown(same.user, "--shortlist", "5")
    assert "30 candidates, 14 left out as rated, short list of 5 by popularity\n" in printed
    assert "rank in short list" in printed
    plain = json.loads(shown(differ.user, "--json"))
    assert {item["shortlist_rank"] for item in plain["items"]} == {None}
    assert (plain["history"], plain["disliked"]) == (list(differ.history), list(differ.disliked))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"user": 1}, r"user: got 1 \(int\), must be text; write the raw id as text, e\.g\. '1'"),
        ({"user": np.int64(7)}, r"user: got np\.int64\(7\) \(int64\), must be text; .* e\.g\. '7'"),
        ({"user": ["u1"]}, r"user: got \['u1'\] \(list\), must be text"),
        ({"candidates": ["i1", 3]}, r"candidates\[1\]: got 3 \(int\), must be text"),
        ({"candidates": "i1"}, r"candidates: got 'i1' \(str\), must be a list of raw ids"),
        ({"candidates": []}, r"candidates: got \[\] \(list\), must be at least one raw item id, or None"),
        ({"k": 0}, r"k: got 0 \(int\), must be a whole number of at least 1"),
        ({"k": "3"}, r"k: got '3' \(str\), must be a whole number"),
        ({"k": True}, r"k: got True \(bool\), must be a whole number"),
        ({"shortlist": -1}, r"shortlist: got -1 \(int\), must be a whole number of at least 0"),
    ],
)
def test_other_arguments_are_refused(model: TrainedModel, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        recommend(model, **{"user": "u1", **arguments})


def test_arrays_of_text_are_candidates(model: TrainedModel) -> None:
    names = model.data.item_ids[1:9]
    wanted = recommend(model, "u1", candidates=names, include_seen=True).items
    for given in (np.array(names), pl.Series(names), tuple(np.str_(name) for name in names)):
        assert recommend(model, np.str_("u1"), candidates=given, include_seen=True).items == wanted
