"""A zip of runs from anywhere: damaged, incomplete, hostile."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_fakes import WriteRun

from collm.component import BuildContext
from collm.errors import RunError, UsageError
from collm.registry import Registry
from collm.report.collect import Collected, Reading, collect
from collm.report.pack import pack
from collm.report.packed import ALWAYS_ALLOWED_BYTES, open_pack
from collm.report.pages import no_pages

Files = dict[str, bytes]
Rewrite = Callable[..., Path]
FOLDER = "runs/a-0000000000"


@pytest.fixture
def read(tmp_path: Path, registry: Registry) -> Callable[..., Collected]:
    (tmp_path / "unpacked").mkdir()
    reading = Reading(tmp_path, registry, BuildContext(cache_dir=tmp_path), scratch=tmp_path / "unpacked")
    return lambda *targets, only=(): collect(targets, replace(reading, only=only))


@pytest.fixture
def rewrite(write_run: WriteRun, read: Callable[..., Collected], tmp_path: Path) -> Rewrite:
    """Packs a run, lets a function change names and contents, and writes them as a zip without any of our code."""
    pack(read(write_run("a")), tmp_path / "good.zip", tmp_path / "copies", pages=no_pages, weights=False)

    def written(change: Callable[[Files], None] = lambda _: None) -> Path:
        with zipfile.ZipFile(tmp_path / "good.zip") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        change(files)
        with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tmp_path / "r.zip"

    return written


def in_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Files], None]:
    def changed(files: Files) -> None:
        manifest = json.loads(files["manifest.json"])
        change(manifest)
        files["manifest.json"] = json.dumps(manifest).encode()

    return changed


def refused(target: Path, tmp_path: Path) -> str:
    scratch = tmp_path / "refused"
    scratch.mkdir(exist_ok=True)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(scratch)}
    with pytest.raises(RunError, match=r".") as caught:
        open_pack(target, scratch)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(scratch)} == before
    said = str(caught.value)
    assert said.startswith(f"{target}: ")
    assert str(scratch) not in said
    return said


def test_a_zip_that_another_program_wrote_is_read(rewrite: Rewrite, read: Callable[..., Collected]) -> None:
    (run,) = read(rewrite(lambda files: files.update({"notes.txt": b"mine"}))).runs
    assert (run.method, run.seed, run.scores.height) == ("a", 0, 480)


def put(name: str, content: bytes) -> Callable[[Files], None]:
    return lambda files: files.update({name: content})


def drop(name: str) -> Callable[[Files], None]:
    return lambda files: files.pop(name) and None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(f"{FOLDER}/scores.parquet", b"other"), "'runs/a-0000000000/scores.parquet' is damaged: its contents"),
        (drop(f"{FOLDER}/spec.yaml"), "'runs/a-0000000000/spec.yaml' is missing"),
        (drop("manifest.json"), "has no manifest.json, so it was not written by `collm runs pack`"),
        (put("manifest.json", b"{"), "manifest.json cannot be read"),
        (put("manifest.json", b"[" * 100_000), "manifest.json cannot be read"),
        (put("manifest.json", b"\xff"), "manifest.json cannot be read"),
        (in_manifest(lambda m: m.update(schema=2)), "it has form 2 of a later version of collm"),
        (in_manifest(lambda m: m.update(runs=[])), "manifest.json cannot be read"),
        (in_manifest(lambda m: m["files"].pop(f"{FOLDER}/done")), "does not list 'runs/a-0000000000/done'"),
        (in_manifest(lambda m: m["files"].pop(f"{FOLDER}/floors.parquet")), "does not list"),
        (in_manifest(lambda m: m["runs"][0].update(folder="../../x")), "names the run folder '../../x'"),
        (in_manifest(lambda m: m["runs"][0].update(folder="..")), "names the run folder '..'"),
        (in_manifest(lambda m: m["runs"][0].update(folder="")), "names the run folder ''"),
        (in_manifest(lambda m: m["runs"].append(m["runs"][0])), "names the run folder 'a-0000000000' twice"),
        (put("../outside", b"x"), "'../outside' leads out of the zip; nothing of it was unpacked"),
        (put("runs/../../outside", b"x"), "leads out of the zip"),
        (put("/outside", b"x"), "leads out of the zip"),
        (put("a\\..\\b", b"x"), "leads out of the zip"),
    ],
)
def test_what_is_wrong_is_named(rewrite: Rewrite, change: Callable[[Files], None], said: str, tmp_path: Path) -> None:
    assert said in refused(rewrite(change), tmp_path)


def test_what_unpacks_to_far_too_much_is_not_unpacked(rewrite: Rewrite, tmp_path: Path) -> None:
    zeros = bytes(ALWAYS_ALLOWED_BYTES + 1)

    def grow(files: Files) -> None:
        files[f"{FOLDER}/events.jsonl"] = zeros
        in_manifest(lambda m: m["files"].update({f"{FOLDER}/events.jsonl": {"size": len(zeros), "sha256": "0" * 64}}))(
            files
        )

    said = refused(rewrite(grow), tmp_path)
    assert "which no pack of runs does; nothing of it was unpacked" in said
    assert list((tmp_path / "refused").iterdir()) == []


def test_names_that_stand_twice_and_links_are_refused(rewrite: Rewrite, tmp_path: Path) -> None:
    path = rewrite()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{FOLDER}/spec.yaml", b"name: other")
    assert f"holds '{FOLDER}/spec.yaml' twice" in refused(path, tmp_path)
    path = rewrite()
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "elsewhere")
    assert "'link' is a symbolic link" in refused(path, tmp_path)


def test_bytes_that_were_lost_or_changed_are_seen(rewrite: Rewrite, tmp_path: Path) -> None:
    whole = rewrite().read_bytes()
    broken = tmp_path / "broken.zip"
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-30]):
        broken.write_bytes(content)
        assert "cannot be read as a zip" in refused(broken, tmp_path)
    at = whole.index(b"scores.parquet") + 400
    broken.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert "scores.parquet' is damaged" in refused(broken, tmp_path)


def test_an_unpacked_folder_is_compared_too(rewrite: Rewrite, read: Callable[..., Collected], tmp_path: Path) -> None:
    with zipfile.ZipFile(rewrite()) as archive:
        archive.extractall(tmp_path / "by-hand")
    (run,) = read(tmp_path / "by-hand").runs
    assert run.path == run.place == run.linked == tmp_path / "by-hand" / FOLDER
    results = tmp_path / "by-hand" / FOLDER / "results.json"
    results.write_bytes(results.read_bytes().replace(b"made-up", b"real---"))
    assert "results.json' is damaged" in refused(tmp_path / "by-hand", tmp_path)


def test_messages_name_the_zip_and_not_where_it_was_unpacked(
    rewrite: Rewrite, read: Callable[..., Collected], tmp_path: Path
) -> None:
    def no_parquet(files: Files) -> None:
        files[f"{FOLDER}/scores.parquet"] = b"PAR1"
        facts = {"size": 4, "sha256": hashlib.sha256(b"PAR1").hexdigest()}
        in_manifest(lambda m: m["files"].update({f"{FOLDER}/scores.parquet": facts}))(files)

    (run,) = read(rewrite(no_parquet)).runs
    with pytest.raises(RunError) as caught:
        _ = run.scores
    assert str(caught.value).startswith(f"{tmp_path / 'r.zip' / FOLDER / 'scores.parquet'}: cannot be read")
    assert "unpacked" not in str(caught.value)


def test_runs_are_chosen_of_suites_alone(rewrite: Rewrite, read: Callable[..., Collected]) -> None:
    with pytest.raises(UsageError, match="holds packed runs"):
        read(rewrite(), only=("a",))
