"""What runs share is done by one of them first; results, failures and interrupts of launched runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from collm.component import BuildContext
from collm.errors import RunError
from collm.launch.attempt import Attempt
from collm.launch.launcher import Ended, Started
from collm.launch.runs import RunsRequest, launch_runs
from collm.launch.sharing import shares_of, unfinished_keys
from collm.registry import default_registry
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.runs.store import RunFolder
from collm.spec.expand import Suite, load_any
from collm.spec.model import ResolvedSpec

SUITE = """\
name: shared
base:
  name: shared
  dataset: {name: tiny}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 1}}
  evaluate: {resamples: 20}
runs:
  a: {}
  again: {evaluate.resamples: 30}
  wide: {encoder.embedding_size: 8}
  late: {seed: 1}
"""
WORDS = """\
name: words
base:
  name: words
  dataset: {name: tiny}
  encoder: {name: mf-bias}
  backbone: {name: tiny}
  prompt: {name: movie}
  tuning: {name: default, text: &text {epochs: 1}}
runs:
  text-only: {encoder: null, tuning: {name: text-only, text: *text}}
  collm: {}
  other: {tuning.collaborative.epochs: 7}
"""


def load(folder: Path, text: str) -> Suite:
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    loaded = load_any(folder / "suite.yaml", [], default_registry(), cwd=folder)
    assert isinstance(loaded, Suite)
    return loaded


def stages_shared(suite: Suite, folder: Path) -> dict[str, list[str]]:
    """Returns, for each run, the stages whose keys the first run has, too."""
    registry = default_registry()
    context = BuildContext(cache_dir=folder, find=registry.get)
    shares = {each.key: shares_of(each.spec, registry, context) for each in suite.runs}
    first = {each.key for each in shares[suite.runs[0].key]}
    return {name: [each.stage for each in found if each.key in first] for name, found in shares.items()}


def test_encoder_runs_share_what_their_stages_are_made_of(tmp_path: Path) -> None:
    assert stages_shared(load(tmp_path, SUITE), tmp_path) == {
        "a": ["prepare_data", "metrics", "fit_encoder"],
        "again": ["prepare_data", "metrics", "fit_encoder"],
        "wide": ["prepare_data", "metrics"],
        "late": ["prepare_data"],
    }


def test_a_text_step_is_shared_with_the_run_that_goes_on_from_it(tmp_path: Path) -> None:
    found = stages_shared(load(tmp_path, WORDS), tmp_path)
    assert found["collm"] == found["other"] == ["prepare_data", "metrics", "tune_1"]
    registry = default_registry()
    context = BuildContext(cache_dir=tmp_path, find=registry.get)
    _, collm, other = (shares_of(each.spec, registry, context) for each in load(tmp_path, WORDS).runs)
    assert [a.stage for a, b in zip(collm, other, strict=True) if a.key != b.key] == ["tune_2"]


def test_events_tell_what_is_done_of_the_newest_attempt(tmp_path: Path) -> None:
    registry = default_registry()
    spec = load(tmp_path, SUITE).runs[0].spec
    shares = shares_of(spec, registry, BuildContext(cache_dir=tmp_path, find=registry.get))
    folder = RunFolder(tmp_path, "a", "1")
    assert len(list(unfinished_keys(shares, folder.path))) == 3
    folder.append_event("stage_finished", stage="fit_encoder", fingerprint="x")
    folder.append_event("run_started")
    folder.append_event("stage_finished", stage="prepare_data", fingerprint="x")
    assert list(unfinished_keys(shares, folder.path)) == [each.key for each in shares[1:]]
    for _ in registry.floors():
        folder.append_event("stage_finished", stage="fit_encoder", fingerprint="x")
        folder.append_event("stage_finished", stage="metrics", fingerprint="x")
    assert list(unfinished_keys(shares, folder.path)) == [shares[2].key]
    folder.append_event("stage_finished", stage="fit_encoder", fingerprint="x")
    assert list(unfinished_keys(shares, folder.path)) == []


class InThisProcess:
    """A launcher whose attempts run here, one per look; they fail or interrupt as the test says."""

    def __init__(self, suite: Suite, runs_dir: Path, *, free: int = 9, spoil: Callable[[str], int | None]) -> None:
        self.specs = {each.key: each.spec for each in suite.runs}
        self.runs_dir, self._free, self.spoil = runs_dir, free, spoil
        self.line: list[Attempt] = []
        self.waves: list[list[str]] = []
        self.stopped = 0

    def describe(self) -> str:
        return "here"

    def free(self) -> int:
        return self._free - len(self.line)

    def start(self, attempts: Sequence[Attempt]) -> None:
        self.waves.append([each.name for each in attempts])
        self.line += attempts

    def watch(self) -> list[Started | Ended]:
        attempt = self.line.pop(0)
        if (code := self.spoil(attempt.name)) is not None:
            attempt.log.parent.mkdir(parents=True, exist_ok=True)
            attempt.log.write_text("== collm run\nwhat the command said\n")
            return [Ended(attempt.name, code)]
        options = RunOptions(self.runs_dir, self.runs_dir / "cache", device="cpu", threads=1)
        run_spec(self.specs[attempt.name], default_registry(), options, run=attempt.name)
        return [Started(attempt.name, "here"), Ended(attempt.name, 0)]

    def stop(self) -> None:
        self.stopped += 1


def launched(folder: Path, suite: Suite | ResolvedSpec, launcher: InThisProcess):
    request = RunsRequest(("run", "suite.yaml"), folder / "runs", folder / "cache", folder, {})
    return launch_runs(suite, default_registry(), launcher, request)


def test_runs_of_one_wave_share_nothing_that_is_not_done(tmp_path: Path) -> None:
    suite = load(tmp_path, SUITE)
    launcher = InThisProcess(suite, tmp_path / "runs", spoil=lambda name: None)
    outcome = launched(tmp_path, suite, launcher)
    assert [each.results.run for each in outcome.runs] == ["a", "again", "wide", "late"]
    assert (outcome.failed, launcher.stopped) == ({}, 1)
    # Seed 1 fits floors of its own, `wide` an encoder of its own; `again` takes everything from `a`.
    assert launcher.waves == [["a"], ["again", "wide", "late"]]
    assert not any(each.reused for each in outcome.runs)
    again = InThisProcess(suite, tmp_path / "runs", spoil=lambda name: None)
    assert all(each.reused for each in launched(tmp_path, suite, again).runs)
    assert again.waves == []


def test_a_failed_run_is_named_with_its_log_and_the_next_one_does_the_shared_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = load(tmp_path, SUITE)
    launcher = InThisProcess(suite, tmp_path / "runs", spoil=lambda name: {"a": 1, "late": -9}.get(name))
    caplog.set_level(logging.INFO, "collm")
    outcome = launched(tmp_path, suite, launcher)
    assert [each.results.run for each in outcome.runs] == ["again", "wide"]
    assert [wave[0] for wave in launcher.waves][:2] == ["a", "again"]
    assert "exit code 1; the end of " in outcome.failed["a"]
    assert "what the command said" in outcome.failed["a"]
    assert "== collm" not in outcome.failed["a"]
    assert "killed (SIGKILL)" in outcome.failed["late"]
    assert "run a: failed in" in caplog.text
    assert "(1 of 4)" in caplog.text


def test_a_command_that_ends_well_without_a_run_is_a_failure(tmp_path: Path) -> None:
    suite = load(tmp_path, SUITE)
    launcher = InThisProcess(suite, tmp_path / "runs", spoil=lambda name: 0)
    assert "left no finished run" in launched(tmp_path, suite, launcher).failed["a"]


def test_an_interrupt_ends_the_workers_and_says_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    suite = load(tmp_path, SUITE)

    def interrupt(name: str) -> int | None:
        if name != "a":
            raise KeyboardInterrupt
        return None

    launcher = InThisProcess(suite, tmp_path / "runs", free=1, spoil=interrupt)
    caplog.set_level(logging.INFO, "collm")
    with pytest.raises(KeyboardInterrupt):
        launched(tmp_path, suite, launcher)
    assert launcher.stopped == 1
    assert "1 of 4 runs are finished; ending again; the same command continues again, wide, late" in caplog.text


def test_one_spec_fails_as_it_does_without_a_launcher(tmp_path: Path) -> None:
    suite = load(tmp_path, SUITE)
    launcher = InThisProcess(suite, tmp_path / "runs", spoil=lambda name: 1)
    with pytest.raises(RunError, match=r"exit code 1; the end of "):
        launched(tmp_path, suite.runs[0].spec, launcher)
