"""Facts about the machine."""

from __future__ import annotations

import json

from collm.runs.environment import describe_environment, package_versions


def test_environment_is_plain_json_and_holds_versions() -> None:
    facts = json.loads(json.dumps(describe_environment()))
    assert facts["packages"]["pydantic"].startswith("2.")
    assert facts["memory_gb"] > 0
    assert facts["processor"]


def test_missing_distribution_is_none() -> None:
    assert package_versions(("no-such-distribution",)) == {"no-such-distribution": None}
