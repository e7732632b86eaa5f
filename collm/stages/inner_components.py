"""What decides the work of components that stand inside another one's settings, for fingerprints."""

from __future__ import annotations

from pydantic import BaseModel

from collm.component import BuildContext, inner_components
from collm.registry import Registry

# Kinds whose built component tells the content of its files.
_WITH_FILES = ("dataset", "backbone")


def inner_payload(config: BaseModel, registry: Registry, context: BuildContext) -> list[dict[str, str]]:
    """Returns source and content hashes of every component inside a config; their settings are the config's own.

    Args:
        config: Settings that may hold other components.
        registry: Where those come from.
        context: Where their files lie.

    Raises:
        DataError: If files are missing.
    """
    payload = []
    for kind, inner in inner_components(config):
        entry = {"kind": str(kind), "name": inner.name, "plugin": registry.code_version(kind, inner.name)}
        if kind in _WITH_FILES:
            built = registry.get(kind, inner.name).load_factory()(inner, context=context)
            entry["content"] = str(built.content_hash())
        payload.append(entry)
    return payload
