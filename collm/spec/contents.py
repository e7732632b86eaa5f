"""What lies at the places that a spec names: hashed by content, so that a result belongs to its files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel

from collm.component import KINDS, BuildContext, Kind, Location, locations
from collm.files import place_digest
from collm.registry import Registry
from collm.spec.fingerprint import fingerprint
from collm.spec.metric_entries import entry_config, entry_label
from collm.spec.model import ResolvedSpec

# The dataset hashes it itself: a folder and the zip of the same files are one dataset.
_HASHED_BY_DATASET = "path"


def spec_locations(spec: ResolvedSpec, registry: Registry) -> Iterator[Location]:
    """Yields every place that a spec names, fields as dotted paths of the spec.

    Those of metrics appear under the metric's label: `evaluate.metrics.LABEL.FIELD`.
    """
    for path, kind, config in spec.components():
        yield from locations(config, kind, f"{path}.")
    for entry in spec.evaluate.metrics:
        yield from locations(entry_config(entry, registry), "metric", f"evaluate.metrics.{entry_label(entry)}.")
    if spec.evaluate.ranking is not None:
        yield from locations(spec.evaluate.ranking, "metric", "evaluate.ranking.")


def config_contents(
    config: BaseModel, kind: Kind, prefix: str = "", *, owners: Collection[Kind] = KINDS
) -> dict[str, str]:
    """Returns field -> digest of every place that a component's settings name, components inside included.

    Args:
        config: The settings.
        kind: Kind of the component.
        prefix: Put before each field.
        owners: Kinds of components whose own places count.

    Raises:
        DataError: If there is nothing at a place, or it cannot be read.
    """
    return {
        each.field: place_digest(each.path, each.files)
        for each in locations(config, kind, prefix)
        if each.owner in owners
        and not each.is_own
        and not (kind == "dataset" and each.field == f"{prefix}{_HASHED_BY_DATASET}")
    }


def section_contents(spec: ResolvedSpec, *sections: Kind) -> dict[str, str]:
    """Returns `config_contents` of the components of some kinds, fields as dotted paths of the spec.

    Raises:
        DataError: If there is nothing at a place, or it cannot be read.
    """
    found: dict[str, str] = {}
    for path, kind, config in spec.components():
        found |= config_contents(config, kind, f"{path}.") if kind in sections else {}
    return found


def spec_contents(spec: ResolvedSpec, registry: Registry, context: BuildContext) -> dict[str, str]:
    """Returns field -> digest of every place that a spec names, and `dataset` where its dataset names one.

    Raises:
        DataError: If there is nothing at a place, or it cannot be read.
    """
    found: dict[str, str] = {}
    for each in spec_locations(spec, registry):
        if each.owner == "dataset":
            found["dataset"] = ""
        if each.field != f"dataset.{_HASHED_BY_DATASET}" and not each.is_own:
            found[each.field] = place_digest(each.path, each.files)
    if "dataset" in found:
        source = registry.get("dataset", spec.dataset.name).load_factory()(spec.dataset, context=context)
        found["dataset"] = str(source.content_hash())
    return found


def run_hash(spec: ResolvedSpec, registry: Registry, context: BuildContext) -> str:
    """Returns 10 hex characters over everything but the spec's name: settings, and contents of the files named.

    Raises:
        DataError: If there is nothing at a place that the spec names, or it cannot be read.
    """
    return hash_with(spec, spec_contents(spec, registry, context))


def hash_with(spec: ResolvedSpec, contents: Mapping[str, str]) -> str:
    """Returns `run_hash` where the contents, as `spec_contents` gives them, are known."""
    return fingerprint({"spec": spec.spec_hash, "files": dict(contents)})[:10] if contents else spec.spec_hash
