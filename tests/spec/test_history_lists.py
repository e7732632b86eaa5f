"""What a spec says prompts list: errors with their places, and fingerprints that likes alone keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm.component import BuildContext
from collm.contracts.prompt import DislikedTitles, HistoryTitles, PromptTemplate, RatedTitles
from collm.errors import CollmError
from collm.look import look_around
from collm.registry import default_registry
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec
from collm.spec.sections import DISLIKED, HistoryConfig
from collm.stages.prompt_sources import words_beside

SPEC = """\
name: lists
dataset: {name: tiny}
backbone: {name: tiny}
history: {include: both, max_disliked: 4}
prompt: {name: movie}
tuning: {name: text-only}
"""
RATED = "prompt={name: custom, template: 'Rated {rated}.[[ {user}]] New {target}[[ {item}]]? A:'}"
WITHOUT = ["backbone=null", "prompt=null", "tuning=null", "encoder.name=mf"]


def loaded(folder: Path, *overrides: str) -> ResolvedSpec:
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return load_spec(folder / "spec.yaml", overrides, default_registry(), cwd=folder)


def test_what_is_left_as_it_was_is_no_part_of_fingerprints(tmp_path: Path) -> None:
    assert config_payload(HistoryConfig()) == {"visibility": "strictly-earlier", "max_items": 10}
    likes = loaded(tmp_path, "history.include=liked", "history.max_disliked=null", "history.ages=false")
    assert likes.plain(locations=False)["history"] == {"visibility": "strictly-earlier", "max_items": 10}
    hashes = {
        loaded(tmp_path, *each).spec_hash
        for each in ([], ["history.ages=true"], ["history.max_disliked=5"], ["history.max_disliked=null"])
    }
    assert len(hashes | {likes.spec_hash}) == 5


def test_words_of_lists_that_a_template_does_not_have_decide_nothing() -> None:
    before = {
        *("title_open", "title_close", "title_join", "empty_history", "strip_history_titles", "quote_target"),
        *("slot_join", "positive", "negative"),
    }
    likes, both, rated = (
        PromptTemplate(hybrid=segments)
        for segments in ((HistoryTitles(),), (HistoryTitles(), DislikedTitles()), (RatedTitles(),))
    )
    assert set(words_beside(likes, "hybrid")) == before
    assert set(words_beside(both, "text")) == before | {"empty_disliked"}
    assert set(words_beside(rated, "text")) == before | {"liked_word", "disliked_word"}
    # The repr of segments is hashed.
    assert repr(HistoryTitles()) == "HistoryTitles(collaborative=False)"


def test_lengths_of_lists(tmp_path: Path) -> None:
    assert loaded(tmp_path).history.n_disliked == 4
    assert loaded(tmp_path, "history.max_disliked=null").history.n_disliked == DISLIKED == 10
    assert HistoryConfig().n_disliked == 0
    rated = HistoryConfig(include="both", max_items=20, max_rated=15)
    assert (rated.n_liked, rated.n_disliked) == (15, 15)
    again = HistoryConfig.model_validate(HistoryConfig().model_dump())
    assert again == HistoryConfig(), "a whole spec can be read again"


def test_rated_items_replace_default_lengths_alone(tmp_path: Path) -> None:
    lengths = ("history.max_disliked=null", "history.max_rated=15")
    spec = loaded(tmp_path, *lengths)
    (tmp_path / "again.yaml").write_text(json.dumps(spec.plain()), encoding="utf-8")
    again = load_spec(tmp_path / "again.yaml", [], default_registry(), cwd=tmp_path)
    assert (again, again.spec_hash) == (spec, spec.spec_hash)
    assert again.history.max_items == 10
    loaded(tmp_path, *lengths, "history.max_items=15")
    with pytest.raises(
        CollmError, match=r"spec.yaml:4:40: history.max_disliked: got the number 4, with max_rated .*15"
    ):
        loaded(tmp_path, "history.max_rated=15")
    with pytest.raises(
        CollmError, match=r"--set: history.max_items: got the number 10, .*: remove max_items, or set it"
    ):
        loaded(tmp_path, *lengths, "history.max_items=10")


@pytest.mark.parametrize(("lengths", "differs"), [({}, False), ({"max_rated": 10}, False), ({"max_rated": 11}, True)])
def test_only_lists_that_were_cut_have_another_hash(lengths: dict[str, int], differs: bool) -> None:
    for more in ({}, {"max_items": 20}):
        history = HistoryConfig.model_validate({"include": "both", **lengths, **more})
        assert (history.payload() != config_payload(history)) == differs


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["history.include=liked"],
            r"spec.yaml:4:40: history.max_disliked: got the number 4, prompts list no",
        ),
        (["history.include=dislikes"], r"history.include: got 'dislikes', must be one of: liked, both"),
        (
            ["history.include=liked", "history.max_disliked=null", "history.max_rated=4"],
            "history.max_rated: got the number 4, prompts list no disliked items with include: liked",
        ),
        (["history.max_disliked=0"], "history.max_disliked: got the number 0, must be greater than or equal to 1"),
        (WITHOUT, r"spec.yaml:4:20: history.include: only prompts list disliked items, and there is no `backbone`"),
        (
            [*WITHOUT, "history.include=liked", "history.max_disliked=null", "history.ages=true"],
            "history.ages: only prompts list ages, and there is no `backbone`: add one, or set history.ages: false",
        ),
    ],
)
def test_mistakes_are_located(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(CollmError, match=message):
        loaded(tmp_path, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], ""),
        (["prompt.name=tallrec"], ""),
        ([RATED], ""),
        (
            ["prompt.wording=reference"],
            "prompt: has no place for liked and disliked items in its text and hybrid",
        ),
        (["prompt.name=prompt4nr"], "use the prompt tallrec or a domain's with wording: paper"),
        (
            ["history={}", "prompt.name=tallrec"],
            "prompt: lists disliked items, which history.include: liked",
        ),
        (["history={}", RATED], "set history.include: both"),
        (["history={}"], ""),
    ],
)
def test_prompts_are_held_against_the_lists_before_anything_starts(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    spec = loaded(tmp_path, *overrides)
    found = look_around([spec], default_registry(), BuildContext(cache_dir=tmp_path))
    problems = "; ".join(f"{each.path}: {each.message}" for each in found)
    assert message in problems
    assert bool(problems) == bool(message)


def test_ranked_lists_need_all_rows_of_a_user(tmp_path: Path) -> None:
    overrides = ("dataset.limit.user_rows=3", "evaluate.ranking={candidates: all}")
    for each in overrides:
        loaded(tmp_path, each)
    with pytest.raises(CollmError, match=r"dataset.limit.user_rows: leaves out positives that a ranked list would be"):
        loaded(tmp_path, *overrides)
