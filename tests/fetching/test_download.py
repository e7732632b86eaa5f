"""Downloads from a server on this machine that cuts, damages, refuses and changes: a whole file or one clear error."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import logging
import random
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.download import Patience
from collm.fetching.fetched import cached_paths, fetch_files, fetched_paths
from collm.fetching.remote_files import RemoteFile, RemoteSet, size_text
from collm.testing.file_server import GOOD, Answer, FileServer

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
PLACE = "/data.example/sets/x.bin"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({PLACE: CONTENT}) as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


class Case:
    """One file, a cache and a patience that writes down its waits instead of waiting."""

    def __init__(self, server: FileServer, tmp_path: Path, waits: list[float]) -> None:
        self.context = BuildContext(tmp_path / "cache", mirror=server.address)
        self.patience = Patience(pauses_s=(1, 2, 3), timeout_s=5, sleep=waits.append)

    def fetch(self, name: str = "x.bin", **published: Any) -> Path:
        return fetch_files(remote_set(name, **published), self.context, patience=self.patience)[0]

    def files(self) -> dict[str, bytes]:
        found = (self.context.cache_dir / "sets").glob("[!.]*")
        return {path.name: path.read_bytes() for path in found}


def remote_set(*names: str, **published: Any) -> RemoteSet:
    files = tuple(RemoteFile(f"https://data.example/sets/{name}", **published) for name in names)
    return RemoteSet(folder="sets", command="collm fetch x", files=files, licence="cite the paper")


@pytest.fixture
def case(server: FileServer, tmp_path: Path, waits: list[float]) -> Case:
    return Case(server, tmp_path, waits)


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


@pytest.mark.parametrize("published", [{"sha256": SHA256}, {"md5": MD5}], ids=["sha256", "md5"])
def test_damaged_bytes_are_downloaded_once_more(case: Case, server: FileServer, published: dict[str, str]) -> None:
    server.answers.append(Answer(damage=True))
    assert case.fetch(**published).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_bytes_that_are_damaged_each_time(case: Case, server: FileServer) -> None:
    server.answers.extend([Answer(damage=True), Answer(damage=True)])
    with pytest.raises(DataError, match=rf"not usable: its sha256 is .*, published is {SHA256}; twice the same bytes"):
        case.fetch(sha256=SHA256)
    server.answers.extend([Answer(damage=True), Answer(cut_after=500, damage=True), GOOD])
    with pytest.raises(DataError, match=r"its md5 is .*; other bytes arrived each time, so .*Nothing was kept"):
        case.fetch(md5=MD5)
    assert case.files() == {}


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_archives_without_a_published_hash_are_checked_by_their_own_sums(
    case: Case, server: FileServer, suffix: str
) -> None:
    place, sound = f"/data.example/sets/x{suffix}", packed(suffix)
    server.files[place] = damaged = sound[:2000] + b"\0\1\2" + sound[2003:]
    with pytest.raises(DataError, match=r"not usable: (it is not a sound|its member 'x' is damaged)"):
        case.fetch(f"x{suffix}")
    assert case.files() == {} and damaged != sound
    server.files[place] = b"<html>please log in</html>"
    with pytest.raises(DataError, match=rf"it is not a sound {suffix[1:]} file .*twice the same bytes"):
        case.fetch(f"x{suffix}")
    server.files[place] = sound
    assert case.fetch(f"x{suffix}").read_bytes() == sound


def packed(suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(CONTENT[:10_000])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", CONTENT[:10_000])
    return stream.getvalue()


def test_the_first_download_is_recorded_and_compared_with(
    case: Case, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="collm")
    path = case.fetch()
    assert f"x.bin: no hash is published; sha256 of this first download is {SHA256}" in caplog.messages
    assert json.loads(case.files()["x.bin.fetched.json"])["compared_with"] == "first download"
    path.unlink()
    server.files[PLACE] = CONTENT[::-1]
    with pytest.raises(DataError, match=r"published is .*compared with the first download, as .*fetched\.json records"):
        case.fetch()
    path.with_name("x.bin.fetched.json").unlink()
    assert case.fetch().read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("answer", "words", "n_requests"),
    [
        (Answer(status=404), "the server answers 404: there is no such file", 1),
        (Answer(status=403), "the server answers 403: it refuses access", 1),
        (Answer(status=500), "the server answers 500: Internal Server Error", 4),
        (Answer(status=429), "the server answers 429: Too Many Requests", 4),
        (Answer(status=429, headers={"Retry-After": "9999"}), "answers 429", 1),
        (
            Answer(status=302, headers={"Location": "ftp://data.example/x"}),
            "redirects to ftp://.* not safe",
            1,
        ),
        (Answer(no_length=True), "sent no Content-Length, so a cut download could not be detected", 1),
        (Answer(cut_after=0), "the connection ended after 0 of 3,000,000 bytes", 4),
    ],
)
def test_every_answer_ends_in_one_clear_error(
    case: Case, server: FileServer, answer: Answer, words: str, n_requests: int
) -> None:
    server.answers.extend([answer] * 9)
    with pytest.raises(DataError, match=f"x.bin: cannot be downloaded: .*{words}.*; without network access"):
        case.fetch(sha256=SHA256)
    assert len(server.requests) == n_requests
    assert "x.bin" not in case.files()


def test_a_server_says_how_long_to_wait(case: Case, server: FileServer, waits: list[float]) -> None:
    server.answers.extend([Answer(status=429, headers={"Retry-After": "20"})])
    server.answers.extend([Answer(status=503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"})])
    server.answers.extend([Answer(status=503, headers={"Retry-After": "soon"})])
    assert case.fetch().read_bytes() == CONTENT
    assert waits == [20, 2, 3]


def test_a_silent_server_is_left(case: Case, server: FileServer, waits: list[float]) -> None:
    case.patience = Patience(pauses_s=(1,), timeout_s=0.05, sleep=waits.append)
    server.answers.extend([Answer(silent=True, cut_after=5000), GOOD])
    assert case.fetch().read_bytes() == CONTENT and waits == [1]
    assert server.requests[-1] == (PLACE, "bytes=5000-")
    shutil.rmtree(case.context.cache_dir)
    server.answers.extend([Answer(silent=True)] * 2)
    with pytest.raises(DataError, match=r"the server sends nothing any more \(timeout\)"):
        case.fetch()


def test_another_size_is_refused_before_it_is_downloaded(case: Case, server: FileServer) -> None:
    with pytest.raises(DataError, match="offers 3,000,000 bytes, the published file has 12: an error page"):
        case.fetch(size=12)
    assert len(server.requests) == 1 and case.files() == {}
    server.answers.append(Answer(chunked=True))
    with pytest.raises(DataError, match="the server sends more than the 12 bytes that the file has: an error page"):
        case.fetch(size=12)
    assert len(server.requests) == 2 and case.files() == {}


def test_without_network_a_user_is_told_at_once(tmp_path: Path, waits: list[float]) -> None:
    with FileServer({}) as gone:
        address = gone.address
    context = BuildContext(tmp_path, mirror=address)
    with pytest.raises(
        DataError,
        match=r"no connection: Connection refused; without network access, save https://data\.example/sets/a as "
        r".*sets/a and https://data\.example/sets/b as .*sets/b, and repeat 'collm fetch x'",
    ):
        fetch_files(remote_set("a", "b"), context, patience=Patience(sleep=waits.append))
    bad = BuildContext(tmp_path, mirror="http://[::bad")
    with pytest.raises(DataError, match="the address cannot be used"):
        fetch_files(remote_set("a"), bad, patience=Patience(sleep=waits.append))
    assert waits == []


def test_a_full_disk(case: Case, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr("collm.fetching.http_transfer.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"x\.bin: 3\.0 MB are still to be downloaded and 1\.0 kB are free there; free"):
        case.fetch(size=len(CONTENT))
    assert server.requests == []
    with pytest.raises(DataError, match="set COLLM_CACHE to a folder on another disk"):
        case.fetch()
    assert "x.bin" not in case.files()


def test_a_disk_that_fills_up_meanwhile(case: Case, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Path.open

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "open", lambda path, mode="r", **more: Full() if mode == "ab" else usual(path, mode, **more)
        )
        with pytest.raises(DataError, match=r"part: cannot be written \(No space left on device\); free some space"):
            case.fetch()
    assert case.fetch().read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    context = BuildContext(tmp_path / "file", mirror=server.address)
    with pytest.raises(DataError, match=r"cannot be written .*set COLLM_CACHE to another"):
        fetch_files(remote_set("x.bin"), context)


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
