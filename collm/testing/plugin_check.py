"""Runs the contract suite of an installed component without pytest: what `collm plugin check` prints."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.component import Component, Kind
from collm.contracts.encoder import EncoderData
from collm.errors import CollmError
from collm.registry import Registry
from collm.testing.backbone_suite import BackboneContract
from collm.testing.component_suite import ComponentContract
from collm.testing.dataset_suite import DatasetContract
from collm.testing.encoder_suite import EncoderContract
from collm.testing.metric_suite import MetricContract
from collm.testing.prompt_suite import PromptContract
from collm.testing.search_suite import PrunerContract, SamplerContract
from collm.testing.tuning_suite import TuningContract

CONTRACTS: Mapping[Kind, type[ComponentContract]] = {
    "dataset": DatasetContract,
    "encoder": EncoderContract,
    "backbone": BackboneContract,
    "tuning": TuningContract,
    "prompt": PromptContract,
    "metric": MetricContract,
    "sampler": SamplerContract,
    "pruner": PrunerContract,
}
_PREFIX = "test_"


@dataclass(frozen=True)
class CheckResult:
    """One check of one component.

    Attributes:
        name: Name of the check, e.g. `scores_are_float32_logits_per_row`.
        promise: What the contract asks, one sentence.
        fault: What is wrong, in one line; empty where the promise is kept.
        traceback: Where it was found; empty where there is no fault.
    """

    name: str
    promise: str
    fault: str = ""
    traceback: str = ""

    @property
    def ok(self) -> bool:
        """Whether the promise is kept."""
        return not self.fault


def check_component(
    component: Component,
    *,
    registry: Registry,
    settings: Mapping[str, Any] | None = None,
    cache_dir: Path | None = None,
    data: EncoderData | None = None,
) -> list[CheckResult]:
    """Runs every check of the component's kind.

    Args:
        component: The component.
        registry: Where components inside its config are looked up.
        settings: Fields of its config; defaults otherwise.
        cache_dir: Cache folder that its factory gets; None = a temporary one.
        data: Encoders only: rows to check on (`collm.testing.fakes.encoder_data_of`); None = invented ones.

    Returns:
        One result per check, in the order of the suite, those of every kind first.
    """
    under_test = {
        "component": component,
        "registry": registry,
        "settings": dict(settings or {}),
        "cache_dir": cache_dir,
    }
    if data is not None:
        under_test["own_data"] = data
    suite = type("Check", (CONTRACTS[component.kind],), under_test)
    package = component.factory.partition(":")[0].partition(".")[0]
    return [_run(name, promise, getattr(suite(), _PREFIX + name), package) for name, promise in checks_of(suite)]


def checks_of(suite: type[ComponentContract]) -> Iterator[tuple[str, str]]:
    """Yields name and promise of every check of a suite, the base's first, each in the order it is written."""
    seen: set[str] = set()
    for owner in reversed(suite.__mro__):
        for attribute, function in vars(owner).items():
            if attribute.startswith(_PREFIX) and attribute not in seen:
                seen.add(attribute)
                yield attribute.removeprefix(_PREFIX), (inspect.getdoc(function) or "").partition("\n")[0]


def _run(name: str, promise: str, check: Callable[[], None], package: str) -> CheckResult:
    try:
        check()
    # The plugin boundary: whatever a stranger's code raises is a fault of the plugin, with its traceback.
    except Exception as error:  # noqa: BLE001
        return CheckResult(name, promise, fault=_fault(error, package), traceback=traceback.format_exc())
    return CheckResult(name, promise)


def _fault(error: Exception, package: str) -> str:
    """One line that names the fault, and the plugin's own line where it raised."""
    own = isinstance(error, AssertionError | CollmError) and str(error)
    message = " ".join(str(error).split()) if own else f"raised {type(error).__name__}: {' '.join(str(error).split())}"
    place = _place(error, package)
    return f"{message} ({place})" if place else message


def _place(error: BaseException, package: str) -> str:
    """`module.py:line` of the innermost frame within the plugin's package; "" where there is none."""
    found = ""
    cause: BaseException | None = error
    while cause is not None:
        for frame, line in traceback.walk_tb(cause.__traceback__):
            if frame.f_globals.get("__name__", "").partition(".")[0] == package:
                found = f"{Path(frame.f_code.co_filename).name}:{line}"
        cause = cause.__cause__
    return found
