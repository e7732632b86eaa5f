"""`collm serve` as a client sees it: the numbers of the command line, and its sentences."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import call
from served import ServedRun, make_runs, run_of

from collm.errors import CollmError
from collm.trained import TrainedModel, open_run
from collm.trained.pairs_file import read_pairs
from collm.trained.recommend import recommend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    make_runs(root)
    return root


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
        assert (found["n_rated"], found["prompts_differ"]) == (wanted.n_rated, wanted.prompts_differ)
        assert [item["shortlist_rank"] for item in found["items"]] == [item.shortlist_rank for item in wanted.items]
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
        ("/score", "{", 400, "the body is not JSON: "),
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
            "pairs: pair 2: item 'x' has the title 'B' here and 'A' in pair 1; give one",
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
    two = [{"user": "1", "item": "x", "title": title} for title in ("A", "B")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in two))
    with pytest.raises(CollmError) as fault:
        read_pairs(Path("pairs.jsonl"))
    told = str(fault.value).replace("pairs.jsonl: ", "pairs: ").replace("line ", "pair ")
    assert server.ask("/score", {"pairs": two}).content["error"] == told
    (tmp_path / "few.txt").write_text("1\nnot-there\n")
    name, runs = run_of(folder, "mf").name, str(folder / "runs")
    said = call(tmp_path, "recommend", name, "--runs-dir", runs, "--user", "3", "--candidates", "few.txt")
    answer = server.ask("/recommend", {"user": "3", "candidates": ["1", "not-there"]})
    assert answer.content["error"] == said.stderr.strip()


def test_requests_of_the_page_are_answered(server: ServedRun) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "using.md").read_text(encoding="utf-8")
    section = page.partition("## Serving\n")[2].partition("\n## ")[0].replace("\\\n", "")
    asked = re.findall(r"curl -s localhost:8000(/\w+)(?: -H '[^']*')?(?: +-d '([^']*)')?", section)
    assert [path for path, _ in asked] == ["/score", "/recommend", "/health"]
    for path, body in asked:
        assert server.ask(path, raw=body.encode() or None).status == 200
