"""Dataset `files` by address and pattern: read like local files, hashed by content, looked at without copying them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from own_tables import COLUMNS, START, config_of, rows, write
from pydantic import ValidationError

from collm.cli.main import call
from collm.component import BuildContext, is_pattern, locations
from collm.errors import DataError
from collm.registry import default_registry
from collm.spec.contents import config_contents, run_hash
from collm.spec.expand import load_any
from collm.spec.model import ResolvedSpec
from collm.testing.file_server import FileServer
from collm_files.source import FilesSource, build


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.fixture
def server(path: Path) -> Iterator[FileServer]:
    with FileServer({"/sales.csv": path.read_bytes()}) as running:
        yield running


def source(folder: Path, place: Any, **settings: Any) -> FilesSource:
    return build(config_of(place, **settings), context=BuildContext(cache_dir=folder / "cache"))


def test_a_file_of_the_web_is_the_local_one(path: Path, tmp_path: Path, server: FileServer) -> None:
    address = f"{server.address}/sales.csv"
    local, remote = source(tmp_path, path), source(tmp_path, address)
    assert remote.content_hash() == local.content_hash()
    table = remote.load()
    assert table.frame.equals(local.load().frame)
    (said,) = [note for note in table.notes if note.startswith("interactions from")]
    assert said.startswith(f"interactions from {address}: ")
    assert "sha256" in said
    server.files["/sales.csv"] += b"u1,99,3,1600000000\n"
    assert source(tmp_path, address).content_hash() != local.content_hash()


def test_looking_copies_nothing(path: Path, tmp_path: Path, server: FileServer) -> None:
    long = b"".join(b"u%d,%d,3,1600000000\n" % (n % 9, n) for n in range(100_000))
    server.files["/sales.csv"] = path.read_bytes() + long
    source(tmp_path, f"{server.address}/sales.csv").look()
    assert all(asked is not None for _, asked in server.requests)
    assert not (tmp_path / "cache").exists()
    wrong = {**COLUMNS, "user": "whom"}
    with pytest.raises(DataError, match=r"/sales\.csv: dataset\.columns\.user: no column 'whom' \(did you mean 'who'"):
        source(tmp_path, f"{server.address}/sales.csv", columns=wrong).look()
    with pytest.raises(DataError, match=r"/none\.csv: the server answers 404"):
        source(tmp_path, f"{server.address}/none.csv").look()
    server.files["/packed.csv.gz"] = gzip.compress(path.read_bytes())
    source(tmp_path, f"{server.address}/packed.csv.gz").look()
    server.files["/page.csv"] = b"<html>log in</html>"
    with pytest.raises(DataError, match=r"http.*/page\.csv: is a web page"):
        source(tmp_path, f"{server.address}/page.csv").look()


def test_looking_without_a_connection_is_possible_where_there_is_a_copy(
    path: Path, tmp_path: Path, server: FileServer
) -> None:
    address = f"{server.address}/sales.csv"
    source(tmp_path, address).content_hash()
    server.__exit__(None, None, None)
    source(tmp_path, address).look()
    with pytest.raises(DataError, match="no connection"):
        source(tmp_path / "other", address).look()


def parquet_parts(folder: Path) -> None:
    content = pl.DataFrame(rows(), schema=["who", "what", "stars", "when"], orient="row")
    for number, part in enumerate(content.iter_slices(50)):
        place = folder / f"day={number}"
        place.mkdir(parents=True)
        part.write_parquet(place / "part-0.parquet")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / ".part-0.parquet.crc").write_bytes(b"crc")


def test_a_parquet_folder_of_a_store(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    parquet_parts(tmp_path / "logs")
    store.put(f"{tmp_path}/logs", "/bucket/logs", recursive=True)
    remote = source(tmp_path, "memory://bucket/logs")
    remote.look()
    assert not (tmp_path / "cache").exists()
    local = source(tmp_path, tmp_path / "logs")
    assert remote.content_hash() == local.content_hash()
    assert remote.load().frame.equals(local.load().frame)
    assert any("4 files" in note for note in remote.load().notes)
    with pytest.raises(DataError, match=r"memory://bucket/logs: dataset\.columns\.rating: no column 'points'"):
        source(tmp_path, "memory://bucket/logs", columns={**COLUMNS, "rating": "points"}).look()
    with pytest.raises(DataError, match=r"memory://bucket/x\*: there are no files that fit"):
        source(tmp_path, "memory://bucket/x*").look()


def test_errors_while_reading_name_the_address(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/bucket/a.csv", b"who,what,stars\nu1,2,3\n")
    with pytest.raises(DataError, match=r"^memory://bucket/a\.csv: dataset\.columns\.timestamp: no column 'when'"):
        source(tmp_path, "memory://bucket/a.csv").load()
    store.pipe("/bucket/empty.csv", b"")
    for method in ("look", "load"):
        with pytest.raises(DataError, match=r"^memory:///?bucket/empty\.csv: is empty \(0 bytes\)"):
            getattr(source(tmp_path, "memory://bucket/empty.csv"), method)()


def test_patterns_of_names(path: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number, part in ((10, rows()[100:]), (9, rows()[:100])):
        write(tmp_path / "logs" / f"sales-{number}.csv", part)
    (tmp_path / "logs" / ".sales-1.csv").write_bytes(b"hidden")
    pattern = tmp_path / "logs" / "sales-*.csv"
    found = source(tmp_path, pattern)
    found.look()
    assert found.load().frame.equals(source(tmp_path, path).load().frame.with_columns(found.load().frame["row"]))
    before = found.content_hash()
    write(tmp_path / "logs" / "sales-11.csv", [("u1", 77, 5, START)])
    assert found.content_hash() != before
    config = config_of(pattern)
    (location,) = locations(config, "dataset")
    assert location.is_own
    assert config_contents(config, "dataset") == {}
    with pytest.raises(DataError, match=r"none-\*\.csv: fits no file"):
        source(tmp_path, tmp_path / "none-*.csv").look()
    (tmp_path / "logs" / "sales-12.csv").write_text("who,what\nu1,2\n")
    with pytest.raises(DataError, match=r"sales-12\.csv: column 'stars' \(rating\) is missing"):
        found.load()


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(path: Path, tmp_path: Path) -> None:
    odd = tmp_path / "sales[1].csv"
    odd.write_bytes(path.read_bytes())
    assert not is_pattern(odd)
    assert source(tmp_path, odd).content_hash() == source(tmp_path, path).content_hash()
    assert config_contents(config_of(odd), "dataset")


SPEC = """name: web
dataset:
  name: files
  interactions: {address}
  columns: {{user: who, item: what, rating: stars, timestamp: when}}
  label: {{from: rating, positive_above: 3}}
  split: {{by: quantiles}}
encoder: {{name: mf}}
"""


def test_a_spec_keeps_the_address_and_its_hash_is_that_of_the_content(
    path: Path, tmp_path: Path, server: FileServer
) -> None:
    file, registry = tmp_path / "web.yaml", default_registry()
    file.write_text(SPEC.format(address=f"{server.address}/sales.csv"))
    spec = load_any(file, [], registry, cwd=tmp_path)
    assert isinstance(spec, ResolvedSpec)
    assert spec.dataset.interactions == f"{server.address}/sales.csv"  # type: ignore[attr-defined]
    context = BuildContext(cache_dir=tmp_path / "cache", find=registry.get)
    before = run_hash(spec, registry, context)
    server.files["/sales.csv"] += b"u1,99,3,1600000000\n"
    assert run_hash(spec, registry, context) != before


@pytest.mark.parametrize("secret", ["https://me:hunter2@host/a.csv", "https://host/a.csv?token=hunter2"])
def test_no_secret_is_taken_or_shown(secret: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValidationError, match="may not hold a user, password or key"):
        config_of(secret)
    (tmp_path / "web.yaml").write_text(SPEC.format(address=f'"{secret}"'))
    assert call(["validate", str(tmp_path / "web.yaml")]) == 2
    said = capsys.readouterr()
    assert "may not hold a user, password or key" in said.err
    assert "hunter2" not in said.out + said.err
