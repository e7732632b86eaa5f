"""`collm serve` under clients that misbehave: who may ask, how much, and how it ends."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from generated import call
from served import ServedRun, make_runs, run_of

from collm.cli.serve import require_libraries
from collm.errors import CollmError

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    make_runs(root)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServedRun]:
    with ServedRun(folder, run_of(folder, "mf").name, "--device", "cpu", "--max-rows", "50") as found:
        yield found


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
        (("--host", "no such host"), None, "--host no such host: is not an address of this machine"),
        (("--token-file", "nowhere"), None, "--token-file nowhere: cannot be read (No such file or directory)"),
    ],
)
def test_an_address_that_cannot_be_served(
    folder: Path, options: tuple[str, ...], variable: str | None, sentence: str
) -> None:
    environment = {"COLLM_SERVE_TOKEN": variable} if variable else {}
    done = call(folder, "serve", run_of(folder, "mf").name, *options, **environment)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(CollmError, match=r"`collm serve` needs uvicorn: pip install 'collm\[serve\]'"):
        require_libraries()


def test_a_full_queue_says_when_to_ask_again(folder: Path) -> None:
    body = {"pairs": [{"user": user, "item": item} for user in range(1, 21) for item in range(1, 41)]}
    with ServedRun(folder, run_of(folder, "hybrid").name, "--device", "cpu", "--queue-rows", "1") as server:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: server.ask("/score", body), range(8)))
        refused = [reply for reply in replies if reply.status == 503]
        assert refused
        assert {reply.status for reply in replies} == {200, 503}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert "wait for the model, at most 1 rows may; ask again in" in refused[0].content["error"]
        assert server.ask("/score", body).status == 200


def test_a_client_that_sends_half_a_body_does_not_keep_it_from_ending(folder: Path) -> None:
    with ServedRun(folder, run_of(folder, "mf").name, "--stop-seconds", "1") as server:
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            client.sendall(b"Content-Length: 100\r\n\r\n{")
            assert server.ask("/health").status == 200
            assert server.stop() == 0
        assert "not answered within --stop-seconds 1: 1 requests" in server.lines
        assert "Traceback" not in "\n".join(server.lines)


def test_a_port_in_use_is_named(folder: Path, server: ServedRun) -> None:
    done = call(folder, "serve", run_of(folder, "mf").name, "--port", str(server.port))
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
