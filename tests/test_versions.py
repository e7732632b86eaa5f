"""Versions of stages and components are honest: code that decides numbers does not change under an old version.

Where a test here fails: if numbers change, raise the `version` (of the stage in `collm/stages/versions.py`, of the
component where it is registered); then, and where numbers stay the same, record it: `python tests/test_versions.py`.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from code_digest import closure, code_digest, module_path, normalised

from collm.component import Component
from collm.registry import default_registry
from collm.stages.versions import STAGES

RECORD = Path(__file__).with_name("code_versions.json")
HOW = "raise its version if numbers change, and record it: python tests/test_versions.py"


@functools.cache
def components() -> dict[str, Component]:
    """The project's own components by kind and name."""
    found = default_registry()
    return {
        f"{each.kind} {each.name}": each
        for each in found.components()
        if found.origin(each.kind, each.name).distribution == "collm"
    }


@functools.cache
def state() -> dict[str, dict[str, Any]]:
    """What is recorded: the version and the digest of the code of every stage and component."""
    stages = {f"stage {name}": (each.version, each.modules) for name, each in STAGES.items()}
    own = {name: (each.version, (each.factory.partition(":")[0],)) for name, each in components().items()}
    return {
        name: {"version": version, "code": code_digest(*modules)} for name, (version, modules) in (stages | own).items()
    }


def recorded() -> dict[str, dict[str, Any]]:
    """The content of the record."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", state())
def test_code_changes_with_its_version(name: str) -> None:
    before, now = recorded().get(name), state()[name]
    assert before is not None, f"{name} is new: {HOW}"
    assert now == before, f"{name}: its code changed since version {before['version']} was recorded: {HOW}"


def test_nothing_is_recorded_that_is_gone() -> None:
    assert set(recorded()) == set(state())


@pytest.mark.parametrize(
    "other",
    [
        'def f(x):\n    """Doubles."""\n    # twice\n    return 2 * x\n',
        "def f(x: int) -> int:\n    return (\n        2\n        * x\n    )\n",
        'import logging\n\nlogger = 1\n\n\ndef f(x):\n    logger.info("x %s", x)\n    return 2 * x\n'.replace(
            "logger = 1\n\n\n", ""
        ),
        "from os import path\n\n\ndef f(x):\n    return 2 * x\n",
    ],
)
def test_words_around_the_code_change_nothing(other: str) -> None:
    assert normalised(other) == normalised("def f(x):\n    return 2 * x\n")


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return 3 * x\n",
        "def f(x):\n    return x * 2\n",
        "def f(x, y=1):\n    return 2 * x\n",
        "def f(x):\n    return 2 * -x\n",
        "@cache\ndef f(x):\n    return 2 * x\n",
        "def f(x):\n    print(x)\n    return 2 * x\n",
    ],
)
def test_code_that_computes_otherwise_is_seen(other: str) -> None:
    assert normalised(other) != normalised("def f(x):\n    return 2 * x\n")


@pytest.mark.parametrize(
    ("module", "watching", "not_watching"),
    [
        ("collm.engine.encoder_task", ("stage fit_encoder", "stage tune"), ("stage prepare_data", "metric auc")),
        ("collm.data.split", ("dataset movielens-small", "dataset files"), ("stage tune", "encoder mf")),
        ("collm.data.history", ("stage prepare_data",), ("encoder mf", "metric auc")),
        ("collm.prompt.encode", ("stage tune",), ("stage fit_encoder", "stage prepare_data", "encoder mf")),
        ("collm_mf.encoders", ("encoder mf", "encoder mf-bias"), ("encoder din", "stage fit_encoder")),
        ("collm_prompts.wordings", ("prompt movie",), ("encoder mf", "stage tune")),
        ("collm.metrics.classification", ("metric auc",), ("stage fit_encoder", "encoder mf")),
        ("collm.model.mapping", ("stage tune",), ("stage fit_encoder", "encoder lightgcn")),
        ("collm.engine.schedule", ("stage tune",), ("stage fit_encoder", "stage metrics")),
    ],
)
def test_a_change_is_seen_where_it_matters(
    module: str, watching: tuple[str, ...], not_watching: tuple[str, ...]
) -> None:
    entries = {f"stage {name}": each.modules for name, each in STAGES.items()}
    entries |= {name: (each.factory.partition(":")[0],) for name, each in components().items()}
    assert module_path(module) is not None
    for name in watching:
        assert module in closure(entries[name]), f"{name} does not watch {module}"
    for name in not_watching:
        assert module not in closure(entries[name]), f"{name} watches {module}"


@pytest.mark.parametrize(
    "module", ["collm.report.tables", "collm.cli.run", "collm.engine.progress", "collm.runs.store"]
)
def test_what_decides_no_number_is_not_watched(module: str) -> None:
    assert not [name for name, each in STAGES.items() if module in closure(each.modules)]


def main() -> None:
    """Records the versions and digests of the code as it is."""
    lines = [f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in sorted(state().items())]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
