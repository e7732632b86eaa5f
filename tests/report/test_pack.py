"""Runs packed as one zip and read again: whole, the same bytes for the same runs, nothing that was not asked for."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_fakes import WriteRun

from collm.component import BuildContext
from collm.errors import RunError, UsageError
from collm.registry import Registry
from collm.report.collect import Collected, MissingRun, Reading, collect
from collm.report.pack import Packed, pack
from collm.report.pages import all_pages, measure_of, no_pages
from collm.report.summary import summarise
from collm.report.tables import to_csv
from collm.runs.files import finish_folder
from collm.runs.store import StageStore

Collect = Callable[..., Collected]
RUN_FILES = {"done", "environment.json", "floors.parquet", "results.json", "scores.parquet", "spec.yaml"}


@pytest.fixture
def read(tmp_path: Path, registry: Registry) -> Collect:
    def reading(*targets: Path, scratch: str = "unpacked", **more: Any) -> Collected:
        folder = tmp_path / scratch
        folder.mkdir(exist_ok=True)
        context = BuildContext(cache_dir=tmp_path)
        return collect(targets, Reading(tmp_path / "runs", registry, context, scratch=folder, **more))

    return reading


def packed(collected: Collected, output: Path, *, weights: bool = False, pages: Any = no_pages) -> Packed:
    return pack(collected, output, output.with_suffix(".copies"), pages=pages, weights=weights)


def names(zipped: Path) -> list[str]:
    with zipfile.ZipFile(zipped) as archive:
        assert archive.testzip() is None
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        return archive.namelist()


def csv_of(collected: Collected, registry: Registry) -> str:
    return to_csv(summarise(collected, measure_of(collected, registry)))


def test_what_comes_out_is_what_went_in(
    write_run: WriteRun, read: Collect, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [write_run("good", noise=0.5, seed=1), write_run("good", noise=0.5, seed=2), write_run("bad", noise=9)]
    for folder in folders:
        finish_folder(folder)
    before = read(*folders)
    made = packed(before, tmp_path / "r.zip", pages=lambda c, f: all_pages(c, f, registry=registry))
    own = {f"runs/{folder.name}/{name}" for folder in folders for name in RUN_FILES}
    pages = {"README.md", "report.csv", "report.html", "report.md", "manifest.json"}
    found = names(tmp_path / "r.zip")
    assert set(found) == own | pages
    assert found == [*sorted(own | pages - {"manifest.json"}), "manifest.json"]
    assert made.n_runs == 3
    assert made.sha256 == hashlib.sha256((tmp_path / "r.zip").read_bytes()).hexdigest()
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        files = {name: archive.read(name) for name in found}
    manifest = json.loads(files.pop("manifest.json"))
    facts = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    assert manifest["files"] == facts
    assert files["report.csv"].decode() == csv_of(before, registry)
    assert str(tmp_path) not in files["report.md"].decode() + files["report.html"].decode()
    assert f'href="runs/{folders[0].name}"' in files["report.html"].decode()

    for folder in folders:
        folder.rename(folder.with_name(f"gone-{folder.name}"))
    after = read(tmp_path / "r.zip")
    assert csv_of(after, registry) == csv_of(before, registry)
    assert [run.place for run in after.runs] == [tmp_path / "r.zip" / "runs" / folder.name for folder in folders]
    assert {run.linked for run in after.runs} == {tmp_path / "r.zip"}

    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        archive.extractall(tmp_path / "by-hand")
    assert csv_of(read(tmp_path / "by-hand"), registry) == csv_of(before, registry)
    again = packed(read(tmp_path / "r.zip", scratch="other"), tmp_path / "again.zip")
    assert again.n_runs == 3


def test_the_same_runs_give_the_same_bytes(
    write_run: WriteRun, read: Collect, registry: Registry, tmp_path: Path
) -> None:
    folder = write_run("a")
    for name in ("one.zip", "two.zip"):
        packed(read(folder), tmp_path / name, pages=lambda c, f: all_pages(c, f, registry=registry))
        (folder / "scores.parquet").touch()
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_names_and_notes_of_a_suite_stay(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    collected = read(write_run("table-mf", run="table-mf"))
    renamed = (replace(collected.runs[0], method="mf"),)
    packed(replace(collected, title="table", runs=renamed, notes=("left out: x.",)), tmp_path / "r.zip")
    after = read(tmp_path / "r.zip")
    assert (after.title, after.notes, [run.method for run in after.runs]) == ("table", ("left out: x.",), ["mf"])


def test_a_run_given_twice_is_one_run(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    folder = write_run("a")
    packed(read(folder), tmp_path / "r.zip")
    both = read(tmp_path / "r.zip", folder, tmp_path / "r.zip", scratch="second")
    assert [run.place for run in both.runs] == [tmp_path / "r.zip" / "runs" / folder.name]


def test_weights_only_where_they_are_asked_for(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    stages = {"prepare_data": "f00", "fit_encoder": "f01", "tune_1": "f02", "evaluate": "f03"}
    folder = write_run("a", stages=stages)
    for name, fingerprint in stages.items():
        with StageStore(folder.parent).claim(name, fingerprint) as stage:
            (stage / "adapter").mkdir()
            (stage / "adapter" / "w.safetensors").write_bytes(b"weights")
            (stage / "lock.txt").write_text("own file")
    packed(read(folder), tmp_path / "without.zip")
    assert not [name for name in names(tmp_path / "without.zip") if "stages" in name]
    packed(read(folder), tmp_path / "with.zip", weights=True)
    wanted = {f"runs/stages/{stage}/{file}" for stage in ("fit_encoder-f01", "tune_1-f02")
              for file in ("adapter/w.safetensors", "lock.txt", "done")}  # fmt: skip
    assert {name for name in names(tmp_path / "with.zip") if "stages" in name} == wanted
    (folder.parent / "stages" / "tune_1-f02" / "adapter" / "w.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(RunError, match=r"w\.safetensors: damaged"):
        pack(read(folder), tmp_path / "no.zip", tmp_path / "c1", pages=no_pages, weights=True)
    (folder.parent / "stages" / "fit_encoder-f01" / "done").unlink()
    with pytest.raises(RunError, match=r"fit_encoder-f01: missing or unfinished; pack without --weights"):
        pack(read(folder), tmp_path / "no.zip", tmp_path / "c2", pages=no_pages, weights=True)
    assert not (tmp_path / "no.zip").exists()


def test_weights_of_several_encoders_are_packed(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    folder = write_run("a", stages={"fit_encoder.cf": "f01", "fit_encoder.text": "f02"})
    for fingerprint in ("f01", "f02"):
        with StageStore(folder.parent).claim("fit_encoder", fingerprint) as stage:
            (stage / "encoder.safetensors").write_bytes(b"weights")
    packed(read(folder), tmp_path / "with.zip", weights=True)
    wanted = {f"runs/stages/fit_encoder-{each}/encoder.safetensors" for each in ("f01", "f02")}
    assert wanted <= set(names(tmp_path / "with.zip"))


def test_what_is_not_whole_is_not_packed(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    folder = write_run("a")
    finish_folder(folder)
    collected = read(folder)
    with pytest.raises(RunError, match=r"not finished: mf \(seed 3\): not run yet"):
        packed(replace(collected, missing=(MissingRun("mf", 3, "not run yet"),)), tmp_path / "r.zip")
    results = folder / "results.json"
    results.write_bytes(results.read_bytes().replace(b"made-up", b"real---"))
    with pytest.raises(RunError, match=r"results\.json: damaged") as caught:
        packed(read(folder), tmp_path / "r.zip")
    assert str(folder / "results.json") in str(caught.value)
    assert not (tmp_path / "r.zip").exists()


def test_two_runs_of_one_name_are_not_mixed(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    first = write_run("a")
    first.rename(tmp_path / first.name)
    second = write_run("a", noise=3)
    with pytest.raises(RunError, match=rf"another run is called '{first.name}'"):
        packed(read(tmp_path / first.name, second), tmp_path / "r.zip")


def test_a_zip_that_is_there_stays_whole_where_packing_fails(
    write_run: WriteRun, read: Collect, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "r.zip"
    output.write_bytes(b"old")

    def failing(*_: object) -> dict[str, str]:
        raise UsageError("no jinja2")

    with pytest.raises(UsageError):
        packed(read(write_run("a")), output, pages=failing)
    assert output.read_bytes() == b"old"
    assert [path.name for path in output.parent.iterdir() if path.is_file()] == ["r.zip"]


def test_places_of_the_machine_are_told(write_run: WriteRun, read: Collect, tmp_path: Path) -> None:
    folder = write_run("a", spec={"dataset": {"path": "/data/x", "files": ["relative"]}})
    (folder / "environment.json").write_text(json.dumps({"command": ["collm", "--set", "dataset.path=/data/y"]}))
    assert packed(read(folder), tmp_path / "r.zip").local_paths == ("dataset.path: /data/x", "command: /data/y")
    assert yaml.safe_load((folder / "spec.yaml").read_text())["dataset"]["path"] == "/data/x"


def test_without_a_report_the_runs_are_packed_all_the_same(
    write_run: WriteRun, read: Collect, registry: Registry, tmp_path: Path
) -> None:
    folders = [write_run("a", spec={"slices": {"warm": warm, "cold": "rest"}}, seed=seed)
               for seed, warm in enumerate(("at-least-3", "more-than-3"))]  # fmt: skip
    with pytest.raises(UsageError, match=r"different warm/cold rules.*; --no-report packs the runs without it"):
        packed(read(*folders), tmp_path / "r.zip", pages=lambda c, f: all_pages(c, f, registry=registry))
    assert pack(read(*folders), tmp_path / "r.zip", tmp_path / "c", pages=no_pages, weights=False).n_runs == 2
    assert "report.html" not in names(tmp_path / "r.zip")
