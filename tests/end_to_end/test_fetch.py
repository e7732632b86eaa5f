"""`collm fetch` from a server on this machine, by name and with settings; then the dataset finds its files."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from collm.cli import context
from collm.cli.main import call
from collm.component import BuildContext, Component
from collm.contracts.component_check import component_faults
from collm.contracts.data import DatasetConfig, InteractionTable
from collm.errors import DataError
from collm.fetching.download import Patience
from collm.fetching.remote_files import RemoteFile, RemoteSet
from collm.registry import Registry, default_registry, registry_of
from collm.spec.component_config import component_config
from collm.testing.file_server import Answer, FileServer

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fetching.md"
RATINGS = b"user,item\n1,2\n1,3\n2,2\n"
REVIEWS = "/mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/categoryFilesSmall/Gift_Cards_5.json.gz"
METADATA = "/mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/metaFiles2/meta_Gift_Cards.json.gz"
ML_1M = "/files.grouplens.org/datasets/movielens/ml-1m.zip"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr("collm.fetching.fetched.Patience", lambda: Patience(sleep=lambda _: None))
    with FileServer({}) as running:
        monkeypatch.setenv("COLLM_MIRROR", running.address)
        yield running


def load(registry: Registry, name: str, cache: Path, **settings: Any) -> InteractionTable:
    component = registry.get("dataset", name)
    config = component_config(component, settings, registry)
    table: InteractionTable = component.load_factory()(config, context=BuildContext(cache)).load()
    return table


def test_amazon_by_category_then_without_a_path(
    server: FileServer, cache: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "amazon2018-gift-cards"
    if not folder.is_dir():
        pytest.skip("the Gift Cards reviews are missing")
    registry, settings = default_registry(), {"category": "Gift Cards", "user_reviews": 3, "item_reviews": 3}
    asked = r"'amazon' needs Gift_Cards_5\.json\.gz and meta_Gift_Cards\.json\.gz, not fetched yet: run "
    with pytest.raises(
        DataError, match=asked + r"'collm fetch amazon --set category=Gift_Cards' \(from https://mcauley"
    ):
        load(registry, "amazon", cache, **settings)
    server.files = {REVIEWS: (folder / "Gift_Cards_5.json.gz").read_bytes()}
    server.files[METADATA] = (folder / "meta_Gift_Cards.json.gz").read_bytes()
    server.answers.extend([Answer(cut_after=70_000), Answer(status=503), Answer(), Answer(damage=True)])
    assert call(["fetch", "amazon", "--set", "category=Gift_Cards"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"amazon: {cache / 'amazon' / '2018-5-core'}\n"
    assert "cite Ni, Li and McAuley" in captured.err and "no hash is published; sha256 of this" in captured.err
    assert "meta_Gift_Cards.json.gz: not usable: it is not a sound gz file" in captured.err
    fetched = load(registry, "amazon", cache, **settings)
    given = load(registry, "amazon", cache, path=str(folder), **settings)
    assert fetched.frame.equals(given.frame) and fetched.titles == given.titles
    server.requests.clear()
    assert call(["fetch", "amazon", "--set", "category='gift cards'"]) == 0
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "settings", "paths"),
    [
        (
            "amazon-book",
            [],
            ["amazon_v2/categoryFilesSmall/Books_5.json.gz", "amazon_v2/metaFiles2/meta_Books.json.gz"],
        ),
        ("video-games", ["release=2018-all", "titles=none"], ["amazon_v2/categoryFiles/Video_Games.json.gz"]),
        (
            "cds-and-vinyl",
            ["release=2023-all"],
            ["raw/review_categories/CDs_and_Vinyl.jsonl.gz", "raw/meta_categories/meta_CDs_and_Vinyl.jsonl.gz"],
        ),
        (
            "amazon",
            ["release=2014-5-core", "category=Baby"],
            ["productGraph/categoryFiles/reviews_Baby_5.json.gz", "productGraph/categoryFiles/meta_Baby.json.gz"],
        ),
    ],
)
def test_every_release_has_its_addresses(
    server: FileServer, cache: Path, name: str, settings: list[str], paths: list[str]
) -> None:
    from collm_amazon.fetch import published

    registry = default_registry()
    given = dict(text.split("=") for text in settings)
    remote = published(component_config(registry.get("dataset", name), given, registry))  # type: ignore[arg-type]
    assert len(remote.files) == len(paths)
    for file, path in zip(remote.files, paths, strict=True):
        assert file.url.startswith("https://") and file.url.endswith(path)
    assert call(["fetch", name, *(part for text in settings for part in ("--set", text))]) == 1
    assert server.requests == [(remote.files[0].url.removeprefix("https:/"), None)]


def test_an_unknown_category_and_settings(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, words in (
        (
            ["amazon", "--set", "category=Gift_Card"],
            1,
            "no category 'Gift_Card'; did you mean 'Gift_Cards'? categories:",
        ),
        (["amazon"], 2, "category"),
        (["amazon", "--set", "release=2019-all", "--set", "category=Books"], 2, "release"),
        (
            ["amazon", "--set", "split=shares"],
            2,
            "'split' does not decide what 'amazon' fetches; fields: category, rel",
        ),
        (["ml-1m", "--set", "release=x"], 2, "'release' does not decide what 'ml-1m' fetches; fields: none"),
        (["--set", "release=x"], 2, "--set belongs to a component"),
    ):
        assert call(["fetch", *arguments]) == code
        captured = capsys.readouterr()
        assert words in captured.err and captured.out == ""
    assert call(["fetch"]) == 0
    assert "video-games  (dataset; --set category, release, titles)" in capsys.readouterr().out


def test_a_mirror_must_be_an_address(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLM_MIRROR", "somewhere")
    assert call(["fetch", "ml-1m"]) == 2
    assert "COLLM_MIRROR: 'somewhere' is not an address" in capsys.readouterr().err
    monkeypatch.setenv("COLLM_MIRROR", "https://me:p@ss:w@host")
    assert call(["fetch", "ml-1m"]) == 2
    said = capsys.readouterr().err
    assert "holds a user or password, which are not sent" in said
    assert "p@ss" not in said
    monkeypatch.setenv("COLLM_MIRROR", "me:p@ss@host")
    assert call(["fetch", "ml-1m"]) == 2
    assert "p@ss" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "content", "words"),
    [
        ([], None, "the server answers 404: there is no such file"),
        ([Answer(status=500)] * 5, b"", "the server answers 500"),
        ([], b"<html>log in</html>", "the server offers 19 bytes, the published file has 5,917,549"),
        ([], b"x" * 5_917_549, "not usable: its sha256 is"),
    ],
)
def test_ml_1m_is_the_published_file_or_nothing(
    server: FileServer,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    answers: list[Answer],
    content: bytes | None,
    words: str,
) -> None:
    server.answers.extend(answers)
    server.files = {} if content is None else {ML_1M: content}
    assert call(["fetch", "ml-1m"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1].count(words) == 1
    assert "no redistribution" in captured.err
    assert f"save https:/{ML_1M} as {cache / 'ml-1m' / 'ml-1m.zip'}" in captured.err
    assert list(cache.glob("ml-1m/*.zip")) == []


def test_ml_1m_without_a_path(server: FileServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small zip of the same format stands for the published one."""
    import zipfile

    from collm_movielens import published, source

    archive = tmp_path / "small.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        rows = [f"{user}::{item}::{3 + item % 2}::{1_000_000_000 + 10**6 * n}" for n, (user, item) in enumerate(PAIRS)]
        writer.writestr("ml-1m/ratings.dat", "\n".join(rows) + "\n")
        writer.writestr("ml-1m/movies.dat", "".join(f"{item}::Film {item} (1990)::Drama\n" for item in range(1, 5)))
    content, registry, settings = archive.read_bytes(), default_registry(), {"split": "global-time"}
    with pytest.raises(
        DataError, match=r"'ml-1m' needs ratings\.dat, movies\.dat, not fetched yet: run 'collm fetch ml-"
    ):
        load(registry, "ml-1m", cache, **settings)
    file = replace(published.ML_1M.files[0], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    remote = replace(published.ML_1M, files=(file,))
    monkeypatch.setattr(published, "ML_1M", remote)
    monkeypatch.setattr(source, "ML_1M", replace(source.ML_1M, published=remote))
    server.files = {ML_1M: content}
    assert call(["fetch", "ml-1m"]) == 0
    table = load(registry, "ml-1m", cache, **settings)
    assert table.frame.height == len(PAIRS) and table.titles[1:] == [f"Film {item} (1990)" for item in range(1, 5)]


PAIRS = [(user, item) for item in range(1, 5) for user in range(1, 6)]


def test_the_plugin_of_the_docs(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    match = re.search(r"^```python fetch\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert match is not None
    module = ModuleType("collm_remote")
    monkeypatch.setitem(sys.modules, "collm_remote", module)
    exec(compile(match[1], str(DOCS), "exec"), module.__dict__)  # noqa: S102 - the page's own example
    (component,) = module.register_datasets()
    monkeypatch.setattr(context.CliState, "registry", lambda _: registry_of([component]))
    source = component.load_factory()(component.config(name="remote"), context=BuildContext(cache))
    with pytest.raises(
        DataError, match=r"'remote' needs ratings\.csv, not fetched yet: run 'collm fetch remote' \(22 by"
    ):
        source.file()
    server.files = {"/data.example.org/remote/ratings.csv": RATINGS}
    assert call(["fetch", "remote"]) == 0
    assert source.file().read_bytes() == RATINGS
    assert "CC BY 4.0" in capsys.readouterr().err
    record = json.loads(source.file().with_name("ratings.csv.fetched.json").read_text())
    assert record["compared_with"] == "published sha256"


def test_a_set_is_fetched_together(server: FileServer, cache: Path, tmp_path: Path) -> None:
    """What is there already is not fetched again when a later file of the set fails."""
    from collm.fetching.fetched import fetch_files

    remote = RemoteSet(
        folder="set",
        command="collm fetch set",
        files=(RemoteFile("https://h.example/a"), RemoteFile("https://h.example/b")),
        licence="free",
    )
    server.files = {"/h.example/a": b"a"}
    place = BuildContext(cache, mirror=server.address)
    with pytest.raises(DataError, match=r"404.*save https://h\.example/b as [^ ]*/set/b, and"):
        fetch_files(remote, place)
    server.files["/h.example/b"] = b"b"
    assert [path.read_bytes() for path in fetch_files(remote, place)] == [b"a", b"b"]
    assert [path for path, _ in server.requests] == ["/h.example/a", "/h.example/b", "/h.example/b"]


def test_fetch_fields_are_fields_of_the_config() -> None:
    parts = {"kind": "dataset", "name": "x", "factory": "x:y", "config": DatasetConfig, "summary": "X."}
    assert component_faults(Component(**parts, fetch="x:y", fetch_fields=("limit",))) == []
    assert component_faults(Component(**parts, fetch_fields=("nothing",))) == [
        "dataset 'x': `fetch_fields` without `fetch`",
        "dataset 'x': fetch_fields names 'nothing', which is not a field of its config class",
    ]
