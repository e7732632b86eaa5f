"""The command line as a user meets it: streams, exit codes, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from collm import errors
from collm.cli import context, main
from collm.cli.main import call
from collm.component import Component
from collm.contracts.encoder import EncoderConfig
from collm.registry import registry_of

SPEC = "name: x\ndataset: {name: movielens-small}\nencoder: {name: mf}\n"

FIVE_MISTAKES = """\
name: x
sede: 1
dataset: {name: movielens-smal}
encoder: {name: mf-bais}
slices: {warm: at-least-4}
history: {max_items: -1}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return str(path)


def test_five_mistakes_are_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(FIVE_MISTAKES, encoding="utf-8")
    assert call(["validate", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith(str(path))]
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in lines] == ["2", "3", "4", "5", "6"]
    for hint in ("'seed'", "'movielens-small'", "'mf-bias'", "at-least-3", "-1"):
        assert hint in captured.err


def test_problems_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(FIVE_MISTAKES, encoding="utf-8")
    assert call(["validate", str(path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert [problem["line"] for problem in answer["problems"]] == [2, 3, 4, 5, 6]


def test_valid_spec(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", spec]) == 0
    assert "valid, 1 run" in capsys.readouterr().out


def test_settings_without_effect_are_named(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    windows = "evaluate={protocol: prequential, window: 1 month, update_epochs: 3}"
    untuned = ("encoder=null", "backbone={name: tiny}", "prompt={name: movie}")
    settings = (*untuned, "tuning={name: none, max_rows: 5, lora: {r: 4}}", windows)
    assert call(["validate", spec, *(word for each in settings for word in ("--set", each))]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no step, so these settings have no effect: tuning.max_rows, tuning.lora." in said
    assert "Under the policy frozen nothing is updated, so evaluate.update_epochs has no effect" in said
    assert call(["validate", spec, "--set", "evaluate={ranking: {shortlist: 7}}"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "Without a language model nothing is ranked again, so evaluate.ranking.shortlist has no effect" in said
    assert call(["validate", spec, "--set", windows, "--set", "evaluate.policy=encoder"]) == 0
    assert "no effect" not in capsys.readouterr().err


def test_resolved_spec_names_sources_and_reads_back(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["validate", spec, "--resolved", "--set", "encoder.embedding_size=7"]) == 0
    text = capsys.readouterr().out
    (size,) = [line for line in text.splitlines() if "embedding_size" in line]
    assert "7" in size
    assert "# --set" in size
    again = tmp_path / "again.yaml"
    again.write_text(text, encoding="utf-8")
    hash_line = text.splitlines()[0].split()[-1]
    assert call(["validate", str(again)]) == 0
    assert hash_line in capsys.readouterr().out


def test_overrides_are_checked(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", spec, "--set", "encoder.embeding_size=7"]) == 2
    assert "embedding_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate", "missing.yaml"], "missing.yaml: no such file"),
        (["validate", "."], ".: is a folder, not a YAML file"),
        (["fetch", "smolm2-135m"], "unknown download 'smolm2-135m'; did you mean 'smollm2-135m'? downloadable: "),
        (["fetch", "mf"], "'mf' has no files to download; downloadable: "),
        (["plugins", "encodr"], "unknown kind 'encodr'; kinds: dataset, encoder"),
        (["plugins", "encoder", "mg"], "did you mean 'mf'"),
        (["runs", "--runs-dir", "nowhere"], "nowhere: no such folder"),
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "Missing argument 'SPEC'"),
        (["run", "x.yaml", "--threads", "0"], "--threads"),
    ],
)
def test_bad_usage_ends_with_2_and_says_why(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.RunError("loss is NaN at step 3"), 1, "loss is NaN at step 3\n"),
        (errors.DataError("no file"), 1, "no file\n"),
        (errors.SpecError("bad"), 2, "bad\n"),
        (errors.PluginError("broken"), 3, "broken\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues from the last checkpoint\n"),
        (ZeroDivisionError("oops"), 1, "unexpected ZeroDivisionError: oops\n"),
    ],
)
def test_every_error_ends_in_its_code_and_without_a_traceback(
    error: BaseException,
    code: int,
    words: str,
    spec: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(context.CliState, "load", fail)
    assert call(["validate", spec]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(words)
    assert "Traceback" not in captured.err
    if not isinstance(error, KeyboardInterrupt):
        assert call(["--debug", "validate", spec]) == code
        assert "Traceback" in capsys.readouterr().err


def test_long_message_is_not_wrapped(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "word " * 200

    def fail(*_: Any, **__: Any) -> None:
        raise errors.SpecError(message)

    monkeypatch.setattr(context.CliState, "load", fail)
    call(["validate", spec])
    assert capsys.readouterr().err == message + "\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_on_a_full_disk_is_named() -> None:
    script = "from collm.cli.main import main; import sys; sys.argv = ['collm', 'schema']; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "no space left on the disk of the output; free some and repeat the command\n"


def test_closed_pipe_is_quiet() -> None:
    script = "import sys; from collm.cli.main import call; sys.exit(call(['schema']))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr


def test_plugins_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plugins", "--json"]) == 0
    listed = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)["plugins"]}
    assert {"kind": "encoder", "name": "mf"} in listed["mf"]["components"]
    assert call(["plugins", "encoder", "mf", "--json"]) == 0
    fields = {field["name"]: field for field in json.loads(capsys.readouterr().out)["fields"]}
    assert fields["embedding_size"]["description"]


def test_schema_is_json_schema_of_specs(capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    assert call(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"name": "x", "dataset": {"name": "movielens-small"}, "encoder": {"name": "mf"}}
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(good | {"encoder": {"name": "no-such"}})) != []


class FetchedConfig(EncoderConfig):
    """Settings of a component that needs a download."""


def fetch_it(build_context: Any) -> Path:
    return Path(build_context.cache_dir) / "weights"


def test_fetch_calls_the_component_with_the_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    component = Component(
        kind="encoder",
        name="far",
        factory=f"{__name__}:fetch_it",
        config=FetchedConfig,
        summary="A component that needs a download.",
        gives=frozenset({"scores"}),
        fetch=f"{__name__}:fetch_it",
    )
    monkeypatch.setattr(context.CliState, "registry", lambda _: registry_of([component]))
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path))
    assert call(["fetch"]) == 0
    assert "far" in capsys.readouterr().out
    assert call(["fetch", "far"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"far: {tmp_path / 'weights'}\n"
    assert "fetching into" in captured.err


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLLM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert context.cache_dir() == platformdirs.user_cache_path("collm", appauthor=False)
    if sys.platform == "linux":
        assert context.cache_dir() == tmp_path / "collm"
    monkeypatch.setenv("COLLM_CACHE", "here")
    assert context.cache_dir() == Path("here").absolute()


def test_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "collm", "--version"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.stdout.startswith("collm ")
    assert done.returncode == 0


def test_help_lists_every_command() -> None:
    assert set(main.command_tree().commands) == {
        "run", "validate", "prompt", "report", "score", "scores", "recommend", "export", "plugins",
        "fetch", "schema", "bench", "data", "doctor", "study", "plugin", "runs", "serve", "update",
    }  # fmt: skip
