"""`collm serve` as a client sees it: the numbers of the command line, its sentences, and who may ask."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import command, write_data
from served import ServedRun

from collm.errors import CollmError
from collm.trained import TrainedModel, open_run
from collm.trained.pairs_file import read_pairs
from collm.trained.recommend import recommend

BASE = """\
name: {name}
dataset: {{name: movielens-small, path: data}}
encoder: {{name: mf-bias, fit: {{epochs: 1}}}}
evaluate: {{resamples: 0}}
"""
LANGUAGE = """\
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning: {name: default, batch_size: 16, text: {epochs: 1, warmup_steps: 2}, collaborative: {epochs: 1, warmup_steps: 2}}
"""
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs: an encoder alone, and CoLLM."""
    root = tmp_path_factory.mktemp("serving")
    write_data(root / "data")
    for name, more in (("mf", ""), ("hybrid", LANGUAGE)):
        (root / f"{name}.yaml").write_text(BASE.format(name=name) + more, encoding="utf-8")
        done = subprocess.run(
            command("run", f"{name}.yaml"), cwd=root, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    return root


def run_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "runs").glob(f"{name}-[0-9a-f]*")
    return found


@pytest.fixture(scope="module", params=["mf", "hybrid"])
def both(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of each run, and the same run opened here."""
    path = run_of(folder, request.param)
    model = open_run(path, cache_dir=tmp_path_factory.mktemp("cache"), device="cpu")
    with ServedRun(folder, path.name, "--device", "cpu", "--max-rows", "50") as server:
        yield server, model
        assert server.stop() == 0, server.lines
        assert server.lines[-1].startswith("stopped: ")
        assert "Traceback" not in "\n".join(server.lines)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServedRun]:
    with ServedRun(folder, run_of(folder, "mf").name, "--device", "cpu", "--max-rows", "50") as found:
        yield found


def test_scores_are_those_of_the_run(both: tuple[ServedRun, TrainedModel]) -> None:
    server, model = both
    users, items = ["1", "1", "stranger", "2", "1"], ["3", "4", "5", "film-x", "film-x"]
    pairs: list[dict[str, Any]] = [
        {"user": user, "item": item, "title": "New" if item == "film-x" else None}
        for user, item in zip(users, items, strict=True)
    ]
    reply = server.ask("/score", {"pairs": pairs})
    assert reply.status == 200, reply.content
    found = reply.content["pairs"]
    wanted = model.pair_logits(users, items, titles={"film-x": "New"})
    np.testing.assert_allclose([pair["logit"] for pair in found], wanted, atol=1e-6)
    np.testing.assert_allclose([pair["score"] for pair in found], 1 / (1 + np.exp(-wanted.astype(float))), atol=1e-6)
    assert [(pair["user"], pair["item"]) for pair in found] == list(zip(users, items, strict=True))
    assert [pair["user_known"] for pair in found] == [True, True, False, True, True]
    assert [pair["item_known"] for pair in found] == [True, True, True, False, False]
    assert [pair["cold"] for pair in found] == [False, False, True, True, True]
    assert found[0]["user_train_rows"] == model.data.user_train_rows[model.user_places.of(["1"])[0]] > 0
    assert found[0]["item_train_rows"] == model.data.item_train_rows[model.item_places.of(["3"])[0]] > 0


def test_times_change_the_history_as_on_the_command_line(both: tuple[ServedRun, TrainedModel]) -> None:
    server, model = both
    times = [1_000_150, 1_001_500, 1_009_000]
    reply = server.ask("/score", {"pairs": [{"user": 3, "item": 7, "time": time} for time in times]})
    wanted = model.pair_logits(["3"] * 3, ["7"] * 3, times)
    np.testing.assert_allclose([pair["logit"] for pair in reply.content["pairs"]], wanted, atol=1e-6)
    if model.language is not None:
        assert wanted[0] != wanted[2]


def test_recommendations_are_those_of_the_run(both: tuple[ServedRun, TrainedModel]) -> None:
    server, model = both
    for user, shortlist in (("3", 6), ("stranger", 8), ("4", 0)):
        reply = server.ask("/recommend", {"user": user, "k": 4, "shortlist": shortlist})
        assert reply.status == 200, reply.content
        wanted = recommend(model, user, k=4, shortlist=shortlist)
        found = reply.content
        assert [item["item"] for item in found["items"]] == [item.item for item in wanted.items]
        np.testing.assert_allclose(
            [item["probability"] for item in found["items"]], [item.probability for item in wanted.items], atol=1e-6
        )
        assert tuple(found["history"]) == wanted.history
        assert (found["n_candidates"], found["n_ranked"]) == (wanted.n_candidates, wanted.n_ranked)
        assert found["shortlist_by"] == wanted.shortlist_by
        assert bool(found["notes"]) is (user == "stranger")


def test_clients_at_once_keep_their_own_titles_and_rows(both: tuple[ServedRun, TrainedModel]) -> None:
    """The same unknown id under another title in each request: scored together, told apart."""
    server, model = both
    titles = [f"Film {'very ' * number}new" for number in range(12)]
    replies: list[Any] = [None] * len(titles)

    def work(number: int) -> None:
        pairs = [{"user": "5", "item": "film-x", "title": titles[number]}, {"user": f"{number + 1}", "item": "9"}]
        replies[number] = server.ask("/score", {"pairs": pairs})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(titles))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, reply in enumerate(replies):
        wanted = model.pair_logits(["5", f"{number + 1}"], ["film-x", "9"], titles={"film-x": titles[number]})
        np.testing.assert_allclose([pair["logit"] for pair in reply.content["pairs"]], wanted, atol=1e-6)


def test_health_and_openapi(both: tuple[ServedRun, TrainedModel]) -> None:
    server, model = both
    health = server.ask("/health").content
    assert (health["status"], health["run"]) == ("ok", model.path.name)
    assert (health["users"], health["items"]) == (model.data.n_users, model.data.n_items)
    assert health["backbone"] == ("tiny" if model.language else None)
    assert health["waiting"] == {"requests": 0, "rows": 0, "max_rows": 10_000}
    described = server.ask("/openapi.json").content
    assert sorted(described["paths"]) == ["/health", "/recommend", "/score"]
    assert "503" in described["paths"]["/score"]["post"]["responses"]
    assert "swagger" in server.ask("/docs").content


@pytest.mark.parametrize(
    ("path", "sent", "status", "sentence"),
    [
        ("/score", "{", 400, "the body is no JSON: "),
        ("/score", "[" * 100_000, 400, "the body cannot be read"),
        ("/score", '{"pairs":' + "[" * 900 + "]" * 900 + "}", 422, "the body is nested too deeply"),
        ("/score", "[]", 422, "the body must be a JSON object"),
        ("/score", "{}", 422, "pairs: required field is missing"),
        ("/score", '{"pairs": []}', 422, "pairs: got an empty list"),
        (
            "/score",
            '{"pairs": [{"usr": 1, "item": 2}]}',
            422,
            "pairs[0].usr: unknown field 'usr'; did you mean 'user'?",
        ),
        (
            "/score",
            '{"pairs": [{"user": 1.5, "item": 2}]}',
            422,
            "pairs[0].user: got the number 1.5, must be text or a",
        ),
        (
            "/score",
            '{"pairs": [{"user": NaN, "item": 2}]}',
            422,
            "pairs[0].user: got the number nan, must be text or a",
        ),
        (
            "/score",
            '{"pairs": [{"user": true, "item": 2}]}',
            422,
            "got the boolean true, must be text or a whole number",
        ),
        ("/score", '{"pairs": [{"user": "\\ud800", "item": 2}]}', 422, "half of a surrogate pair"),
        (
            "/score",
            '{"pairs": [{"user": 1, "item": 2, "time": 4}, {"user": 1, "item": 2}]}',
            422,
            "pair 2: time must be",
        ),
        (
            "/score",
            '{"pairs": [{"user": 1, "item": "x", "title": "A"}, {"user": 2, "item": "x", "title": "B"}]}',
            422,
            "pair 1: item 'x' has the title 'A' here and 'B' in another pair",
        ),
        (
            "/score",
            json.dumps({"pairs": [{"user": 1, "item": 2}] * 51}),
            422,
            "51 in one request, at most 50 are taken",
        ),
        ("/recommend", '{"user": 1, "k": 0}', 422, "k: got the number 0, must be greater than or equal to 1"),
        ("/recommend", '{"user": 1, "time": "noon"}', 422, "time: got 'noon', must be a whole number"),
        ("/nowhere", "{}", 404, "POST /nowhere: there is no such path; there are POST /score"),
        ("/health", "{}", 405, "there is no such path"),
    ],
)
def test_bad_requests_get_a_sentence(server: ServedRun, path: str, sent: str, status: int, sentence: str) -> None:
    reply = server.ask(path, raw=sent.encode())
    assert reply.status == status, reply.content
    assert sentence in reply.content["error"]
    assert str(server._folder) not in reply.content["error"]


def test_sentences_are_those_of_the_command_line(
    server: ServedRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pairs").write_text('{"user": "nan", "item": ""}\n')
    reply = server.ask("/score", {"pairs": [{"user": "nan", "item": ""}]})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"user": "nan", "item": null}\n')
    with pytest.raises(CollmError) as fault:
        read_pairs(Path("pairs.jsonl"))
    told = str(fault.value).replace("pairs.jsonl: ", "pairs: ").replace("line 1", "pair 1")
    assert reply.content["error"] == told
    (tmp_path / "few.txt").write_text("1\nnot-there\n")
    name, runs = run_of(folder, "mf").name, str(folder / "runs")
    told = subprocess.run(
        command("recommend", name, "--runs-dir", runs, "--user", "3", "--candidates", "few.txt"),
        capture_output=True,
        text=True,
        check=False,
    ).stderr.strip()
    assert server.ask("/recommend", {"user": "3", "candidates": ["1", "not-there"]}).content["error"] == told


def test_a_body_is_limited_with_and_without_its_length(server: ServedRun) -> None:
    huge = b'{"pairs": "' + b"x" * 5 * 2**20 + b'"}'
    assert server.ask("/score", raw=huge).status == 413
    with socket.create_connection((server.host, server.port)) as client:
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(5):
            client.sendall(b"%x\r\n" % 2**20 + b"x" * 2**20 + b"\r\n")
        assert b" 413 " in client.recv(200)


def test_a_page_under_another_name_may_not_ask(server: ServedRun) -> None:
    reply = server.ask("/health", headers={"Host": "elsewhere.example"})
    assert reply.status == 421
    assert "Host: got 'elsewhere.example'" in reply.content["error"]
    form = server.ask("/score", raw=b"{}", headers={"Content-Type": "text/plain"})
    assert form.status == 415


def test_clients_that_go_away_cost_the_others_nothing(server: ServedRun) -> None:
    for sent in (b"POST /sc", b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"):
        client = socket.create_connection((server.host, server.port))
        client.sendall(sent)
        client.close()
    assert server.ask("/score", {"pairs": [{"user": 1, "item": 2}]}).status == 200


def test_a_token_is_asked_for(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    with ServedRun(folder, run_of(folder, "mf").name, "--token-file", str(file), "--host", "0.0.0.0") as server:
        assert server.ask("/health").status == 401
        assert server.ask("/health", headers={"Authorization": f"Bearer {TOKEN}x"}).status == 401
        assert server.ask("/health", headers={"Authorization": f"Basic {TOKEN}"}).status == 401
        assert server.ask("/health", headers={"Authorization": "Bearer ü".encode().decode("latin-1")}).status == 401
        carried = {"Authorization": f"Bearer {TOKEN}", "Host": "elsewhere.example"}
        assert server.ask("/health", headers=carried).status == 200
        described = server.ask("/openapi.json")
        assert described.status == 200
        assert described.content["paths"]["/score"]["post"]["security"]
        assert server.stop() == 0
        assert TOKEN not in "\n".join(server.lines)


@pytest.mark.parametrize(
    ("options", "variable", "sentence"),
    [
        (("--host", "0.0.0.0"), None, "other machines could ask, so a token is needed"),
        (("--host", "::"), None, "other machines could ask, so a token is needed"),
        (("--host", "0.0.0.0"), "short", "COLLM_SERVE_TOKEN: holds 5 characters; a token has at least 16"),
        (("--host", "no such host"), None, "--host no such host: is no address of this machine"),
        (("--token-file", "nowhere"), None, "--token-file nowhere: cannot be read (No such file or directory)"),
    ],
)
def test_an_address_that_cannot_be_served(
    folder: Path, options: tuple[str, ...], variable: str | None, sentence: str
) -> None:
    environment = os.environ | ({"COLLM_SERVE_TOKEN": variable} if variable else {})
    done = subprocess.run(
        command("serve", run_of(folder, "mf").name, *options),
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_port_in_use_is_named(folder: Path, server: ServedRun) -> None:
    done = subprocess.run(
        command("serve", run_of(folder, "mf").name, "--port", str(server.port)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert f"--port {server.port}: cannot be listened on (Address already in use)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_was_taken(folder: Path, number: int) -> None:
    with ServedRun(folder, run_of(folder, "hybrid").name, "--device", "cpu") as server:
        body = {"pairs": [{"user": user, "item": item} for user in range(1, 21) for item in range(1, 41)]}
        replies: list[Any] = []
        threads = [threading.Thread(target=lambda: replies.append(server.ask("/score", body))) for _ in range(3)]
        for thread in threads:
            thread.start()
        # All three are taken when they wait or are done.
        while (now := server.ask("/health").content)["answered"] + now["waiting"]["requests"] < 2:
            pass
        server.process.send_signal(number)
        for thread in threads:
            thread.join()
        assert server.process.wait(60) == 0
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert "stopped: 3 requests answered, 0 failed" in server.lines[-1]
