"""Models of the hub, with a hub that lives in this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from model_folders import write_qwen2

from collm.component import BuildContext
from collm.errors import DataError
from collm.model import hub
from collm.model.hub import HubModel, fetch_model, files_to_fetch, model_folder

MODEL = HubModel(component="small", repository="someone/small-lm", size_gb=0.1)


class Refused(GatedRepoError):
    """As the hub raises it, without a response of whichever HTTP library it uses."""

    def __init__(self, message: str) -> None:
        OSError.__init__(self, message)


class Hub:
    """Holds the names of a repository; downloads by calling `arrive` with the folder."""

    def __init__(self, arrive: Any) -> None:
        self.arrive, self.wanted, self.calls = arrive, [], 0

    def list_repo_files(self, repository: str, *, revision: str | None) -> list[str]:
        self.revision = revision
        assert repository == MODEL.repository
        return ["README.md", "config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "modeling.py"]

    def snapshot_download(
        self, repository: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]
    ) -> None:
        assert revision == self.revision
        self.wanted, self.calls = allow_patterns, self.calls + 1
        local_dir.mkdir(parents=True, exist_ok=True)
        self.arrive(local_dir)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def with_hub(arrive: Any) -> Hub:
        made = Hub(arrive)
        monkeypatch.setattr(hub, "HfApi", lambda: made)
        monkeypatch.setattr(hub, "snapshot_download", made.snapshot_download)
        return made

    return with_hub


def test_fetches_once_and_no_code(connect: Any, tmp_path: Path) -> None:
    made, context = connect(write_qwen2), BuildContext(cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"backbone 'small'.*run 'collm fetch small' \(about 0\.1 GB.*path: FOLDER"):
        model_folder(MODEL, None, context)
    folder = fetch_model(MODEL, context)
    assert sorted(made.wanted) == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert fetch_model(MODEL, context) == folder == model_folder(MODEL, None, context)
    assert made.calls == 1
    assert model_folder(MODEL, tmp_path / "own", context) == tmp_path / "own"


def test_a_hub_that_cannot_be_reached_leaves_nothing_published(connect: Any, tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise LocalEntryNotFoundError("Cannot reach the hub.\nmore lines")

    made, context = connect(cut), BuildContext(cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"someone/small-lm: cannot be fetched .*\(Cannot reach the hub\).*try again"):
        fetch_model(MODEL, context)
    with pytest.raises(DataError, match="not on this machine"):
        model_folder(MODEL, None, context)
    made.arrive = write_qwen2
    assert (fetch_model(MODEL, context) / "config.json").stat().st_size > 2


def test_a_licence_to_accept_is_said(connect: Any, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise Refused("Access is restricted.")

    connect(refuse)
    with pytest.raises(DataError, match=r"not give this model without permission.*accept its licence.*hf auth login"):
        fetch_model(MODEL, BuildContext(cache_dir=tmp_path))


def test_a_folder_without_its_parts_is_not_published(connect: Any, tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        write_qwen2(folder)
        (folder / "tokenizer.json").unlink()

    connect(half)
    with pytest.raises(DataError, match="tokenizer"):
        fetch_model(MODEL, BuildContext(cache_dir=tmp_path))
    assert not (tmp_path / "weights" / MODEL.folder).exists()


def test_one_format_of_weights_is_taken() -> None:
    shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"]
    assert files_to_fetch(["config.json", "tokenizer.model", *shards]) == ["config.json", "tokenizer.model", *shards]
    safe = ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    assert files_to_fetch([*shards, *safe]) == safe
    with pytest.raises(ValueError, match=r"holds no model\*\.safetensors"):
        files_to_fetch(["config.json", "tf_model.h5"])
