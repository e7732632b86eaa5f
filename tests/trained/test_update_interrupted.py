"""An update that was killed is continued by the same command, and ends as one that was not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from collm.cli.main import call
from collm.errors import UsageError
from collm.runs.environment import RunOptions
from collm.runs.store import RunFolder
from collm.stages import updated
from collm.stages.updated import UpdateSettings
from collm.trained import update
from collm.trained.opened import open_run
from collm.trained.update import update_run

SPEC = """\
name: mf
dataset: {name: tiny}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
evaluate: {resamples: 0}
"""
SETTINGS = UpdateSettings("encoder", 2, 1.0)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mf.yaml").write_text(SPEC, encoding="utf-8")
    assert call(["run", "mf.yaml"]) == 0
    (path,) = (tmp_path / "runs").glob("mf-*")
    last = int(open_run(path, cache_dir=tmp_path / "cache", device="cpu").data.column("timestamp").max())
    rows = "".join(f"new,{item},{item % 2},{last + 10 + item}\n" for item in range(1, 6))
    (tmp_path / "new.csv").write_text("user,item,label,timestamp\n" + rows, encoding="utf-8")
    return path


def updated_run(parent: Path, root: Path, name: str) -> Any:
    model = open_run(parent, cache_dir=root / "cache", device="cpu")
    options = RunOptions(runs_dir=parent.parent, cache_dir=root / "cache", device="cpu")
    return update_run(model, root / "new.csv", parent.parent / name, SETTINGS, options)


def encoder(outcome: Any) -> dict[str, Any]:
    stages = outcome.folder.parent / "stages"
    found: dict[str, Any] = load_file(
        stages / f"fit_encoder-{outcome.results.stages['fit_encoder']}" / "encoder.safetensors"
    )
    return found


def test_a_folder_that_another_update_takes_meanwhile_is_refused(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = RunFolder.lock

    @contextmanager
    def taken_meanwhile(folder: RunFolder, **options: Any) -> Iterator[RunFolder]:
        with lock(folder, **options) as held:
            (folder.path / "update.json").write_text('{"policy": "frozen"}', encoding="utf-8")
            yield held

    monkeypatch.setattr(RunFolder, "lock", taken_meanwhile)
    with pytest.raises(UsageError, match="is another update already"):
        updated_run(parent, tmp_path, "both")
    assert not (tmp_path / "runs" / "both" / "data").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (update, "write_extended"),
        (update, "run_spec"),
        (updated, "grown_encoder"),
        (updated, "evaluate_model"),
        (updated, "folded_encoder"),
        (updated, "continue_encoder"),
    ],
)
def test_each_place_that_it_may_stop_at(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    whole = tmp_path / "whole"
    shutil.copytree(parent.parent, whole / "runs")
    shutil.copy(tmp_path / "new.csv", whole)
    files = {path: path.read_bytes() for path in parent.iterdir() if path.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            updated_run(parent, tmp_path, "new")
    found = updated_run(parent, tmp_path, "new")
    assert not found.reused
    assert updated_run(parent, tmp_path, "new").reused
    other = updated_run(whole / "runs" / parent.name, whole, "new")
    assert other.results.metrics == found.results.metrics
    one, two = encoder(found), encoder(other)
    assert all(tensor.equal(two[key]) for key, tensor in one.items())
    # The parent is read, never written.
    assert files == {path: path.read_bytes() for path in parent.iterdir() if path.is_file()}
