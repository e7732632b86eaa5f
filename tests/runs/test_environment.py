"""Facts about the machine."""

from __future__ import annotations

import json

import pytest

from collm.runs.environment import allocator, describe_environment, package_versions, processor_use


def test_environment_is_plain_json_and_holds_versions() -> None:
    facts = json.loads(json.dumps(describe_environment()))
    assert facts["packages"]["pydantic"].startswith("2.")
    assert facts["memory_gb"] > 0
    assert facts["processor"]


def test_missing_distribution_is_none() -> None:
    assert package_versions(("no-such-distribution",)) == {"no-such-distribution": None}


@pytest.mark.parametrize(
    ("library", "name"),
    [("libtcmalloc_minimal.so.4", "tcmalloc"), ("libjemalloc.so.2", "jemalloc"), ("libc.so.6", "C library")],
)
def test_allocator_is_named_after_the_library_that_is_mapped(library: str, name: str) -> None:
    assert allocator(f"7f00-7f01 r-xp 0 0:0 1 /usr/lib/{library}\n") == name


@pytest.mark.parametrize(
    ("facts", "phrase"),
    [
        (
            {"threads": 2, "wait_policy": "passive", "allocator": "C library"},
            "2 threads, which sleep while they wait; allocator: C library",
        ),
        (
            {"threads": 2, "wait_policy": "active", "allocator": "tcmalloc"},
            "2 threads, which spin while they wait; allocator: tcmalloc",
        ),
        ({"threads": 2, "wait_policy": "unset", "allocator": None}, "2 threads"),
        ({"threads": 1, "wait_policy": "active", "allocator": None}, "1 thread"),
    ],
)
def test_processor_use_says_how_threads_wait(facts: dict[str, object], phrase: str) -> None:
    assert processor_use(facts) == phrase
