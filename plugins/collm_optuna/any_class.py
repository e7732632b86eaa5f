"""Any sampler or pruner of Optuna by the name of its class. Names outside of Optuna are never imported."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from collm.component import BuildContext
from collm.errors import PluginError

_BASES = {"samplers": "BaseSampler", "pruners": "BasePruner"}
# What has a name of its own, or another place in the study file.
_ELSEWHERE = {
    "CmaEsSampler": "write name: cmaes, which keeps no pickled objects in the storage",
    "GridSampler": "write name: grid, which reads the points from the search",
    "PartialFixedSampler": "write the fixed value in the search",
}
# Their points form one sequence, so every trial has the same seed.
_ONE_SEQUENCE = ("QMCSampler",)


def known_classes(family: str) -> dict[str, type]:
    """Returns class name -> class of `optuna.samplers` or `optuna.pruners`."""
    module = importlib.import_module(f"optuna.{family}")
    base = getattr(module, _BASES[family])
    found = {name: getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))}
    return {name: each for name, each in found.items() if issubclass(each, base) and not inspect.isabstract(each)}


def class_of(value: str, family: str) -> type:
    """Returns a class by its name, with or without its module in front.

    Raises:
        ValueError: If Optuna has no such class, or it appears elsewhere in a study file; says what to write.
    """
    name = value.removeprefix(f"optuna.{family}.")
    if name in _ELSEWHERE:
        raise ValueError(f"'{value}' cannot be used here: {_ELSEWHERE[name]}")
    known = {key: each for key, each in known_classes(family).items() if key not in _ELSEWHERE}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        own = f"one of your own comes from a plugin: collm plugin new {family.removesuffix('s')} NAME"
        raise ValueError(
            f"'{value}' is not a class of optuna.{family}{hint}; classes: {', '.join(sorted(known))}; {own}"
        )
    return known[name]


def settings_fault(name: str, settings: Mapping[str, Any], family: str) -> str:
    """Returns what is wrong with a class's name or the names of its settings; empty where nothing is."""
    try:
        return arguments_fault(class_of(name, family), settings)
    except ValueError as error:
        return str(error)


def arguments_fault(built: type, settings: Mapping[str, Any]) -> str:
    """Returns which settings a class does not take or lacks; empty where there is none."""
    if "seed" in settings:
        return "settings.seed: the seed is the sampler's own field `seed`"
    known = inspect.signature(built).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return ""
    names = [name for name in known if name != "seed"]
    for name in settings:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            return f"settings.{name}: {built.__name__} has no such argument{hint}; arguments: {', '.join(names)}"
    lacks = [
        name
        for name, each in known.items()
        if each.default is inspect.Parameter.empty
        and each.kind is not inspect.Parameter.VAR_POSITIONAL
        and name not in (*settings, "seed")
    ]
    return f"settings: {built.__name__} needs {', '.join(lacks)}" if lacks else ""


def build_sampler(config: Any, *, seed: int, context: BuildContext) -> Any:  # noqa: ARG001
    """Builds the named sampler."""
    built = class_of(config.type, "samplers")
    return construct(built, config.settings, seed=config.seed if built.__name__ in _ONE_SEQUENCE else seed)


def build_pruner(config: Any, *, context: BuildContext) -> Any:  # noqa: ARG001
    """Builds the named pruner, and one inside of it."""
    return _pruner(config.type, config.settings)


def _pruner(name: str, settings: Mapping[str, Any]) -> Any:
    filled = dict(settings)
    for key, value in settings.items():
        if isinstance(value, Mapping) and "type" in value and value.keys() <= {"type", "settings"}:
            inner = value.get("settings", {})
            if fault := settings_fault(str(value["type"]), inner, "pruners"):
                raise PluginError(f"settings.{key}: {fault}")
            filled[key] = _pruner(str(value["type"]), inner)
    return construct(class_of(name, "pruners"), filled)


def construct(built: type, settings: Mapping[str, Any], **more: Any) -> Any:
    """Builds an object of a class.

    Args:
        built: The class.
        settings: Its arguments.
        **more: Arguments that are left out where the class does not take them.

    Raises:
        PluginError: If the class refuses the settings.
    """
    # Imported here: settings are checked without it, and it takes a while.
    from optuna.exceptions import ExperimentalWarning

    known = inspect.signature(built).parameters
    taken = {name: value for name, value in more.items() if name in known}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return built(**settings, **taken)
    except (TypeError, ValueError, AttributeError) as error:
        raise PluginError(f"{built.__name__} refuses its settings: {error}") from error
