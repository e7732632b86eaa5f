"""Addresses: which are refused, what lies at one, and copies that are kept by digest and asked for changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching import addresses
from collm.fetching.address_copies import AddressCopy, address_copy, has_copy
from collm.fetching.addresses import UnreachableError, address_fault, first_bytes, opened, remote_parts
from collm.fetching.download import Patience
from collm.testing.file_server import Answer, FileServer

NO_WAIT = Patience(sleep=lambda _: None)


@pytest.fixture
def context(tmp_path: Path) -> BuildContext:
    return BuildContext(cache_dir=tmp_path / "cache")


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def copied(address: str, context: BuildContext) -> AddressCopy:
    return address_copy(address, context, patience=NO_WAIT)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("https://host/a.csv", ""),
        ("https://host/record/1/files/a.csv?download=1", ""),
        ("hf://datasets/me/logs@main/a.parquet", ""),
        ("s3://bucket/logs/*.csv", ""),
        ("s3://bucket/logs/a?.csv", ""),
        ("https://me:pass@host/a.csv", "may not hold a user, password or key"),
        ("https://ghp_abc@host/a.csv", "may not hold a user, password or key"),
        ("s3://key:pass@bucket/a.csv", "may not hold a user, password or key"),
        ("https://host/a.csv?X-Amz-Signature=pass", "may not hold a user, password or key"),
        ("https://host/a.csv?b=1&access_token=pass", "may not hold a user, password or key"),
        ("https://account.blob.host/a.csv?sv=1&sig=pass", "may not hold a user, password or key"),
        ("ftp://host/a.csv", "addresses may begin with https://"),
        ("https:///a.csv", "names no server"),
        ("https://host", "names no file"),
        ("https://host/*.csv", "no list of its files"),
        ("https://[host/a.csv", "not an address"),
    ],
)
def test_faults_say_no_secret(address: str, fault: str) -> None:
    found = address_fault(address)
    assert (found is None) == (not fault)
    assert fault in (found or "")
    assert "pass@" not in (found or "")
    assert "=pass" not in (found or "")


def test_a_file_of_a_web_server_is_copied_once_and_a_change_is_noticed(
    context: BuildContext, caplog: pytest.LogCaptureFixture
) -> None:
    with FileServer({"/d/a.csv": b"user,item\n1,2\n"}) as server:
        address = f"{server.address}/d/a.csv"
        first = copied(address, context)
        assert first.path.name == "a.csv"
        assert first.path.read_bytes() == b"user,item\n1,2\n"
        digest = hashlib.sha256(b"user,item\n1,2\n").hexdigest()
        assert f"{address}: 14 bytes, sha256 {digest}" == first.said()
        whole = [asked for asked in server.requests if asked[1] is None]
        assert copied(address, context) == first
        assert [asked for asked in server.requests if asked[1] is None] == whole
        server.files["/d/a.csv"] = b"user,item\n1,3\n"
        caplog.clear()
        second = copied(address, context)
        assert second.path.read_bytes() == b"user,item\n1,3\n"
        assert first.path.read_bytes() == b"user,item\n1,2\n"
        assert "files changed since they were last copied: 1 changed" in caplog.text


def test_a_server_without_versions_is_asked_for_the_bytes_each_time(context: BuildContext) -> None:
    with FileServer({"/a.csv": b"1,2\n"}) as server:
        server.validators = False
        copied(f"{server.address}/a.csv", context)
        server.files["/a.csv"] = b"1,3\n"
        assert copied(f"{server.address}/a.csv", context).path.read_bytes() == b"1,3\n"


def test_without_a_connection_the_copy_is_used_and_that_is_said(
    context: BuildContext, caplog: pytest.LogCaptureFixture
) -> None:
    with FileServer({"/a.csv": b"1,2\n"}) as server:
        address = f"{server.address}/a.csv"
        assert not has_copy(address, context)
        path = copied(address, context).path
        server.answers.append(Answer(status=404))
        with pytest.raises(DataError, match="404: there is no such file"):
            copied(address, context)
    caplog.set_level(logging.WARNING)
    assert copied(address, context).path == path
    assert "whether it has changed is not known" in caplog.text
    (content,) = (context.cache_dir / "addresses" / "contents").iterdir()
    content.unlink()
    with pytest.raises(UnreachableError, match="no connection"):
        copied(address, context)


def test_a_cut_download_goes_on(context: BuildContext) -> None:
    content = bytes(range(256)) * 8000
    with FileServer({"/a.bin": content}) as server:
        server.answers += [Answer(), Answer(cut_after=1_500_000)]
        assert copied(f"{server.address}/a.bin", context).path.read_bytes() == content
        assert ("/a.bin", "bytes=1500000-") in server.requests


def test_first_bytes_are_not_the_whole_file() -> None:
    with FileServer({"/a.csv": b"user,item\n1,2\n", "/none.csv": b""}) as server:
        (part,) = remote_parts(f"{server.address}/a.csv")
        assert (part.name, part.size) == ("a.csv", 14)
        assert first_bytes(part, 6) == b"user,i"
        server.answers.append(Answer(no_ranges=True))
        assert remote_parts(f"{server.address}/a.csv") == (part,)
        assert first_bytes(remote_parts(f"{server.address}/none.csv")[0], 6) == b""


def test_folders_and_patterns_of_a_store(store: fsspec.AbstractFileSystem, context: BuildContext) -> None:
    for name in ("logs/day=1/a.csv", "logs/day=2/a.csv", "logs/_SUCCESS", "logs/notes.md"):
        store.pipe(f"/b/{name}", name.encode())
    folder = address_copy("memory://b/logs", context, wanted=lambda name: name.endswith(".csv"))
    assert sorted(folder.files) == ["day=1/a.csv", "day=2/a.csv"]
    assert (folder.path / "day=2" / "a.csv").read_bytes() == b"logs/day=2/a.csv"
    assert "2 files, 32 bytes" in folder.said()
    pattern = copied("memory://b/logs/day=*/a.csv", context)
    assert pattern.files == folder.files
    assert sorted(copied("memory://b/logs/day=*", context).files) == sorted(folder.files)
    one = copied("memory://b/logs/day=1/*.csv", context)
    assert one.path.is_dir()
    assert copied("memory://b/logs/day=1/a.csv", context).path.is_file()
    with opened(remote_parts("memory://b/logs/notes.md")[0]) as stream:
        stream.seek(5)
        assert stream.read() == b"notes.md"


def test_of_a_folder_what_changed_alone_is_copied_again(
    store: fsspec.AbstractFileSystem, context: BuildContext, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        store.pipe(f"/b/{name}", name.encode())
    before = copied("memory://b", context)
    store.pipe("/b/b.csv", b"other")
    store.pipe("/b/d.csv", b"a.csv")
    store.rm("/b/c.csv")
    caplog.set_level(logging.INFO)
    after = copied("memory://b", context)
    assert after.files["a.csv"] == before.files["a.csv"]
    assert "1 changed, 1 new, 1 gone" in caplog.text
    assert "memory:///b/a.csv: downloading" not in caplog.text
    assert after.path != before.path
    contents = {each.name for each in (context.cache_dir / "addresses" / "contents").iterdir()}
    assert contents == {each.sha256 for each in (*before.files.values(), *after.files.values())}


def test_what_is_missing_is_said(context: BuildContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"memory://b/x\.csv: there is no such file or folder"):
        copied("memory://b/x.csv", context)
    with pytest.raises(DataError, match=r"memory://b/\*\.csv: there are no files that fit"):
        copied("memory://b/*.csv", context)
    with pytest.raises(DataError, match=r"file://.*x\.csv: there is no such file"):
        copied(f"file://{tmp_path}/x.csv", context)
    monkeypatch.setattr(addresses.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"needs the package obstore: pip install 'collm\[cloud\]'"):
        copied("s3://bucket/x.csv", context)


def test_errors_of_a_store_name_the_address_and_no_secret(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def info(self, path: str) -> None:
            raise RuntimeError(f"https://me:pass@host/{path}?token=abc failed\nmore")

    monkeypatch.setattr(addresses, "_system", lambda _: (Broken(), "x.csv"))
    with pytest.raises(UnreachableError) as caught:
        copied("s3://bucket/x.csv", context)
    assert str(caught.value) == (
        "s3://bucket/x.csv: cannot be read (RuntimeError: https://me:***@host/x.csv?token=*** failed)"
    )


def test_names_that_lead_elsewhere_are_refused(context: BuildContext, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SimpleNamespace(
        info=lambda _: {"type": "directory"},
        find=lambda _, detail: {"b/../../x.csv": {"type": "file", "size": 1}},
    )
    monkeypatch.setattr(addresses, "_system", lambda _: (system, "b"))
    with pytest.raises(DataError, match="is not a name of a file below it"):
        copied("s3://b", context)


def test_stores_are_those_of_obstore() -> None:
    pytest.importorskip("obstore", reason="the extra 'cloud' is not installed")
    system, path = addresses._system("s3://bucket/logs/a.csv")
    assert (type(system).__name__, path) == ("FsspecStore", "bucket/logs/a.csv")
