"""`score.py` of an export gives the run's scores without collm; the folder goes to a hub."""

from __future__ import annotations

import csv
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
import yaml
from exported import alone
from generated import call, write_data
from model_folders import write_llama
from todays_models import write_folder

SUITE = """\
name: alone
base:
  name: alone
  dataset: {name: movielens-small, path: data, item_attributes: [genres]}
  history: {max_items: 4}
  encoder: &mf {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 16
    max_valid_rows: 40
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate: {resamples: 20}
runs:
  mf: {}
  sentencepiece: {backbone: {name: hf, path: llama, dtype: float32}, prompt.leading_space: true}
  chat: {backbone: {name: hf, path: qwen3, dtype: float32}, prompt.chat: true}
  short: {backbone.max_prompt_tokens: 150}
  text-only: {encoder: null, tuning: {name: text-only, batch_size: 4, max_rows: 16, max_valid_rows: 40, text: *step}}
  shown: {encoder: null, tuning: {name: none, examples: 2}, answer.readout: yes_logit}
  sasrec: {encoder: {name: sasrec, fit: {epochs: 2}}, mapping.tokens: 2}
  din: {encoder: {name: din, fit: {epochs: 2}}}
  ui-token: {encoder: {name: id-tokens, n_tokens: 2}}
  words:
    encoder: {name: binllm, encoder: *mf, fit: {epochs: 2}}
    tuning: {name: words, batch_size: 4, max_rows: 16, max_valid_rows: 40, text: *step, collaborative: *step}
  named:
    encoder: null
    encoders: {cf: *mf, genre: {name: attribute-tokens, item: genres}}
    prompt:
      name: custom
      quote: "'"
      title_join: ' | '
      template: 'A {{brace}}: {history+item.cf}.[[ Taste {user.cf}.]] New: {target}[[ {item.cf} {item.genre}]]? #A:'
"""
NAMES = list(yaml.safe_load(SUITE)["runs"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    root = tmp_path_factory.mktemp("alone")
    write_data(root / "data")
    (root / "llama").mkdir()
    write_llama(root / "llama")
    write_folder("qwen3", root / "qwen3")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = call(root, "run", "suite.yaml", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    runs = {each["run"]: root / each["run_dir"] for each in json.loads(done.stdout)["runs"]}
    return root, runs


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_64_rows_are_the_runs(finished: tuple[Path, dict[str, Path]], name: str) -> None:
    root, runs = finished
    folder = root / f"exported-{name}"
    done = call(root, "export", str(runs[name]), str(folder))
    assert done.returncode == 0, done.stderr
    assert len((folder / "score.py").read_text(encoding="utf-8").splitlines()) < 80
    scored = alone(root, folder)
    assert scored.returncode == 0, scored.stderr
    rows = list(csv.DictReader(scored.stdout.splitlines()))
    stored = pl.read_parquet(runs[name] / "scores.parquet").filter(pl.col("split") == "test")
    logits = {(row["user"], row["item"]): row["logit"] for row in stored.iter_rows(named=True)}
    assert len(rows) == min(64, len(logits))
    assert max(abs(float(row["logit"]) - logits[row["user"], row["item"]]) for row in rows) < 1e-4
    assert len({round(float(row["logit"]), 5) for row in rows}) > 3, "the rows do not tell scores apart"


def test_new_rows_of_ids_and_what_cannot_be_known(finished: tuple[Path, dict[str, Path]]) -> None:
    root, runs = finished
    (root / "rows.jsonl").write_text(
        '{"user": "3", "item": "7", "history": ["1", "2"]}\n{"user": "nobody", "item": "7"}\n', encoding="utf-8"
    )
    scored = alone(root, root / "exported-mf", "rows.jsonl")
    known, unknown = csv.DictReader(scored.stdout.splitlines())
    assert known["logit"] != unknown["logit"]
    # Without a history the unknown user is what collm makes of one.
    (root / "pairs.csv").write_text("user,item\nnobody,7\n", encoding="utf-8")
    done = call(root, "score", str(runs["mf"]), "pairs.csv", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert abs(pl.read_csv(root / "out.csv")["logit"][0] - float(unknown["logit"])) < 1e-4
    refused = alone(root, root / "exported-sasrec", "rows.jsonl")
    assert "slot user: its vectors depend on the row, and only collm computes them" in refused.stderr
    (root / "rows.jsonl").write_text('{"user": "3", "item": "999"}\n', encoding="utf-8")
    assert "item 999: not in items.csv" in alone(root, root / "exported-mf", "rows.jsonl").stderr


def test_the_card_has_all_that_builds_the_prompt(finished: tuple[Path, dict[str, Path]]) -> None:
    root, _ = finished
    card = json.loads((root / "exported-named" / "collm.json").read_text(encoding="utf-8"))
    prompt = card["prompt"]
    assert prompt["template"] == (
        "A {{brace}}: {history+item.cf}. Taste {user.cf}. New: {target} {item.cf} {item.genre}? #A:"
    )
    assert (prompt["title_open"], prompt["title_join"], prompt["empty_history"]) == ("'", " | ", "none so far")
    assert (prompt["history_items"], prompt["max_tokens"]) == (4, 1024)
    assert (
        card["mapping"]["user.cf"]["architecture"] == "Linear(5, 50) - ReLU - Linear(50, 32) on (vector - mean) / std"
    )
    names = [f"cf.mlps.both.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")]
    assert card["mapping"]["user.cf"]["layers"] == [names]
    history = {"name": "history.cf", "file": "vectors", "vectors": "item.cf", "by": "item", "mapping": "item.cf"}
    assert prompt["slots"]["history+item.cf"] == history
    assert card["parity"]["score_py"]["rows"] == 8


def test_the_model_card_says_what_a_reader_asks(finished: tuple[Path, dict[str, Path]]) -> None:
    root, _ = finished
    text = (root / "exported-mf" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head == {"library_name": "transformers", "tags": ["recommendation", "collm"]}
    for said in ("test, all rows", "| bias-logistic |", "its licence is not known here", "- split per-user-time:"):
        assert said in text
    assert str(root) not in text
    assert str(root) not in (root / "exported-mf" / "spec.yaml").read_text(encoding="utf-8")
    (root / "qwen3" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model\n", encoding="utf-8")
    done = call(root, "export", str(finished[1]["chat"]), "with-licence")
    assert done.returncode == 0, done.stderr
    assert "license: apache-2.0" in (root / "with-licence" / "README.md").read_text(encoding="utf-8")


def test_a_template_that_the_script_cannot_build_leaves_it_out(finished: tuple[Path, dict[str, Path]]) -> None:
    root, _ = finished
    spec = yaml.safe_load(SUITE)["base"] | {
        "name": "soft",
        "encoder": {"name": "soft-prompt"},
        "prompt": {"name": "prompt4nr"},
    }
    (root / "soft.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    done = call(root, "run", "soft.yaml", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    done = call(root, "export", json.loads(done.stdout)["run_dir"], "exported-soft")
    assert done.returncode == 0, done.stderr
    assert "score.py is left out: the template puts words between the tokens of a slot" in " ".join(done.stderr.split())
    assert not (root / "exported-soft" / "score.py").exists()


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload asks for; all files go into the commit itself."""

    received: list[tuple[str, bytes, str]] = []  # noqa: RUF012 - one per server
    refuses = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append((self.path, body, self.headers.get("Authorization", "")))
        if self.refuses:
            self._answer(403, {"error": "no write access"})
        elif self.path.endswith("/repos/create"):
            self._answer(200, {"url": "https://huggingface.co/someone/model", "name": "someone/model"})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            self._answer(
                200,
                {
                    "success": True,
                    "commitOid": "0" * 40,
                    "commitUrl": "https://huggingface.co/someone/model/commit/0000",
                },
            )
        else:
            self._answer(200, {})

    def do_GET(self) -> None:
        self._answer(404, {"error": "no such page"})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize("refuses", [False, True])
def test_an_export_goes_to_the_hub(finished: tuple[Path, dict[str, Path]], tmp_path: Path, refuses: bool) -> None:
    root, runs = finished
    hub = type("Hub", (_Hub,), {"received": [], "refuses": refuses})
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_TOKEN": "hf_secret",
        "HF_HOME": str(tmp_path),
    }
    settings |= {"HF_HUB_DISABLE_XET": "1"}
    done = call(root, "export", str(runs["mf"]), str(tmp_path / "out"), "--push-to-hub", "someone/model", **settings)
    server.shutdown()
    assert (tmp_path / "out" / "model").is_dir()
    assert "hf_secret" not in done.stdout + done.stderr
    if refuses:
        assert done.returncode == 1
        assert "someone/model: the hub did not take" in " ".join(done.stderr.split())
        return
    assert done.returncode == 0, done.stderr
    paths = [path for path, _, _ in hub.received]
    asked = json.loads(hub.received[paths.index("/api/repos/create")][1])
    assert "private" in (asked.get("visibility"), "private" if asked.get("private") else "")
    commit = next(body for path, body, _ in hub.received if "/commit/" in path)
    sent = {json.loads(line)["value"].get("path") for line in commit.splitlines() if line}
    assert {"README.md", "collm.json", "score.py", "model/model.safetensors", "users.csv"} <= sent
    assert "https://huggingface.co/someone/model/commit/0000" in done.stderr


def test_names_of_the_hub_are_checked_before_anything_is_loaded(finished: tuple[Path, dict[str, Path]]) -> None:
    root, runs = finished
    done = call(root, "export", str(runs["mf"]), "never", "--push-to-hub", "model")
    assert (done.returncode, (root / "never").exists()) == (2, False)
    assert "'model': not the name of a repository of the hub, which is OWNER/NAME" in " ".join(done.stderr.split())
    done = call(root, "export", str(runs["mf"]), "never", "--public")
    assert "--public: belongs to --push-to-hub" in " ".join(done.stderr.split())
