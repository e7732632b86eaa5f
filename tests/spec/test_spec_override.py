from __future__ import annotations

from pathlib import Path

import pytest

from collm.errors import SpecError
from collm.spec.node import Place
from collm.spec.override import apply_overrides, merge
from collm.spec.read import read_text

CWD = Path("/somewhere")


def tree(text: str):
    return read_text(text, Place("a.yaml"))


def changed(text: str, *overrides: str):
    return apply_overrides(tree(text), overrides, cwd=CWD).plain()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("a.b=2", {"a": {"b": 2}}),
        ("a.b=1e-3", {"a": {"b": 1e-3}}),
        ("a.c.d=x", {"a": {"b": 1, "c": {"d": "x"}}}),
        ("a={name: din}", {"a": {"name": "din"}}),
        ("a=null", {"a": None}),
        ("n.b=[1, 2]", {"a": {"b": 1}, "n": {"b": [1, 2]}}),
        ('a.b=""', {"a": {"b": ""}}),
        ("a.b=x=y", {"a": {"b": "x=y"}}),
    ],
)
def test_values(override: str, value: object) -> None:
    assert changed("a: {b: 1}", override) == value


def test_later_wins_and_lists_are_indexed() -> None:
    assert changed("a: [x, y]", "a.1=z", "a.1=w") == {"a": ["x", "w"]}


def test_the_tree_is_not_changed_in_place() -> None:
    before = tree("a: {b: 1}")
    apply_overrides(before, ["a.b=2"], cwd=CWD)
    assert before.plain() == {"a": {"b": 1}}


def test_place_of_an_override() -> None:
    node = apply_overrides(tree("a: 1"), ["b.c={d: x}"], cwd=CWD).find(("b", "c", "d"))
    assert node is not None
    assert (node.place.file, node.place.line, node.place.folder, node.place.origin) == ("--set", None, CWD, "--set")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", r"--set: 'a\.b' has no '='"),
        ("=1", "is not a dotted path"),
        ("a..b=1", "is not a dotted path"),
        ("a.b=", "--set: a.b: has no value; write a.b=null"),
        ("a.b=[1", r"--set: a\.b: '\[1': is not valid YAML"),
        ("a.b=010", "leading zero"),
        ("a.b.c=1", r"--set: a\.b: is the number 1 and has no field 'c'"),
        ("l.7=1", r"--set: l: is a list of 2; name an item"),
        ("l.x=1", r"--set: l: is a list of 2; name an item"),
    ],
)
def test_refusals(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        changed("a: {b: 1}\nl: [1, 2]", override)


def test_all_bad_overrides_in_one_report() -> None:
    with pytest.raises(SpecError, match="has no '='") as caught:
        changed("a: 1", "x", "y", "a=1")
    assert len(caught.value.problems) == 2


def test_merge_is_deep_and_a_new_name_replaces() -> None:
    base = tree("e: {name: mf, size: 8, fit: {lr: 1, epochs: 2}}\nb: {name: tiny}")
    same = merge(base, tree("e: {fit: {lr: 3}}\nb: null"))
    assert same.plain() == {"e": {"name": "mf", "size": 8, "fit": {"lr": 3, "epochs": 2}}, "b": None}
    assert merge(base, tree("e: {name: din}")).plain()["e"] == {"name": "din"}
    assert merge(base, tree("e: {name: mf, size: 9}")).plain()["e"]["fit"] == {"lr": 1, "epochs": 2}
