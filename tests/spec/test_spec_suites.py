"""Some runs of a suite (`--only`), suites on suites, and seeds from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.expand import Suite, load_any

LOW = """\
name: low
base: base.yaml
runs:
  mf: {backbone: null, prompt: null, tuning: null, encoder.fit.epochs: 3}
  text-only: {encoder: null, tuning: {name: text-only}}
  collm: {}
matrix: {history.max_items: [5, 6]}
seeds: [0, 1]
ensembles: {both: [mf, collm]}
"""
Load = Callable[..., Suite]


@pytest.fixture
def load(write: Callable[..., Path], registry: Registry, full: str, tmp_path: Path) -> Load:
    write(full, "specs/base.yaml")
    write(LOW, "specs/low.yaml")

    def read(text: str | None = None, *overrides: str, only: tuple[str, ...] = ()) -> Suite:
        path = tmp_path / "specs" / "low.yaml" if text is None else write(text, "specs/high.yaml")
        suite = load_any(path, overrides, registry, cwd=tmp_path, only=only)
        assert isinstance(suite, Suite)
        return suite

    return read


def refused(load: Load, *arguments: Any, **options: Any) -> Problem:
    with pytest.raises(SpecError, match=r".") as caught:
        load(*arguments, **options)
    (problem,) = caught.value.problems
    return problem


def keys(suite: Suite) -> list[str]:
    return [run.key for run in suite.runs]


ALL = [f"{run}-max_items{n}-seed{seed}" for run in ("mf", "text-only", "collm") for n in (5, 6) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (("mf",), [key for key in ALL if key.startswith("mf-")]),
        (("mf-max_items6",), ["mf-max_items6-seed0", "mf-max_items6-seed1"]),
        (("text-only-max_items5-seed1",), ["text-only-max_items5-seed1"]),
        (("collm-max_items5-seed0", "mf-max_items5-seed0"), ["mf-max_items5-seed0", "collm-max_items5-seed0"]),
        (("both-max_items6-seed1",), ["mf-max_items6-seed1", "collm-max_items6-seed1"]),
        (("both",), [key for key in ALL if not key.startswith("text")]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_only_picks_runs_as_the_whole_suite_has_them(load: Load, only: tuple[str, ...], wanted: list[str]) -> None:
    whole, part = load(), load(only=only)
    assert keys(part) == wanted
    assert part.runs == tuple(run for run in whole.runs if run.key in wanted)
    assert set(part.left_out) == set(ALL) - set(wanted)
    members = [each for each in whole.ensembles if set(each.members) <= set(wanted)]
    assert list(part.ensembles) == members
    assert part.without_members == (() if members else ("both",))


def test_what_was_left_out_is_said(load: Load) -> None:
    assert load().says_left_out() == ""
    assert load(only=("mf-max_items5-seed0",)).says_left_out() == (
        "--only: mf-max_items5-seed0; left out of low: 11 runs; ensembles without all members: both"
    )
    assert load(only=("mf", "text-only", "collm")).says_left_out() == ""


def test_unknown_names_are_all_told_with_the_nearest(load: Load) -> None:
    with pytest.raises(SpecError) as caught:
        load(only=("mf", "colm", "xyz"))
    near, far = map(str, caught.value.problems)
    assert near == (
        "--only: low has no run 'colm'; did you mean 'collm'? its runs are mf, text-only, collm; its ensembles both"
    )
    assert far.startswith("--only: low has no run 'xyz'; its runs are mf")
    gone = "name: s\nbase: base.yaml\nruns: {a: {}, b: {}}\nexclude: [b]\n"
    assert "has no run 'b'; its runs are a" in refused(load, gone, only=("b",)).message


def test_a_mistake_in_another_run_does_not_stop_the_one_that_is_wanted(load: Load) -> None:
    text = "name: s\nbase: base.yaml\nruns: {good: {}, bad: {encoder: {name: mff}}}\n"
    assert keys(load(text, only=("good",))) == ["good"]
    assert "unknown encoder 'mff'" in refused(load, text, only=("bad",)).message
    assert refused(load, text).path == "runs.bad.encoder.name"


def test_only_and_seeds_are_for_suites(load: Load, full: str) -> None:
    assert "is one spec, not a suite" in refused(load, full, only=("mf",)).message
    problem = refused(load, full, "seeds=[0, 1]")
    assert (problem.file, problem.path) == ("--set", "seeds")
    assert "set `seed`, or write a suite with `base: high.yaml`" in problem.message


def test_seeds_from_the_command_line_replace_those_of_the_file(load: Load) -> None:
    assert {run.seed for run in load(None, "seeds=[4, 2]").runs} == {4, 2}
    assert keys(load(None, "seeds=[4]"))[0] == "mf-max_items5"
    assert [run.seed for run in load(None, "seeds=null", "seed=9").runs] == [9] * 6
    assert keys(load("name: s\nbase: base.yaml\n", "seeds=[0, 1]")) == ["demo-seed0", "demo-seed1"]


@pytest.mark.parametrize(
    ("override", "path", "said"),
    [
        ("seeds=3", "seeds", "got the number 3, must be a list of whole numbers"),
        ("seeds=[a]", "seeds[0]", "must be a whole number"),
        ("seeds=[1, 1]", "seeds[1]", "is given twice"),
        ("exclude=[mf]", "exclude", "`seeds` alone can be set here"),
        ("runs.mf=null", "runs", "`seeds` alone can be set here"),
        ("seed=3", "seed", "changes nothing, because this suite has `seeds`"),
    ],
)
def test_what_cannot_be_set_of_a_suite(load: Load, override: str, path: str, said: str) -> None:
    problem = refused(load, None, override)
    assert (problem.file, problem.path) == ("--set", path)
    assert said in problem.message


HIGH = """\
name: high
base: low.yaml
runs:
  mf: {encoder.embedding_size: 16}
  big: {backbone: {name: large}}
seeds: [7]
exclude: [{run: text-only}]
"""


def test_a_suite_on_a_suite_adds_runs_and_replaces_sections(load: Load) -> None:
    suite = load(HIGH)
    assert keys(suite) == [f"{run}-max_items{n}" for run in ("mf", "collm", "big") for n in (5, 6)]
    mf, collm, big = (run.spec for run in suite.runs if run.key.endswith("6"))
    assert (mf.name, mf.seed, mf.backbone) == ("high-mf-max_items6", 7, None)
    assert (mf.plain()["encoder"]["embedding_size"], mf.plain()["encoder"]["fit"]["epochs"]) == (16, 3)
    assert collm.plain()["encoder"]["embedding_size"] == 8
    assert big.backbone is not None
    assert big.backbone.name == "large"
    assert [each.members for each in suite.ensembles] == [
        ("mf-max_items5", "collm-max_items5"),
        ("mf-max_items6", "collm-max_items6"),
    ]
    assert keys(load(HIGH + "matrix: null\nensembles: {new: [big, mf]}\n")) == ["mf", "collm", "big"]
    assert load(HIGH + "ensembles: null\n").ensembles == ()


def test_a_component_renamed_above_keeps_nothing_of_the_one_below(load: Load) -> None:
    text = "name: s\nbase: low.yaml\nruns: {mf: {encoder: {name: text-din, text_backbone: {name: tiny}}}}\n"
    spec = load(text, only=("mf-max_items5-seed0",)).runs[0].spec
    assert spec.backbone is None
    assert spec.plain()["encoder"]["fit"]["epochs"] == 20
    budget = load(text, "encoder.fit.epochs=2", only=("mf-max_items5-seed0",)).runs[0].spec
    assert budget.plain()["encoder"]["fit"]["epochs"] == 2


def test_suites_stack_and_tell_where_they_are_wrong(load: Load, write: Callable[..., Path]) -> None:
    write(HIGH, "specs/middle.yaml")
    top = "name: top\nbase: middle.yaml\nruns: {top: {encoder.embedding_size: 3}}\n"
    assert keys(load(top, only=("top", "mf"))) == [f"{run}-max_items{n}" for run in ("mf", "top") for n in (5, 6)]
    problem = refused(load, top.replace("3}", "x}"))
    assert (problem.path, problem.line) == ("runs.top.encoder.embedding_size", 3)
    write(LOW.replace("3}", "x}"), "specs/low.yaml")
    problem = refused(load, top)
    assert problem.file.endswith("low.yaml")
    assert (problem.path, problem.line) == ("runs.mf.encoder.fit.epochs", 4)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("name: s\nbase: high.yaml\n", "base", "leads back to itself"),
        ("name: s\nbase: around.yaml\n", "base", "leads back to itself"),
        ("name: s\nbase: low.yaml\nruns: {mf: null}\n", "runs.mf", "write `exclude: [{run: mf}]`"),
        ("name: s\nbase: low.yaml\nmatrix: null\nseeds: null\nexclude: [fm]\n", "exclude[0]", "matches no run"),
        ("name: s\nbase: study.yaml\n", "base", "it is a study file"),
        ("name: s\nbase: list.yaml\n", "base", "it holds a list"),
    ],
)
def test_bases_that_are_refused(load: Load, write: Callable[..., Path], text: str, path: str, said: str) -> None:
    write("name: around\nbase: high.yaml\n", "specs/around.yaml")
    write("name: st\nbase: base.yaml\nstudy: {}\n", "specs/study.yaml")
    write("[1]\n", "specs/list.yaml")
    problem = refused(load, text)
    assert problem.path == path
    assert said in problem.message
