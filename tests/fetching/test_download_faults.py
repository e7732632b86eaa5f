"""Downloads: damaged bytes, servers that answer otherwise, full disks."""

from __future__ import annotations

import gzip
import io
import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from download_cases import CONTENT, MD5, PLACE, SHA256, Case, remote_set

from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.download import Patience
from collm.fetching.fetched import fetch_files
from collm.testing.file_server import GOOD, Answer, FileServer


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
