"""A finished folder knows its files: whatever becomes of one of them is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.errors import RunError
from collm.runs import files
from collm.runs.files import damage, finish_folder, listed_files, remove_contents, replacing_together, require_whole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "scores").write_bytes(b"0123456789" * 10)
    (tmp_path / "deep" / "weights").write_bytes(b"w" * 50)
    (tmp_path / "events.jsonl").write_bytes(b"one\n")
    (tmp_path / "lock").write_bytes(b"held")
    (tmp_path / ".x.1-2.tmp").write_bytes(b"half")
    finish_folder(tmp_path)
    return tmp_path


def test_files_are_listed_and_whole(folder: Path) -> None:
    listed = listed_files(folder)
    assert listed is not None
    assert {name: facts.size for name, facts in listed.items()} == {
        "deep/weights": 50, "events.jsonl": 4, "scores": 100,
    }  # fmt: skip
    assert damage(folder) == ""
    require_whole(folder, advice="nothing")


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), name=st.sampled_from(["scores", "deep/weights", "done"]))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, name: str) -> None:
    folder = tmp_path_factory.mktemp("flip")
    (folder / "deep").mkdir()
    (folder / "scores").write_bytes(b"0123456789" * 10)
    (folder / "deep" / "weights").write_bytes(b"w" * 50)
    finish_folder(folder)
    content = bytearray((folder / name).read_bytes())
    # The first line of `done` is the time, and the digest of the lines below.
    start = content.index(b"\n") + 1 if name == "done" else 0
    content[start + place % (len(content) - start)] ^= 1 << bit
    (folder / name).write_bytes(content)
    assert damage(folder) == f"{folder / name}: damaged: its contents are not those that were written"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("scores", lambda path: path.unlink(), "scores: missing"),
        ("scores", lambda path: path.write_bytes(b""), "scores: damaged: 0 bytes, 100 were written"),
        ("scores", lambda path: path.write_bytes(b"0123456789" * 10 + b"1"), "damaged: 101 bytes, 100 were written"),
        ("deep/weights", lambda path: path.write_bytes(b"w" * 49), "weights: damaged: 49 bytes, 50 were written"),
        ("events.jsonl", lambda path: path.write_bytes(b"On"), "events.jsonl: damaged: 2 bytes, 4 were written"),
        ("events.jsonl", lambda path: path.write_bytes(b"onE\nmore"), "events.jsonl: damaged: its contents"),
        ("done", lambda path: path.write_bytes(path.read_bytes()[:100]), "done: damaged"),
        ("done", lambda path: path.write_bytes(path.read_bytes()[:-1]), "done: damaged"),
    ],
)
def test_other_damage_is_found(folder: Path, name: str, change: Callable[[Path], object], said: str) -> None:
    change(folder / name)
    assert said in damage(folder)
    with pytest.raises(RunError, match="; repeat it"):
        require_whole(folder, advice="repeat it")


def test_a_log_may_grow(folder: Path) -> None:
    with (folder / "events.jsonl").open("ab") as stream:
        stream.write(b"two\n")
    assert damage(folder) == ""


def test_sizes_are_looked_at_even_where_contents_are_not(folder: Path) -> None:
    (folder / "scores").write_bytes(b"x" * 100)
    assert damage(folder, ("deep/weights",)) == ""
    (folder / "scores").write_bytes(b"x" * 99)
    assert "99 bytes" in damage(folder, ("deep/weights",))


@pytest.mark.parametrize("done", ["2026-01-01T00:00:00Z\n", "", "now\n"])
def test_a_folder_of_an_earlier_version_has_no_list(tmp_path: Path, done: str) -> None:
    (tmp_path / "scores").write_bytes(b"x")
    (tmp_path / "done").write_text(done)
    assert listed_files(tmp_path) is None
    assert damage(tmp_path) == ""


def test_clearing_leaves_the_lock(folder: Path) -> None:
    remove_contents(folder)
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_finished_folder_stays_until_the_new_files_are_whole(folder: Path) -> None:
    with pytest.raises(ValueError, match="half"), replacing_together(folder, ("scores",)) as paths:
        paths["scores"].write_bytes(b"new")
        raise ValueError("half")
    assert damage(folder) == "" and (folder / "scores").read_bytes() == b"0123456789" * 10
    with replacing_together(folder, ("scores", "never written")) as paths:
        paths["scores"].write_bytes(b"new")
        assert (folder / "done").exists()
    assert (folder / "scores").read_bytes() == b"new"
    assert not (folder / "done").exists()
    finish_folder(folder)
    assert damage(folder) == ""


def test_every_file_is_on_disk_before_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync", lambda path: synced.append(path.name))
    monkeypatch.setattr(files, "write_atomically", lambda path, _: synced.append(f"written {path.name}"))
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    finish_folder(tmp_path)
    assert synced == ["a", "b", "written done"]
