"""`--launcher` and the options that belong to it; where an extra is not installed the message says what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collm.cli.launching import LaunchOptions, carried_variables, check_shared, make_launcher
from collm.cli.main import call
from collm.errors import UsageError
from collm.runs.remote import mirror_of

SPEC = "name: one\ndataset: {name: tiny}\nencoder: {name: mf-bias}\n"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return "spec.yaml"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--launcher", "rya"), "--launcher: got 'rya'; allowed are local, ray, ray:ADDRESS, slurm"),
        (("--launcher", "local:x"), "--launcher: got 'local:x'; allowed are"),
        (("--launcher", "ray:"), "--launcher: got 'ray:'; allowed are"),
        (("--launcher", "slurm:here"), "--launcher: got 'slurm:here'; allowed are"),
        (("--workers", "2"), "--workers: belongs to --launcher local"),
        (("--launcher", "ray", "--workers", "2"), "--workers: belongs to --launcher local"),
        (("--launcher", "local", "--gpus-per-run", "1"), "--gpus-per-run: belongs to --launcher ray or slurm"),
        (("--launcher", "ray", "--slurm", "time=3"), "--slurm: belongs to --launcher slurm"),
    ],
)
def test_options_that_do_not_fit_are_refused(spec: str, capsys, words: tuple[str, ...], said: str) -> None:
    assert call(["run", spec, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_named(spec: str, capsys, monkeypatch: pytest.MonkeyPatch, kind: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert call(["run", spec, "--launcher", kind]) == 2
    assert f"--launcher {kind} needs the package {module}: pip install 'collm[{kind}]'" in capsys.readouterr().err
    assert not Path("runs").exists() or not list(Path("runs").glob("*/events.jsonl"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "srun"),
        (("--slurm", "partition"), "--slurm partition: is not NAME=VALUE"),
        (("--gpus-per-run", "0.5"), "--gpus-per-run 0.5: SLURM gives whole GPUs"),
    ],
)
def test_slurm_says_what_is_wrong(spec: str, capsys, words: tuple[str, ...], said: str) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    assert call(["run", spec, "--launcher", "slurm", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_setting_of_sbatch_is_named(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    options = LaunchOptions("slurm:local", None, None, None, ("partiton=gpu",), None, None)
    with pytest.raises(UsageError, match=r"partiton.*partition"):
        make_launcher(options, tmp_path, n_tasks=1)


@pytest.mark.parametrize(
    ("workers", "device", "threads", "n_tasks", "said"),
    [
        (3, "cpu", 2, 9, "3 at once on cpu, processor threads of each: 2"),
        (3, "cuda:1", 2, 2, "2 at once on cuda:1, processor threads of each: 2"),
        (None, "cpu", None, 1, "1 at once on cpu, processor threads of each: 6"),
        (4, "cpu", None, 9, "4 at once on cpu, processor threads of each: 1"),
        (None, None, None, 9, "2 at once on cuda:0, cuda:1, processor threads of each: 3"),
        (3, None, None, 9, "3 at once on cuda:0, cuda:1, processor threads of each: 2"),
    ],
)
def test_devices_are_dealt_out_and_threads_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers, device, threads, n_tasks, said
) -> None:
    monkeypatch.setattr("collm.cli.launching.n_cores", lambda: 6)
    monkeypatch.setattr("collm.cli.launching.cuda_devices", lambda: ["cuda:0", "cuda:1"])
    options = LaunchOptions("local", workers, None, None, (), device, threads)
    assert make_launcher(options, tmp_path, n_tasks=n_tasks).describe() == said


def test_several_processes_of_one_run_and_a_launcher_exclude_each_other(
    spec: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collm.cli.run.meet", lambda device: type("Group", (), {"size": 2, "is_main": True})())
    assert call(["run", spec, "--launcher", "local"]) == 2
    assert "starts processes itself" in capsys.readouterr().err


def test_settings_of_collm_are_carried_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLM_CACHE", "/cache")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found = carried_variables()
    assert found["COLLM_CACHE"] == "/cache"
    assert "AWS_SECRET_ACCESS_KEY" not in found


STUDY = """\
name: two
base: spec.yaml
study: {objective: valid.auc, trials: 2, search: {encoder.embedding_size: [2, 4]}}
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--launcher", "rya"), "--launcher: got 'rya'; allowed are local, ray, ray:ADDRESS, slurm, slurm:local"),
        (("--launcher", "ray"), "--launcher ray: give --workers, the number of trials that run at once"),
        (("--launcher", "slurm:local"), "--launcher slurm:local: give --workers"),
        (("--gpus-per-run", "1"), "--gpus-per-run: belongs to --launcher ray or slurm"),
        (("--launcher", "local", "--slurm", "time=3"), "--slurm: belongs to --launcher slurm"),
        (
            ("--launcher", "local", "--set", "study.storage=sqlite:///one.db"),
            "sqlite is for one worker: use journal:PATH on one machine",
        ),
    ],
)
def test_options_of_a_study_that_do_not_fit_are_refused(
    spec: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    assert call(["study", "study.yaml", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path("runs", "launched").exists()


def test_clusters_need_a_folder_that_all_machines_see(tmp_path: Path) -> None:
    mirror = mirror_of("memory://bucket/runs", tmp_path)
    for launcher in ("ray", "slurm"):
        options = LaunchOptions(launcher, 2, None, None, (), None, None, workers_for=("ray", "slurm", "local"))
        check_shared(options, tmp_path / "runs", "collm study run")
        with pytest.raises(UsageError, match="runs is an object store; start `collm study run` on each"):
            check_shared(options, mirror, "collm study run")
    check_shared(LaunchOptions("local", 2, None, None, (), None, None), mirror, "collm run")
