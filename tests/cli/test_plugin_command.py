"""`collm plugin new` and `collm plugin check` as a user meets them: streams, exit codes, messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from collm.cli import context
from collm.cli.main import call
from collm.component import Component
from collm.contracts.metric import MetricConfig, MetricValue
from collm.plugins import PluginStatus
from collm.registry import Registry, build_registry, default_registry, registry_of


class AlwaysOne:
    """A metric that looks at nothing."""

    higher_is_better = True
    unit = "rows"

    def __init__(self, config) -> None:
        self.config = config

    def compute(self, rows) -> MetricValue:
        return MetricValue(1.0, len(rows.user))

    def resample(self, rows, user_weights):
        raise ZeroDivisionError("no resampling")


BROKEN = Component(
    kind="metric", name="always-one", factory=f"{__name__}:AlwaysOne", config=MetricConfig, summary="Always 1."
)


@pytest.fixture
def broken_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.CliState, "registry", lambda self: registry_of([BROKEN], plugin="strange"))


def test_new_writes_beside_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["plugin", "new", "encoder", "my-model"]) == 0
    captured = capsys.readouterr()
    written = captured.out.split()
    assert "collm-my-model/collm_my_model/encoder.py" in written
    assert sorted(written) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    )
    assert "pip install -e './collm-my-model[dev]'" in captured.err
    assert call(["plugin", "new", "encoder", "my-model"]) == 2
    assert "collm-my-model exists" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["new", "check"])
def test_unknown_kind(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", command, "enkoder", "x"]) == 2
    assert "unknown kind 'enkoder'; kinds: dataset, encoder" in capsys.readouterr().err


def test_check_of_a_sound_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "metrics", "auc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("metric auc, plugin 'metrics' (collm ")
    assert lines[0].endswith("13 of 13 checks pass")
    assert {line.split()[0] for line in lines[1:]} == {"ok"}


def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "encoder", "mf", "--set", "embedding_size=4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["kind"], answer["name"], answer["ok"]) == (1, "encoder", "mf", True)
    assert all(each["ok"] and not each["fault"] and each["promise"] for each in answer["checks"])
    assert {"scores_are_float32_logits_per_row", "padding_and_unseen_ids_are_finite"} <= {
        each["name"] for each in answer["checks"]
    }


def test_broken_promises_are_named_and_end_with_3(broken_metric: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "metric", "always-one"]) == 3
    text = capsys.readouterr().out
    assert "9 of 13 checks pass" in text
    assert "higher_is_better=True, but perfect scores give 1.0" in text
    assert "compute accepted the score nan" in text
    assert "raised ZeroDivisionError: no resampling (test_plugin_command.py:" in text


def test_broken_promises_as_json(broken_metric: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--debug", "plugin", "check", "metric", "always-one", "--json"]) == 3
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["ok"] is False
    assert sum(not each["ok"] for each in answer["checks"]) == 4
    assert "Traceback" in captured.err


def test_mistakes_in_settings_are_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "encoder", "mf", "--set", "embedding_size=many"]) == 2
    assert "embedding_size: got 'many', must be a whole number" in capsys.readouterr().err
    assert call(["plugin", "check", "backbone", "hf"]) == 2
    assert "give path (a model folder) or checkpoint (OWNER/NAME on the hub)" in capsys.readouterr().err


def test_unknown_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "encoder", "mff"]) == 2
    assert "unknown encoder 'mff' (did you mean 'mf'?)" in capsys.readouterr().err


def test_plugin_that_does_not_load_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = "encoder 'mine': config class MineSettings has fields without a description: depth"
    monkeypatch.setattr(context.CliState, "registry", lambda self: with_broken_plugin(cause))
    assert call(["plugin", "check", "encoder", "mine"]) == 3
    assert f"plugin 'mine' (collm-mine 0.1.0) did not load: {cause}" in capsys.readouterr().err


def with_broken_plugin(cause: str) -> Registry:
    host = default_registry().host
    status = PluginStatus("mine", "collm-mine", "0.1.0", ok=False, cause=cause, traceback="", module="collm_mine")
    return build_registry(replace(host, statuses=(*host.statuses, status)))


VECTORS = """\
name: own
dataset: {name: tiny, n_users: 20, n_items: 30, rows_per_user: 12}
encoder: {name: vectors, users: u.npy, user_ids: u.txt, items: i.npy, item_ids: i.txt}
"""


@pytest.fixture
def own_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose encoder reads vectors of its dataset's ids, in the working directory."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path / "cache"))
    for side, n in (("u", 20), ("i", 30)):
        np.save(f"{side}.npy", np.random.default_rng(n).normal(size=(n, 4)))
        Path(f"{side}.txt").write_text("".join(f"{side}{number}\n" for number in range(1, n + 1)))
    Path("own.yaml").write_text(VECTORS)
    return Path("own.yaml")


def test_check_on_rows_of_ones_own(own_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plugin", "check", "encoder", "vectors", "--dataset", str(own_spec), "--json"]
    assert call(command) == 0
    captured = capsys.readouterr()
    assert all(each["ok"] for each in json.loads(captured.out)["checks"])
    assert " training rows of dataset 'tiny'" in captured.err
    # `--set` lies over the spec's settings, and files of other ids fail on these rows: they are really used.
    assert call([*command, "--set", "score=cosine"]) == 0
    capsys.readouterr()
    Path("u.txt").write_text("".join(f"someone-{number}\n" for number in range(20)))
    assert call(command) == 3
    faults = [each["fault"] for each in json.loads(capsys.readouterr().out)["checks"] if not each["ok"]]
    assert any("the data has none of its 20 user ids: the file has 'someone-0'" in fault for fault in faults)


def test_check_of_another_encoder_on_rows_of_ones_own(own_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "encoder", "mf", "--dataset", str(own_spec), "--set", "embedding_size=4"]) == 0
    assert "27 of 27 checks pass" in capsys.readouterr().out


def test_rows_of_ones_own_are_for_encoders(own_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugin", "check", "metric", "auc", "--dataset", str(own_spec)]) == 2
    assert "rows of a dataset are for checks of encoders; 'auc' is a metric" in capsys.readouterr().err
