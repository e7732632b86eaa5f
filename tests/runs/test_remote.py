"""A directory of runs in a store: what is finished is put and got whole, and nothing else exists."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from small_results import RESULTS

from collm.errors import RunError, UsageError
from collm.runs import remote as remote_module
from collm.runs.files import DONE, LOCK
from collm.runs.objects import Objects
from collm.runs.records import RunResults
from collm.runs.remote import MARK, Remote, mirror_of, place_of, remote_of
from collm.runs.store import RunFolder, StageStore
from collm.runs.usage import run_folders

_numbers = itertools.count()


@pytest.fixture
def address() -> Iterator[str]:
    """An address in this process's memory that no other test uses."""
    place = f"memory://store-{next(_numbers)}/runs"
    yield place
    system = fsspec.filesystem("memory")
    if system.exists(place):
        system.rm(place, recursive=True)


def machine(tmp_path: Path, name: str, address: str) -> Path:
    """Returns the mirror of a machine with a cache of its own."""
    return mirror_of(address, tmp_path / name)


def finish_stage(mirror: Path, content: str = "weights", digest: str = "f00") -> Path:
    store = StageStore(mirror)
    with store.claim("tune_1", digest) as folder:
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "weights").write_text(content)
        (folder / "stage.json").write_text("{}")
    return folder


def finish_run(mirror: Path, auc: float = 0.7) -> RunFolder:
    folder = RunFolder(mirror, "n", "abc")
    results = json.loads(json.dumps(RESULTS))
    results["metrics"]["test"]["all"]["auc"]["value"] = auc
    with folder.lock():
        folder.replace({"name": "n"}, RunResults.check(results, place="results.json"), {})
        folder.append_event("run_finished")
        folder.write_done()
    return folder


def stored(address: str) -> list[str]:
    """Returns the keys of all objects below an address."""
    system = fsspec.filesystem("memory")
    root = address.removeprefix("memory:/")
    return sorted(name.removeprefix(f"{root}/") for name in system.find(root))


def objects_of(mirror: Path) -> Objects:
    found = remote_of(mirror)
    assert found is not None
    return found.objects


def test_a_stage_of_one_machine_is_finished_on_the_other(tmp_path: Path, address: str) -> None:
    first, second = machine(tmp_path, "a", address), machine(tmp_path, "b", address)
    assert not StageStore(second).is_done("tune_1", "f00")
    finish_stage(first)
    assert StageStore(second).is_done("tune_1", "f00")
    folder = StageStore(second).folder("tune_1", "f00")
    assert (folder / "deep" / "weights").read_text() == "weights"
    assert sorted(path.name for path in folder.iterdir()) == ["deep", DONE, "stage.json"]
    assert not list(second.glob(".getting/*"))
    assert not [key for key in stored(address) if key.endswith(LOCK)]


def test_a_run_of_one_machine_is_listed_on_the_other(tmp_path: Path, address: str) -> None:
    made = finish_run(machine(tmp_path, "a", address))
    second = machine(tmp_path, "b", address)
    (found,) = run_folders(second)
    assert found == second / "n-abc"
    assert RunFolder.at(found).results().plain() == made.results().plain()
    assert (found / DONE).read_bytes() == (made.path / DONE).read_bytes()


def test_a_run_that_was_made_anew_replaces_the_copy(tmp_path: Path, address: str) -> None:
    first, second = machine(tmp_path, "a", address), machine(tmp_path, "b", address)
    finish_run(first, 0.7)
    assert RunFolder(second, "n", "abc").is_done()
    finish_run(first, 0.8)
    folder = RunFolder(second, "n", "abc")
    assert folder.is_done()
    assert folder.results().plain()["metrics"]["test"]["all"]["auc"]["value"] == 0.8
    assert folder.damage() == ""


class Broken:
    """The objects of a store whose connection breaks after some files."""

    def __init__(self, objects: Objects, n_files: int, error: type[BaseException] = RunError) -> None:
        self._objects, self._left, self._error = objects, n_files, error

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    def put_file(self, key: str, path: Path) -> None:
        self._count()
        self._objects.put_file(key, path)

    def get_file(self, key: str, path: Path) -> None:
        self._count()
        self._objects.get_file(key, path)

    def _count(self) -> None:
        if self._left == 0:
            raise self._error("the connection broke")
        self._left -= 1


def break_after(monkeypatch: pytest.MonkeyPatch, mirror: Path, n: int, error: type[BaseException] = RunError) -> None:
    found = remote_of(mirror)
    assert found is not None
    monkeypatch.setattr(found, "_opened", Broken(found.objects, n, error))


@pytest.mark.parametrize("n_files", [0, 1, 2])
@pytest.mark.parametrize("error", [RunError, KeyboardInterrupt])
def test_half_a_put_is_nothing_and_the_next_command_puts_it(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, n_files: int, error: type[BaseException]
) -> None:
    first, second = machine(tmp_path, "a", address), machine(tmp_path, "b", address)
    with monkeypatch.context() as patched:
        break_after(patched, first, n_files, error)
        with pytest.raises(error, match="the connection broke"):
            finish_stage(first)
    assert not StageStore(first).is_done("tune_1", "f00")
    assert not StageStore(second).is_done("tune_1", "f00")
    with StageStore(first).claim("tune_1", "f00"):
        # Put under the lock, without any work.
        assert StageStore(first).is_done("tune_1", "f00")
    assert StageStore(second).is_done("tune_1", "f00")


@pytest.mark.parametrize("n_files", [0, 1, 2])
def test_half_a_get_is_nothing(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, n_files: int) -> None:
    finish_stage(machine(tmp_path, "a", address))
    second = machine(tmp_path, "b", address)
    with monkeypatch.context() as patched:
        break_after(patched, second, n_files)
        with pytest.raises(RunError, match="the connection broke"):
            StageStore(second).is_done("tune_1", "f00")
    assert not (StageStore(second).folder("tune_1", "f00") / DONE).exists()
    assert not list(second.glob(".getting/*"))
    assert StageStore(second).is_done("tune_1", "f00")


@pytest.mark.parametrize("damaged", [b"weightz", b"", b"weights and more"])
def test_a_damaged_object_is_refused_and_made_anew(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    finish_stage(machine(tmp_path, "a", address))
    (key,) = [each for each in stored(address) if each.endswith("weights")]
    fsspec.filesystem("memory").pipe_file(f"{address}/{key}", damaged)
    second, third = machine(tmp_path, "b", address), machine(tmp_path, "c", address)
    with caplog.at_level(logging.WARNING):
        assert not StageStore(second).is_done("tune_1", "f00")
    assert f"{address}/stages/tune_1-f00: damaged in the store: deep/weights: damaged:" in caplog.text
    finish_stage(second, "other weights")
    assert StageStore(third).is_done("tune_1", "f00")
    assert (StageStore(third).folder("tune_1", "f00") / "deep" / "weights").read_text() == "other weights"


@pytest.mark.parametrize(
    "content", [b"", b"2026-11-29T10:00:00Z\n", b"2026-11-29T10:00:00Z files sha256 " + b"0" * 64 + b"\n{}"]
)
def test_a_damaged_list_is_no_stage(tmp_path: Path, address: str, content: bytes) -> None:
    finish_stage(machine(tmp_path, "a", address))
    fsspec.filesystem("memory").pipe_file(f"{address}/stages/tune_1-f00/{DONE}", content)
    assert not StageStore(machine(tmp_path, "b", address)).is_done("tune_1", "f00")


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a/../../b", "..\\escape"])
def test_names_cannot_leave_the_folder(tmp_path: Path, address: str, name: str) -> None:
    listed = {DONE: remote_module.FileFacts(1, "0" * 64), name: remote_module.FileFacts(1, "0" * 64)}
    text = remote_module.list_text(listed)
    fsspec.filesystem("memory").pipe_file(f"{address}/stages/tune_1-f00/{DONE}", text.encode())
    assert not StageStore(machine(tmp_path, "b", address)).is_done("tune_1", "f00")
    assert not (tmp_path / "escape").exists()


def test_what_a_killed_get_left_goes(tmp_path: Path, address: str) -> None:
    finish_run(machine(tmp_path, "a", address))
    second = machine(tmp_path, "b", address)
    for left in (f"{2**22 + 1}-dead", f"{os.getpid()}-alive"):
        (second / ".getting" / left).mkdir(parents=True)
        (second / ".getting" / left / "events.jsonl").write_text("")
    assert [path.name for path in run_folders(second)] == ["n-abc"]
    assert [path.name for path in (second / ".getting").iterdir()] == [f"{os.getpid()}-alive"]


def test_a_damaged_copy_is_got_again(tmp_path: Path, address: str) -> None:
    finish_stage(machine(tmp_path, "a", address))
    second = machine(tmp_path, "b", address)
    assert StageStore(second).is_done("tune_1", "f00")
    weights = StageStore(second).folder("tune_1", "f00") / "deep" / "weights"
    weights.write_text("weightz")
    assert StageStore(second).is_done("tune_1", "f00")
    assert weights.read_text() == "weights"


def test_an_interrupted_attempt_goes_where_another_machine_has_finished(tmp_path: Path, address: str) -> None:
    first, second = machine(tmp_path, "a", address), machine(tmp_path, "b", address)
    with pytest.raises(ValueError, match="killed"), StageStore(second).claim("tune_1", "f00") as folder:
        (folder / "checkpoint").write_text("half")
        raise ValueError("killed")
    finish_stage(first)
    with StageStore(second).claim("tune_1", "f00") as folder:
        assert StageStore(second).is_done("tune_1", "f00")
        assert sorted(path.name for path in folder.iterdir()) == ["deep", DONE, LOCK, "stage.json"]


def test_two_puts_of_one_stage_never_mix(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks, one machine puts its files while another one puts others: either is whole, whoever is last."""
    first, second, third = (machine(tmp_path, name, address) for name in "abc")
    monkeypatch.setattr(type(objects_of(first)), "conditional", lambda self: False)
    put_file = type(objects_of(first)).put_file
    started: list[str] = []

    def put_and_let_others(self: Objects, key: str, path: Path) -> None:
        put_file(self, key, path)
        if not started:
            started.append(key)
            finish_stage(second, "of the second")

    monkeypatch.setattr(type(objects_of(first)), "put_file", put_and_let_others)
    finish_stage(first, "of the first")
    assert StageStore(third).is_done("tune_1", "f00")
    assert (StageStore(third).folder("tune_1", "f00") / "deep" / "weights").read_text() == "of the first"


def test_a_store_without_conditional_writes_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = f"file://{tmp_path}/shared"
    first, second = machine(tmp_path, "a", place), machine(tmp_path, "b", place)
    with caplog.at_level(logging.WARNING):
        finish_stage(first)
        finish_stage(first, digest="f01")
    assert caplog.text.count("the store has no conditional writes, so no locks") == 1
    assert StageStore(second).is_done("tune_1", "f00")
    assert [path.name for path in run_folders(second)] == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://key:secret@bucket/runs", "may not hold a user's password or key"),
        ("s3://AKIA123@bucket/runs", "may not hold a user's password or key"),
        ("az://container/runs?sig=hidden", "may not hold a user's password or key"),
        ("https://host/runs", "cannot be written to https://"),
        ("s3://", "names no place"),
        ("s4://bucket/runs", "'s4://' is not known"),
    ],
)
def test_addresses_that_cannot_be_used(tmp_path: Path, address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        mirror_of(address, tmp_path)
    assert not {"secret", "AKIA123", "hidden"} & set(str(raised.value).replace(":", " ").replace("@", " ").split())
    assert "hidden" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package obstore: pip install 'collm\[cloud\]'"):
        mirror_of("s3://bucket/runs", tmp_path)


def test_mirrors_are_of_one_store_and_server(tmp_path: Path) -> None:
    found = {
        mirror_of("s3://bucket/runs", tmp_path),
        mirror_of("S3://bucket/runs/", tmp_path),
        mirror_of("s3://bucket/other", tmp_path),
        mirror_of("s3://bucket/runs", tmp_path, "http://localhost:9000"),
    }
    assert len(found) == 3
    mirror = mirror_of("s3://bucket/runs", tmp_path)
    assert json.loads((mirror / MARK).read_text())["address"] == place_of(mirror) == "s3://bucket/runs"
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL: holds a user or password"):
        mirror_of("s3://bucket/runs", tmp_path, "http://user:password@localhost:9000")
    assert place_of(tmp_path) == str(tmp_path)


def test_a_damaged_mark_is_an_error(tmp_path: Path) -> None:
    mirror = mirror_of("s3://bucket/damaged", tmp_path)
    (mirror / MARK).write_text("{")
    with pytest.raises(RunError, match="damaged; delete"):
        remote_of(mirror)
    assert isinstance(remote_of(mirror_of("s3://bucket/whole", tmp_path)), Remote)
