"""Tells observers (trackers) what happens in a run; one that raises is reported once per hook and the run goes on."""

from __future__ import annotations

import logging
from typing import Any

from collm.plugins import PluginHost

logger = logging.getLogger(__name__)


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
