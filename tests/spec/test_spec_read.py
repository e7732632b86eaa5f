from __future__ import annotations

from pathlib import Path

import pytest

from collm.errors import Problem, SpecError
from collm.spec.node import Place
from collm.spec.read import read_file, read_text

PLACE = Place("a.yaml")


def plain(text: str):
    return read_text(text, PLACE).plain()


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError, match=r"a\.yaml") as caught:
        read_text(text, PLACE)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("0x1F", 31),
        ("0o10", 8),
        ("Yes", True),
        ("off", False),
        ("~", None),
        ("2001-06-01", "2001-06-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ('"Yes"', "Yes"),
        ("'010'", "010"),
        ("ml-1m", "ml-1m"),
        ("=", "="),
        ("a: [1, {b: 2}]", {"a": [1, {"b": 2}]}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)
def test_scalars(text: str, value: object) -> None:
    got = plain(text)
    assert got == value
    assert type(got) is type(value)


def test_every_key_and_value_knows_its_place() -> None:
    node = read_text("a: 1\nb:\n  - x\n  - {c: 2}\n", PLACE)
    c = node.find(("b", 1, "c"))
    assert c is not None
    assert (c.place.line, c.place.column) == (4, 9)
    assert c.key_place is not None
    assert (c.key_place.line, c.key_place.column) == (4, 6)
    assert str(c.where.problem("bad", "b[1].c")) == "a.yaml:4:6: b[1].c: bad"


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "the key 'a' is given twice; it is first given in line 1"),
        ("a: 010\n", 1, 4, 'write 10, or quote it ("010")'),
        ("a: 00\n", 1, 4, "leading zero"),
        ("a: 1e999\n", 1, 4, "not a finite number"),
        (
            "a: 1" + "0" * 400 + "\n",
            1,
            4,
            "'1000000000000000000000000000000000000000...' is not a finite number of a size",
        ),
        ("a: 0x" + "f" * 6000 + "\n", 1, 4, "is not a finite number of a size that can be used here"),
        ("a: 1" + "0" * 5000 + "\n", 1, 4, "is not a finite number of a size that can be used here"),
        ("a: -18446744073709551616\n", 1, 4, "is not a finite number of a size that can be used here"),
        ("Yes: 1\n", 1, 1, 'quote it ("Yes")'),
        ("1: 2\n", 1, 1, "YAML reads 1 as number"),
        ("? [a]\n: 1\n", 1, 3, "a key must be text"),
        ("a: !!python/object:os.system x\n", 1, 4, "tag 'python/object:os.system' is not allowed"),
        ("a: !mine {b: 1}\n", 1, 4, "tag '!mine' is not allowed"),
        ("a: !!set {b}\n", 1, 4, "tag 'set' is not allowed"),
        ("a: !!int abc\n", 1, 4, "'abc' is not a finite number"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", 2, 5, "merge keys"),
        ("a: &x [*x]\n", 1, 4, "refers to itself"),
        ("a:\n\tb: 1\n", 2, 1, "indent with spaces"),
        ("a: [1, 2\n", 2, 1, "not valid YAML"),
        ("a: b: c\n", 1, 5, "quote text"),
        ("a: 1\n---\nb: 2\n", 2, 1, "more than one YAML document"),
        ("a: *nobody\n", 1, 4, "undefined alias"),
        ("é: x\na: Does {user} like it? #Answer:\n", 2, 4, "YAML drops '#Answer:' behind these words as a comment"),
    ],
)
def test_located_refusals(text: str, line: int, column: int, part: str) -> None:
    found = problems(text)
    assert part in found[0].message
    assert (found[0].line, found[0].column) == (line, column)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: two words # a comment", "two words"),
        ("a: one #comment", "one"),
        ("a: 1 #comment", 1),
        ("a: 'two words' #comment", "two words"),
        ("a: Like it?#Answer # 1", "Like it?#Answer"),
    ],
)
def test_comments_stay_comments(text: str, value: object) -> None:
    assert read_text(text, Place("spec.yaml")).fields["a"].value == value


def test_all_problems_at_once() -> None:
    assert [problem.line for problem in problems("a: 010\nb: !x 1\na: 2\n")] == [1, 2, 3]


def test_many_aliases_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    assert "expands to more than" in problems("\n".join(lines))[0].message


def test_deep_nesting_is_an_error() -> None:
    assert "nested too deeply" in problems("[" * 700)[0].message


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_empty(text: str) -> None:
    if text == "---\n":
        assert plain(text) is None
    else:
        assert problems(text)[0].message == "is empty"


def test_control_character_is_located() -> None:
    assert problems("a: 1\nb: \x07\n")[0].line == 2


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "collm-mf.yaml").write_text("a: 1")
    with pytest.raises(SpecError, match=r"no such file; did you mean '.*collm-mf\.yaml'"):
        read_file(tmp_path / "colm-mf.yaml")
    with pytest.raises(SpecError, match=r"folder '.*' does not exist either"):
        read_file(tmp_path / "nowhere" / "x.yaml")


def test_folder_and_encoding(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        read_file(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(SpecError, match=r"latin\.yaml:2: is not UTF-8 text: byte 0xe9"):
        read_file(path)


def test_byte_order_mark_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    node = read_file(path, shown="bom.yaml")
    assert node.plain() == {"a": 1}
    assert node.place.file == "bom.yaml"
    assert node.place.folder == tmp_path
