"""Running a suite without pytest; and every installed component that needs no file passes the suite of its kind."""

from __future__ import annotations

import subprocess
import sys

import pytest
from broken_encoders import component

from collm.component import KINDS, Component
from collm.registry import default_registry
from collm.testing.metric_suite import MetricContract
from collm.testing.plugin_check import CONTRACTS, check_component, checks_of

REGISTRY = default_registry()
OTHERS = [
    each
    for each in REGISTRY.components()
    if each.kind in ("metric", "prompt", "tuning")
    and not any(field.is_required() for name, field in each.config.model_fields.items() if name != "name")
]


def test_every_kind_has_a_contract() -> None:
    assert tuple(CONTRACTS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_promises_something_once(kind) -> None:
    found = list(checks_of(CONTRACTS[kind]))
    assert len({name for name, _ in found}) == len(found) >= 7 - (kind == "prompt")
    assert [name for name, promise in found if not promise.endswith(".")] == []


def test_order_is_the_suites_own() -> None:
    names = [name for name, _ in checks_of(MetricContract)]
    assert names[0] == "record_keeps_the_contract"
    assert names[-1] == "resampling_equals_repeating_rows"


@pytest.mark.parametrize("each", OTHERS, ids=lambda each: f"{each.kind}-{each.name}")
def test_every_first_party_metric_prompt_and_strategy_passes(each: Component) -> None:
    assert [(found.name, found.fault) for found in check_component(each, registry=REGISTRY) if not found.ok] == []


def test_the_tiny_backbone_passes() -> None:
    results = check_component(REGISTRY.get("backbone", "tiny"), registry=REGISTRY, settings={"n_layers": 1})
    assert [(found.name, found.fault) for found in results if not found.ok] == []


def test_it_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from collm.cli.main import call\n"
        "sys.exit(call(['plugin', 'check', 'metric', 'auc']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_factory_that_is_not_there_is_one_fault_for_all() -> None:
    record = component("Sound")
    missing = Component(**{**vars(record), "factory": "collm_nowhere:build"})
    faults = {each.fault for each in check_component(missing, registry=REGISTRY) if not each.ok}
    assert faults == {"encoder 'broken': cannot import 'collm_nowhere': No module named 'collm_nowhere'"}
