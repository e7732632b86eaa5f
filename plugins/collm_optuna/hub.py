"""Packages of OptunaHub: fetched once by their commit on demand, loaded from that copy afterwards."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from collm.component import BuildContext
from collm.errors import DataError, PluginError
from collm_optuna.any_class import arguments_fault, construct
from collm_optuna.config import HubConfig, HubPrunerConfig, HubSamplerConfig

_CACHE = "optunahub"
_REGISTRY = Path("github.com", "optuna", "optunahub-registry")
_INSTALL = "it needs the package optunahub: pip install optunahub"


def fetch(context: BuildContext, config: HubConfig) -> Path:
    """Downloads a package of the registry at one commit; none of its code is run.

    Returns:
        The package's folder in the cache.

    Raises:
        PluginError: If optunahub is not installed.
        DataError: If it cannot be downloaded.
    """
    if config.commit is None:
        raise DataError("only a commit can be fetched: give --set commit=...")
    hub = _hub()
    cache = patch.object(hub.hub._conf, "cache_home", lambda: str(context.cache_dir / _CACHE))
    # optunahub loads what it downloads; here it only downloads.
    with cache, patch.object(hub.hub, "load_local_module"):
        try:
            _downloader()(config.package, ref=config.commit)
        # Git and an HTTP client: what they raise is open-ended.
        except Exception as error:
            raise DataError(f"'{config.package}' at {config.commit} cannot be downloaded: {error}") from error
    return _registry(context, config.commit) / config.package


def build_sampler(config: HubSamplerConfig, *, seed: int, context: BuildContext) -> Any:
    """Builds the package's sampler; raises as `load_class`."""
    built = load_class(config, "samplers", context)
    return construct(built, config.settings, seed=seed)


def build_pruner(config: HubPrunerConfig, *, context: BuildContext) -> Any:
    """Builds the package's pruner; raises as `load_class`."""
    return construct(load_class(config, "pruners", context), config.settings)


def load_class(config: HubConfig, family: str, context: BuildContext) -> type:
    """Returns the class that a package gives, from files that are on this machine.

    Args:
        config: Which package.
        family: `samplers` or `pruners`.
        context: Cache folder.

    Raises:
        PluginError: If optunahub is not installed, the package cannot be loaded, or has no class of the name that takes
            these settings.
        DataError: If the package was not fetched.
    """
    root = config.folder or _registry(context, str(config.commit))
    if not (root / config.package / "__init__.py").is_file():
        how = f"collm fetch optunahub --set package={config.package} --set commit={config.commit}"
        advice = f"fetch it: {how}" if config.folder is None else "`folder` is a registry's folder `package`"
        raise DataError(f"no package '{config.package}' in '{root}'; {advice}")
    hub = _hub()

    def load_beside(package: str, **_: Any) -> Any:
        return hub.load_local_module(package, registry_root=str(root))

    # A package that loads another one gets it from the same copy, never from the network.
    hub.load_module = hub.hub.load_module = load_beside
    try:
        module = load_beside(config.package)
    # The plugin boundary: whatever a stranger's import raises is named.
    except Exception as error:
        raise PluginError(f"'{config.package}' cannot be loaded: {type(error).__name__}: {error}") from error
    built = _chosen(module, config, family)
    if fault := arguments_fault(built, config.settings):
        raise PluginError(fault)
    return built


def _chosen(module: Any, config: HubConfig, family: str) -> type:
    optuna = importlib.import_module(f"optuna.{family}")
    base = optuna.BaseSampler if family == "samplers" else optuna.BasePruner
    named = getattr(module, "__all__", None) or list(vars(module))
    classes = {name: getattr(module, name, None) for name in named}
    found = {name: each for name, each in classes.items() if inspect.isclass(each) and issubclass(each, base)}
    own = {name: each for name, each in found.items() if each.__module__.startswith(module.__name__)}
    name = config.type or next(iter(own), "")
    if name not in own:
        what = f"no class '{name}'" if name else f"no class of optuna.{family}"
        raise PluginError(f"'{config.package}' has {what}; its classes: {', '.join(own) or 'none'}")
    return own[name]


def _registry(context: BuildContext, commit: str) -> Path:
    return context.cache_dir / _CACHE / _REGISTRY / commit / "package"


def _hub() -> Any:
    try:
        _downloader()
        return importlib.import_module("optunahub")
    except ImportError as error:
        raise PluginError(f"{_INSTALL} ({error})") from error


@functools.cache
def _downloader() -> Callable[..., Any]:
    """Returns optunahub's own function, whatever takes its place once a package is loaded."""
    found: Callable[..., Any] = importlib.import_module("optunahub.hub").load_module
    return found
