"""Runs all runs of a suite; a run that fails is named and the others go on."""

from __future__ import annotations

import logging
from typing import Any

from collm.errors import CollmError
from collm.registry import Registry
from collm.runner import RESULTS_SCHEMA, RunOptions, run_spec
from collm.spec.expand import Suite

logger = logging.getLogger(__name__)


def run_suite(suite: Suite, registry: Registry, options: RunOptions) -> dict[str, Any]:
    """Runs a suite in the order of its file; stages that several runs need are worked out once.

    Args:
        suite: The expanded suite.
        registry: Where components come from.
        options: Directories, device, threads.

    Returns:
        `{"schema": 1, "suite": name, "runs": [results of each finished run], "failed": {run key: message}}`.
    """
    results, failed = [], {}
    for number, member in enumerate(suite.runs, start=1):
        logger.info("%s: run %d of %d: %s", suite.name, number, len(suite.runs), member.key)
        try:
            results.append(run_spec(member.spec, registry, options, run=member.run))
        except CollmError as error:
            failed[member.key] = str(error)
            logger.error("%s failed: %s", member.key, error)
    return {"schema": RESULTS_SCHEMA, "suite": suite.name, "runs": results, "failed": failed}
