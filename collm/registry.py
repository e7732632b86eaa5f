"""(kind, name) -> Component. Frozen; says where each name came from and what would have been meant."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from collm.component import KINDS, Component, Kind
from collm.contracts.component_check import component_faults
from collm.errors import PluginError, UnknownName
from collm.plugins import PluginHost, PluginStatus, load_plugins, make_manager

OWN = "collm"
_Entries = Mapping[tuple[str, str], tuple[Component, PluginStatus]]


@dataclass(frozen=True, eq=False)
class Registry:
    """All components that can be named in a spec.

    Attributes:
        host: The plugins behind it, failed ones included.
    """

    host: PluginHost
    _entries: _Entries = field(repr=False)

    def get(self, kind: Kind, name: str) -> Component:
        """Returns a component.

        Raises:
            UnknownName: If nothing of that kind has that name; says close matches, installed names, and failed plugins
                that might give it.
        """
        return self._entry(kind, name)[0]

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Returns the sorted names of a kind."""
        return self._names.get(kind, ())

    def components(self, kind: Kind | None = None) -> tuple[Component, ...]:
        """Returns the components of a kind, or all, sorted by kind and name."""
        return tuple(component for component, _ in self._entries.values() if kind in (None, component.kind))

    def floors(self) -> tuple[Component, ...]:
        """Returns the encoders that every results table shows as floors."""
        return tuple(component for component in self.components("encoder") if component.floor)

    def ranking_floors(self) -> tuple[Component, ...]:
        """Returns the encoders that every table of `evaluate.ranking` shows as floors."""
        return tuple(component for component in self.components("encoder") if component.ranking_floor)

    def origin(self, kind: Kind, name: str) -> PluginStatus:
        """Returns the plugin that gave a component.

        Raises:
            UnknownName: As `get`.
        """
        return self._entry(kind, name)[1]

    def code_version(self, kind: Kind, name: str) -> str:
        """Returns what tells a component's code from another, for fingerprints.

        Of `collm`'s own components their version alone, so that finished work survives a release; of others the
        distribution's version too; of code that is being written (an editable install, or no distribution) a digest of
        its Python sources.

        Raises:
            UnknownName: As `get`.
        """
        component, status = self._entry(kind, name)
        if status.distribution == OWN and status.module.partition(".")[0].startswith("collm_"):
            return f"version {component.version}"
        if not status.distribution or _is_editable(status.distribution):
            return f"sources {_source_hash(component, status)}"
        return f"{status.distribution} {status.version}, version {component.version}"

    @cached_property
    def _names(self) -> Mapping[str, tuple[str, ...]]:
        return {kind: tuple(sorted(name for k, name in self._entries if k == kind)) for kind in KINDS}

    def _entry(self, kind: Kind, name: str) -> tuple[Component, PluginStatus]:
        try:
            return self._entries[(kind, name)]
        except KeyError:
            raise UnknownName(self._unknown(kind, name)) from None

    def _unknown(self, kind: Kind, name: str) -> str:
        names = self.names(kind)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(repr(each) for each in close)}?)" if close else ""
        parts = [f"unknown {kind} '{name}'{hint}"]
        elsewhere = [other for other in KINDS if (other, name) in self._entries]
        if elsewhere:
            parts.append(f"'{name}' is a {' and a '.join(elsewhere)}")
        parts.append(f"installed {kind} names: {', '.join(names) or 'none'}")
        parts.extend(self._suspects(name))
        return "; ".join(parts)

    def broken_plugins(self, name: str) -> tuple[PluginStatus, ...]:
        """Returns the plugins that did not load and are called like a component, so that they might give it."""
        word = name.replace("-", "_")
        return tuple(
            each for each in self.host.failed() if word in "_".join((each.name, each.module)).replace("-", "_")
        )

    def _suspects(self, name: str) -> list[str]:
        """Failed plugins that might have given a name, with the cause where the plugin is called like it."""
        failed, named = self.host.failed(), self.broken_plugins(name)
        if named or not failed:
            return [f"{each.label()} did not load and might give it: {each.cause}" for each in named]
        listed = ", ".join(each.name for each in failed)
        return [f"it may come from a plugin that did not load ({listed}): see `collm plugins`"]


def build_registry(host: PluginHost) -> Registry:
    """Puts the components of all loaded plugins under their names.

    Raises:
        PluginError: If two plugins give one name; names both distributions. Nothing is renamed or dropped.
    """
    entries: dict[tuple[str, str], tuple[Component, PluginStatus]] = {}
    clashes: list[str] = []
    for component, status in host.components():
        key = (component.kind, component.name)
        if key in entries:
            owners = " and ".join(sorted((entries[key][1].label(), status.label())))
            clashes.append(f"{component.kind} '{component.name}' is given by {owners}: uninstall one of them")
        entries.setdefault(key, (component, status))
    if clashes:
        raise PluginError("\n".join(sorted(clashes)))
    return Registry(host, MappingProxyType(dict(sorted(entries.items()))))


def default_registry(strict: bool = False) -> Registry:
    """Loads the installed plugins and builds their registry.

    Args:
        strict: Whether a broken plugin is an error.

    Raises:
        PluginError: If a name is taken twice, or `strict` and a plugin is broken.
    """
    return build_registry(load_plugins(strict=strict))


def registry_of(components: Iterable[Component], *, plugin: str = "inline") -> Registry:
    """Builds a registry from components at hand, without entry points: for tests and notebooks.

    Args:
        components: What to register.
        plugin: Name under which their origin is shown.

    Raises:
        PluginError: If a component breaks its contract or a name is taken twice.
    """
    given = list(components)
    faults = [fault for component in given for fault in component_faults(component)]
    if faults:
        raise PluginError("\n".join(faults))
    status = PluginStatus(plugin, "", "", ok=True, cause="", traceback="", module=plugin)
    host = PluginHost(make_manager(), (status,), tuple((component, status) for component in given))
    return build_registry(host)


@functools.cache
def _is_editable(distribution: str) -> bool:
    """Whether a distribution is installed from a folder whose files may change, or is not installed at all."""
    try:
        text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return True
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return True
    return bool(found.get("dir_info", {}).get("editable", False)) if isinstance(found, dict) else True


def _source_hash(component: Component, status: PluginStatus) -> str:
    modules = {status.module, component.factory.partition(":")[0], component.config.__module__}
    packages = sorted({module.partition(".")[0] for module in modules} - {"collm"})
    digest = hashlib.sha256(f"{status.distribution}\0{status.version}\0".encode())
    for package in packages:
        for path, shown in _sources(package):
            digest.update(shown.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _sources(package: str) -> list[tuple[Path, str]]:
    """Python files of a top-level package or module with stable names relative to it; imports nothing."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [(Path(spec.origin), package)] if spec.origin and spec.origin.endswith(".py") else []
    roots = [Path(root) for root in spec.submodule_search_locations]
    found = [(path, f"{package}/{path.relative_to(root).as_posix()}") for root in roots for path in root.rglob("*.py")]
    return sorted(found, key=lambda each: each[1])
