"""The real Gift Cards reviews through the command line: prepared data, floors, matrix factorisation, bad rows."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from generated import call

EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments" / "amazon-gift-cards.yaml"
N_REVIEWS = 2_965


@pytest.fixture(scope="module")
def gift_cards(shared_data: Path) -> Path:
    folder = shared_data / "amazon2018-gift-cards"
    if not folder.is_dir():
        pytest.skip("the Gift Cards reviews are missing")
    return folder


def run(folder: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    settings = ["--set", f"dataset.path={data}", "--set", "evaluate.resamples=50"]
    return call(folder, "run", str(EXPERIMENT), *settings, "--runs-dir", str(folder / "runs"), "--json", *more)


def test_gift_cards(gift_cards: Path, tmp_path: Path) -> None:
    done = run(tmp_path, gift_cards)
    assert done.returncode == 0, done.stderr
    results: dict[str, dict[str, Any]] = {each["run"]: each for each in json.loads(done.stdout)["runs"]}
    assert set(results) == {"item-mean", "mf-bias"}
    counts = results["mf-bias"]["counts"]
    assert sum(counts[split] for split in ("train", "valid", "test")) == N_REVIEWS
    assert (counts["users"], counts["items"]) == (458, 148)
    for result in results.values():
        auc = result["metrics"]["test"]["all"]["auc"]
        assert 0.3 < auc["value"] < 1
        assert auc["n"] == counts["test"]
        assert result["floors"]["test"]["all"]
    (manifest,) = (tmp_path / "runs" / "stages").glob("prepare_data-*/manifest.json")
    notes = json.loads(manifest.read_text(encoding="utf-8"))["notes"]
    assert "reviews that repeat a user and item: 7, left out (the newest counts)" in notes
    items = pl.read_parquet(manifest.parent / "items.parquet")
    assert items.filter(pl.col("title") == "Amazon eGift Card").height >= 1
    assert not (manifest.parent / "quarantine.csv").exists()


def test_a_damaged_line_stops_the_run_and_is_listed(gift_cards: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(gift_cards, data, copy_function=shutil.copyfile)
    data.chmod(0o755)
    path = data / "Gift_Cards_5.json.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    lines[99] = lines[99][:40]
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    refused = run(tmp_path, data)
    assert refused.returncode == 1
    assert "Gift_Cards_5.json.gz line 100: not JSON" in refused.stderr
    assert "dataset.max_bad_rows" in refused.stderr
    (listed,) = (tmp_path / "runs" / "quarantine").glob("*.csv")
    assert pl.read_csv(listed)["line"].to_list() == [100]
    accepted = run(tmp_path, data, "--set", "dataset.max_bad_rows=1")
    assert accepted.returncode == 0, accepted.stderr
    (quarantine,) = (tmp_path / "runs" / "stages").glob("prepare_data-*/quarantine.csv")
    assert pl.read_csv(quarantine).select("file", "line", "reason").rows() == [
        ("Gift_Cards_5.json.gz", 100, "not JSON")
    ]
