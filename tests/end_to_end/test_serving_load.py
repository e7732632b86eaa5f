"""Many clients at once: nothing lost, nothing mixed up, and how long it takes beside one after the other."""

from __future__ import annotations

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from served import Reply, ServedRun, make_runs, run_of

CLIENTS, REQUESTS_EACH = 50, 6


def bodies() -> list[list[dict[str, object]]]:
    """The requests of each client: a few items of one user, other users and items by each."""
    generator = random.Random(3)
    return [
        [
            {"pairs": [{"user": f"{user}", "item": f"{item}"} for item in generator.sample(range(1, 41), 4)]}
            for user in (generator.randint(1, 20) for _ in range(REQUESTS_EACH))
        ]
        for _ in range(CLIENTS)
    ]


def logits(reply: Reply) -> list[float]:
    assert reply.status == 200, reply.content
    return [pair["logit"] for pair in reply.content["pairs"]]


def shown(seconds: list[float]) -> str:
    return f"p50 {1000 * np.percentile(seconds, 50):.0f} ms, p95 {1000 * np.percentile(seconds, 95):.0f} ms"


@pytest.mark.slow
def test_fifty_clients_get_their_own_answers(tmp_path: Path) -> None:
    make_runs(tmp_path)
    wanted = bodies()
    with ServedRun(tmp_path, run_of(tmp_path, "hybrid").name) as server:
        started = time.perf_counter()
        alone = [[server.timed("/score", body) for body in client] for client in wanted]
        alone_s = time.perf_counter() - started

        def work(client: list[dict[str, object]]) -> list[tuple[float, Reply]]:
            return [server.timed("/score", body) for body in client]

        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            together = list(pool.map(work, wanted))
        together_s = time.perf_counter() - started
        health = server.ask("/health").content
        assert server.stop() == 0
    assert health["answered"] == 2 * CLIENTS * REQUESTS_EACH
    assert health["failed"] == 0
    for first, second, client in zip(alone, together, wanted, strict=True):
        for (_, one), (_, other), body in zip(first, second, client, strict=True):
            asked = [(pair["user"], pair["item"]) for pair in body["pairs"]]  # type: ignore[attr-defined]
            assert [(pair["user"], pair["item"]) for pair in other.content["pairs"]] == asked
            np.testing.assert_allclose(logits(other), logits(one), atol=1e-6)
    one_by_one = [seconds for client in alone for seconds, _ in client]
    at_once = [seconds for client in together for seconds, _ in client]
    n = CLIENTS * REQUESTS_EACH
    measured = [
        f"one by one: {n / alone_s:.0f} requests/s, {shown(one_by_one)}",
        f"{CLIENTS} at once: {n / together_s:.0f} requests/s, {shown(at_once)}; {alone_s / together_s:.1f} x as many",
    ]
    sys.stdout.write("\n".join(measured) + "\n")
    # Scored one after the other, they would take as long as alone.
    assert together_s < alone_s
