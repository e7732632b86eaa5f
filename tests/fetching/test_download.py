"""Downloads from a server on this machine that cuts, damages, refuses and changes: a whole file or one clear error."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
from download_cases import CONTENT, MD5, PLACE, SHA256, Case, remote_set

from collm.errors import DataError
from collm.fetching.download import Patience
from collm.fetching.fetched import cached_paths, fetch_files, fetched_paths
from collm.fetching.remote_files import RemoteFile, size_text
from collm.testing.file_server import GOOD, Answer, FileServer


def test_a_file_is_fetched_once_with_a_record(
    case: Case, server: FileServer, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="collm")
    path = case.fetch(sha256=SHA256, size=len(CONTENT))
    assert path == case.context.cache_dir / "sets" / "x.bin" and path.read_bytes() == CONTENT
    assert sorted(case.files()) == ["x.bin", "x.bin.fetched.json"]
    assert json.loads(case.files()["x.bin.fetched.json"]) == {
        "published": "https://data.example/sets/x.bin",
        "fetched_from": f"{server.address}{PLACE}",
        "bytes": len(CONTENT),
        "sha256": SHA256,
        "md5": MD5,
        "compared_with": "published sha256",
    }
    assert "terms of use: cite the paper" in caplog.messages and "x.bin: has the published sha256" in caplog.messages
    assert case.fetch(sha256=SHA256) == path and len(server.requests) == 1 and waits == []


def test_cut_connections_are_resumed(case: Case, server: FileServer, waits: list[float]) -> None:
    server.answers.extend([Answer(cut_after=1_200_000), Answer(cut_after=300_000), Answer(status=503), GOOD])
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1200000-", "bytes=1500000-", "bytes=1500000-"]
    # The first connection brought more than a megabyte, so its cut does not count against the server.
    assert waits == [1, 2, 3]


def test_chunked_bodies_may_be_cut_too(case: Case, server: FileServer) -> None:
    server.answers.extend([Answer(chunked=True, cut_after=1000), Answer(chunked=True)])
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT


def test_the_next_command_goes_on(case: Case, server: FileServer, waits: list[float]) -> None:
    server.answers.extend([Answer(cut_after=1000), *[Answer(status=500)] * 3])
    with pytest.raises(
        DataError,
        match=r"cannot be downloaded: the server answers 500: .*; 1\.0 kB have arrived and are kept, so the same "
        r"command goes on from there; without network access, save https://data\.example/sets/x\.bin as .*sets/x\.bin,"
        r" and repeat 'collm fetch x', which checks",
    ):
        case.fetch(sha256=SHA256)
    assert waits == [1, 2, 3] and sorted(case.files()) == ["x.bin.part", "x.bin.part.json"]
    server.requests.clear()
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert server.requests == [(PLACE, "bytes=1000-")]
    assert sorted(case.files()) == ["x.bin", "x.bin.fetched.json"]


def test_an_interrupt_keeps_what_has_arrived(case: Case, server: FileServer) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    patient, case.patience = case.patience, Patience(pauses_s=(1,), sleep=interrupt)
    server.answers.append(Answer(cut_after=2_000_000))
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        case.fetch(sha256=SHA256)
    assert case.files()["x.bin.part"] == CONTENT[:2_000_000]
    case.patience = patient
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert server.requests[-1] == (PLACE, "bytes=2000000-")


def test_an_interrupt_in_the_middle_of_the_bytes(
    case: Case, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def pressed(name: str) -> Iterator[Callable[[int, int | None], None]]:
        def progress(done: int, total: int | None) -> None:
            if done > 1_000_000:
                raise KeyboardInterrupt

        yield progress

    with monkeypatch.context() as patch:
        patch.setattr("collm.fetching.download.shown_progress", pressed)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            case.fetch(sha256=SHA256)
    arrived = len(case.files()["x.bin.part"])
    assert 1_000_000 < arrived < len(CONTENT)
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert server.requests[-1] == (PLACE, f"bytes={arrived}-")


def test_a_server_without_ranges_starts_again(case: Case, server: FileServer) -> None:
    server.answers.extend([Answer(cut_after=2_000_000), Answer(no_ranges=True)])
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_changes_meanwhile_starts_again(case: Case, server: FileServer) -> None:
    server.answers.extend([Answer(cut_after=2_000_000), *[Answer(status=503)] * 3])
    with pytest.raises(DataError, match="answers 503"):
        case.fetch()
    server.files[PLACE] = other = CONTENT[::-1]
    assert case.fetch().read_bytes() == other


def test_a_server_that_ignores_the_condition_is_found_out(case: Case, server: FileServer) -> None:
    """The part comes with another version's tag, or begins elsewhere: no bytes of it are taken."""
    total = len(CONTENT)
    for answer in (
        Answer(headers={"ETag": '"other"'}, as_part=f"bytes 1000-{total - 1}/{total}"),
        Answer(as_part=f"bytes 500-{total - 1}/{total}"),
        Answer(as_part="nonsense"),
    ):
        server.answers.extend([Answer(cut_after=1000), answer])
        assert case.fetch().read_bytes() == CONTENT
        shutil.rmtree(case.context.cache_dir)


def test_a_file_that_became_shorter(case: Case, server: FileServer) -> None:
    server.answers.extend([Answer(cut_after=2_000_000), Answer(status=416), GOOD])
    assert case.fetch().read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=2000000-", None]


def test_without_tags_nothing_is_resumed(case: Case, server: FileServer) -> None:
    server.validators = False
    server.answers.extend([Answer(cut_after=2_000_000), GOOD])
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, None]


def test_parts_of_another_address_or_without_a_note_are_not_used(case: Case, server: FileServer) -> None:
    folder = case.context.cache_dir / "sets"
    folder.mkdir(parents=True)
    (folder / "x.bin.part").write_bytes(b"who knows")
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "x.bin.part").write_bytes(b"elsewhere")
    note = {"url": "https://elsewhere/x.bin", "size": len(CONTENT), "etag": '"1"', "modified": None}
    (folder / "x.bin.part.json").write_text(json.dumps(note))
    assert case.fetch(sha256=SHA256).read_bytes() == CONTENT
    assert {asked for _, asked in server.requests} == {None}


def test_a_file_put_there_by_hand_is_checked(case: Case, server: FileServer) -> None:
    path = cached_paths(remote_set("x.bin"), case.context)[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"wrong")
    with pytest.raises(DataError, match=r"x\.bin: not the published file: its sha256 .*; delete it and repeat 'collm"):
        case.fetch(sha256=SHA256)
    assert path.read_bytes() == b"wrong"
    path.write_bytes(CONTENT)
    assert case.fetch(sha256=SHA256) == path and server.requests == []
    assert json.loads(case.files()["x.bin.fetched.json"])["fetched_from"] == "put there by hand"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"has 2,999,999 bytes, 3,000,000 when it was fetched; delete it"):
        case.fetch(sha256=SHA256)
    path.with_name("x.bin.fetched.json").write_text("{}")
    with pytest.raises(DataError, match="not a record of a fetched file"):
        case.fetch(sha256=SHA256)


def test_two_at_once_download_once(case: Case, server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    """The second finds the lock taken, waits, and then finds the file."""
    caplog.set_level(logging.INFO, logger="collm")
    remote, first_waits, done = remote_set("x.bin", sha256=SHA256), threading.Event(), []
    waiting = threading.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process is fetching it" in record.getMessage():
                waiting.set()

    def pause(_: float) -> None:
        first_waits.set()
        assert waiting.wait(20)

    server.answers.append(Answer(cut_after=1000))
    slow = Patience(pauses_s=(1,), sleep=pause)
    handler = Seen()
    logging.getLogger("collm").addHandler(handler)
    try:
        threads = [threading.Thread(target=lambda: done.append(fetch_files(remote, case.context, patience=slow)))]
        threads[0].start()
        assert first_waits.wait(20)
        threads.append(threading.Thread(target=lambda: done.append(fetch_files(remote, case.context))))
        threads[1].start()
        for thread in threads:
            thread.join(20)
    finally:
        logging.getLogger("collm").removeHandler(handler)
    assert done == [cached_paths(remote, case.context)] * 2
    assert len(server.requests) == 2 and case.files()["x.bin"] == CONTENT


def test_what_is_not_fetched_names_the_command(case: Case) -> None:
    remote = remote_set("a", "b", size=1_500_000)
    words = r"^'x' needs a and b, not fetched yet: run 'collm fetch x' \(3\.0 MB from https://data\.example\), or look$"
    with pytest.raises(DataError, match=words):
        fetched_paths(remote, case.context, needed="'x' needs a and b", otherwise="look")
    for path in cached_paths(remote, case.context):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert fetched_paths(remote, case.context, needed="", otherwise="") == cached_paths(remote, case.context)


def test_addresses_and_sizes() -> None:
    file = RemoteFile("https://data.example/sets/x.bin")
    assert (file.name, file.address(None)) == ("x.bin", file.url)
    assert file.address("http://mirror/all/") == "http://mirror/all/data.example/sets/x.bin"
    assert [size_text(n) for n in (7, 1500, 5_917_549, 12_300_000_000)] == ["7 bytes", "1.5 kB", "5.9 MB", "12.3 GB"]
