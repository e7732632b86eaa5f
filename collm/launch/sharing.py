"""What runs share: work that several need is done by one of them first, and the others start when it is done.

This decides only when a run starts. Two runs that share something unnoticed here wait for each other at the lock of the
stage; nothing is ever computed twice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.contracts.tuning import TuneStep
from collm.errors import RunError
from collm.registry import Registry
from collm.runs.store import RunFolder
from collm.spec.contents import spec_contents
from collm.spec.fingerprint import config_payload, fingerprint
from collm.spec.model import ResolvedSpec


@dataclass(frozen=True)
class Share:
    """A part of a run's work that other runs may need.

    Attributes:
        key: Equal for runs that share it.
        stage: It is done when the run has finished this stage ...
        number: ... so many times.
    """

    key: str
    stage: str
    number: int


def shares_of(spec: ResolvedSpec, registry: Registry, context: BuildContext) -> tuple[Share, ...]:
    """Returns the parts of a run in the order in which it does them: data, floors, encoders, tuning steps.

    Args:
        spec: The resolved spec.
        registry: Where its components come from.
        context: Cache folder.

    Raises:
        DataError: If files are missing.
    """
    contents, n_floors = spec_contents(spec, registry, context), len(registry.floors())
    files = {name: digest for name, digest in contents.items() if name.partition(".")[0] == "dataset"}
    data = {"config": config_payload(spec.dataset), "files": files, "visibility": spec.history.visibility}
    fits = {"data": data, "seed": spec.seed, "history": spec.history.max_items}
    shares = [Share(fingerprint(data), "prepare_data", 1), Share(fingerprint(fits), "metrics", n_floors)]
    encoders = {name: config_payload(config) for name, config in spec.all_encoders.items()}
    for number, payload in enumerate(encoders.values(), start=n_floors + 1):
        shares.append(Share(fingerprint({"encoder": payload, **fits}), "fit_encoder", number))
    if spec.tuning is not None:
        # Files beside the data count together: runs that differ in one are seldom equal in the rest.
        common = {"files": contents, "encoders": encoders, **fits}
        steps = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning).plan()
        for number, step in enumerate(steps, start=1):
            shares.append(Share(fingerprint(_step(spec, step, common, shares[-1].key)), f"tune_{number}", 1))
    return tuple(shares)


def _step(spec: ResolvedSpec, step: TuneStep, common: dict[str, Any], before: str) -> dict[str, Any]:
    """Returns what distinguishes a tuning step; less than what its fingerprint holds."""
    plain = dataclasses.asdict(step)
    plain["optimiser"] = {group: config_payload(settings) for group, settings in step.optimiser.items()}
    reads = step.variant == "hybrid" or "encoder" in step.groups
    continues = any(plan.start == "previous" for plan in step.groups.values())
    sections = {name: getattr(spec, name) for name in ("backbone", "prompt", "answer", "select", "history")}
    return {
        **common,
        "encoders": common["encoders"] if reads else None,
        "step": plain,
        "sections": {name: None if each is None else config_payload(each) for name, each in sections.items()},
        "mapping": config_payload(spec.mapping) if "projector" in step.groups else None,
        "before": before if continues else None,
    }


def unfinished_keys(shares: tuple[Share, ...], folder: Path) -> Iterator[str]:
    """Yields the keys of what a running run has not done yet, as far as its events tell.

    Args:
        shares: What `shares_of` gives.
        folder: Its run folder.
    """
    done = _finished_stages(folder)
    # What comes later is done after what comes earlier.
    n_done = max((n for n, each in enumerate(shares, start=1) if done[each.stage] >= each.number > 0), default=0)
    yield from (each.key for each in shares[n_done:])


def _finished_stages(folder: Path) -> Counter[str]:
    """Counts the stages that the newest attempt at a run has finished or found finished."""
    counts: Counter[str] = Counter()
    try:
        events = RunFolder.at(folder).events()
    except (RunError, OSError):
        return counts
    for event in events:
        if event["event"] == "run_started":
            counts.clear()
        elif event["event"] == "stage_finished":
            counts[event["stage"]] += 1
    return counts
