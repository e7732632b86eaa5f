"""Loads the plugins of the entry-point group `collm` one at a time.

A broken plugin becomes a `PluginStatus` with its cause; the others work. Nothing here knows what a component is for.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any

import pluggy

from collm import hookspecs
from collm.component import Component
from collm.contracts.component_check import component_faults
from collm.errors import PluginError
from collm.hookspecs import ENTRY_POINT_GROUP, PROJECT, REGISTER_HOOKS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginStatus:
    """What became of one entry point.

    Attributes:
        name: Name of the entry point.
        distribution: Distribution that ships it; "" where it was made by hand.
        version: Version of that distribution.
        ok: Whether it loaded and keeps its contract.
        cause: Why not, in one line; empty where it loaded.
        traceback: The full traceback of the cause; empty where there is none.
        module: Module that holds the hooks.
        hooks: Names of the hooks that it implements.
    """

    name: str
    distribution: str
    version: str
    ok: bool
    cause: str
    traceback: str
    module: str
    hooks: tuple[str, ...] = ()

    def label(self) -> str:
        """Returns `plugin 'mf' (collm 1.0)` for messages."""
        owner = " ".join(part for part in (self.distribution, self.version) if part)
        return f"plugin '{self.name}' ({owner or self.module})"


@dataclass(frozen=True)
class PluginHost:
    """All plugins of this process.

    Attributes:
        manager: Holds the plugins that loaded; observers are called through its `hook`.
        statuses: One per entry point, sorted by name, failed ones included.
        registered: Components with the plugin that gave each.
    """

    manager: pluggy.PluginManager
    statuses: tuple[PluginStatus, ...]
    registered: tuple[tuple[Component, PluginStatus], ...] = ()

    def components(self) -> list[tuple[Component, PluginStatus]]:
        """Returns every component with the plugin that gave it, in the order of `statuses`."""
        return list(self.registered)

    def failed(self) -> tuple[PluginStatus, ...]:
        """Returns the plugins that did not load."""
        return tuple(status for status in self.statuses if not status.ok)


def make_manager(trace: Callable[[str], None] | None = None) -> pluggy.PluginManager:
    """Returns an empty plugin manager that knows every hook.

    Args:
        trace: Called with one line per hook call and result; None = no tracing.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    if trace is not None:
        _trace_hooks(manager, trace)
    return manager


def load_plugins(
    entry_points: Iterable[EntryPoint] | None = None,
    *,
    strict: bool = False,
    trace: Callable[[str], None] | None = None,
) -> PluginHost:
    """Loads plugins one by one and asks each for its components.

    Args:
        entry_points: What to load; None = the installed entry points of group `collm`.
        strict: Whether a broken plugin is an error.
        trace: Called with one line per hook call; None = no tracing.

    Raises:
        PluginError: If `strict` and at least one plugin is broken; names each with its cause.
    """
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    points = sorted(entry_points, key=lambda point: (point.name, _owner(point), point.value))
    manager = make_manager(trace)
    statuses: list[PluginStatus] = []
    registered: list[tuple[Component, PluginStatus]] = []
    taken = Counter(point.name for point in points)
    for point in points:
        if taken[point.name] > 1:
            statuses.append(_claimed_twice(point, points))
            continue
        status, components = _load_one(manager, point)
        statuses.append(status)
        registered.extend((component, status) for component in components)
    host = PluginHost(manager, tuple(statuses), tuple(registered))
    if strict and host.failed():
        lines = [f"{status.label()}: {status.cause}" for status in host.failed()]
        raise PluginError("broken plugins:\n" + "\n".join(lines))
    return host


def _load_one(manager: pluggy.PluginManager, point: EntryPoint) -> tuple[PluginStatus, Sequence[Component]]:
    status = _status_of(point)
    try:
        plugin = point.load()
        hooks = _checked_hooks(manager, plugin)
        components = _components_of(plugin, hooks)
        # Registered last: a plugin that fails a check never receives observer calls.
        manager.register(plugin, name=point.name)
    # The plugin boundary: whatever a stranger's import raises is recorded with its traceback, and the rest works.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        cause = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        return replace(status, ok=False, cause=" ".join(cause.split()), traceback=traceback.format_exc()), ()
    return replace(status, hooks=hooks), components


def _checked_hooks(manager: pluggy.PluginManager, plugin: Any) -> tuple[str, ...]:
    """Names the hooks of a plugin; refuses misspelled and unmarked ones, which pluggy would ignore in silence."""
    known = sorted(name for name in vars(manager.hook) if not name.startswith("_"))
    marked = []
    for name in dir(plugin):
        function = getattr(plugin, name, None)
        if not inspect.isroutine(function):
            continue
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is not None:
            hook = options.get("specname") or name
            if hook not in known and not options.get("optionalhook"):
                raise PluginError(f"'{name}' is marked @hookimpl, but no hook has that name{_nearest(hook, known)}")
            marked.append(hook)
        elif _looks_like_a_hook(plugin, name, function, known):
            raise PluginError(
                f"'{name}' looks like a hook but is not marked: put @hookimpl (from collm.hookspecs) above it"
                f"{_nearest(name, known) if name not in known else ''}, or rename it with a leading underscore"
            )
    if not marked:
        raise PluginError(f"implements no hook; the hooks are: {', '.join(known)}")
    return tuple(sorted(marked))


def _looks_like_a_hook(plugin: Any, name: str, function: Any, known: Sequence[str]) -> bool:
    if inspect.ismodule(plugin) and getattr(function, "__module__", None) != plugin.__name__:
        return False  # imported from elsewhere, not written here
    return name in known or name.startswith("register_")


def _components_of(plugin: Any, hooks: Sequence[str]) -> list[Component]:
    kinds = {hook: kind for kind, hook in REGISTER_HOOKS.items()}
    found: list[Component] = []
    faults: list[str] = []
    for attribute in dir(plugin):
        options = getattr(getattr(plugin, attribute, None), f"{PROJECT}_impl", None)
        hook = (options.get("specname") or attribute) if isinstance(options, dict) else ""
        if hook not in kinds or hook not in hooks:
            continue
        answer = getattr(plugin, attribute)()
        if not isinstance(answer, list | tuple) or not all(isinstance(each, Component) for each in answer):
            faults.append(f"{hook} must return a list of Component, got {answer!r:.120}")
            continue
        for component in answer:
            if component.kind != kinds[hook]:
                faults.append(f"{hook} returned '{component.name}' of kind '{component.kind}'")
            faults.extend(component_faults(component))
            found.append(component)
    if faults:
        raise PluginError("; ".join(faults))
    return found


def _status_of(point: EntryPoint) -> PluginStatus:
    name, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
    return PluginStatus(point.name, name, version, ok=True, cause="", traceback="", module=point.module)


def _claimed_twice(point: EntryPoint, points: Sequence[EntryPoint]) -> PluginStatus:
    owners = [_status_of(other).label() for other in points if other.name == point.name]
    cause = f"the plugin name '{point.name}' is taken more than once: by {' and by '.join(owners)}; uninstall one"
    return replace(_status_of(point), ok=False, cause=cause)


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else f" (hooks: {', '.join(known)})"


def _trace_hooks(manager: pluggy.PluginManager, trace: Callable[[str], None]) -> None:
    def before(hook_name: str, impls: Sequence[Any], kwargs: Any) -> None:
        trace(f"hook {hook_name}({', '.join(sorted(kwargs))}) -> {[impl.plugin_name for impl in impls]}")

    def after(outcome: Any, hook_name: str, impls: Sequence[Any], kwargs: Any) -> None:  # noqa: ARG001
        state = "raised" if outcome.exception is not None else "returned"
        trace(f"hook {hook_name} {state}")

    manager.add_hookcall_monitoring(before, after)


class Observers:
    """Calls the observer hooks of all plugins."""

    def __init__(self, host: PluginHost) -> None:
        """Takes the loaded plugins."""
        self._host = host
        self._reported: set[tuple[str, str]] = set()

    def notify(self, hook: str, **values: Any) -> None:
        """Calls one hook on every plugin that implements it.

        Args:
            hook: Name of an observer hook in `collm.hookspecs`.
            **values: All arguments of its spec; each implementation gets those that it names.
        """
        for implementation in getattr(self._host.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(values[name] for name in implementation.argnames))
            # A stranger's tracker must not end a run of hours: its fault is shown with its traceback, once.
            except Exception:
                key = (implementation.plugin_name, hook)
                if key not in self._reported:
                    self._reported.add(key)
                    logger.warning("observer plugin '%s' failed in %s; the run goes on", *key, exc_info=True)
