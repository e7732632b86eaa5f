"""A complete, installable package for a new component: its files are templates with the name put in."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import collm
from collm.component import Kind
from collm.errors import UsageError
from collm.registry import Registry

# A class is named after the component, so it cannot begin with a digit as a component's name may.
PLUGIN_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME_LENGTH = 40
_SUFFIX = ".tmpl"
_SHARED = "shared"
_PACKAGE = "package"


@dataclass(frozen=True)
class PluginNames:
    """What a component's name becomes in its package.

    Attributes:
        name: Name of the component.
        kind: Its kind.
    """

    name: str
    kind: Kind

    @property
    def distribution(self) -> str:
        """Name to install, and of the folder."""
        return f"collm-{self.name}"

    @property
    def package(self) -> str:
        """Name to import."""
        return f"collm_{self.plugin}"

    @property
    def plugin(self) -> str:
        """Name of the entry point."""
        return self.name.replace("-", "_")

    @property
    def class_name(self) -> str:
        """Beginning of the names of its classes."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    def fields(self) -> Mapping[str, str]:
        """Returns what the templates may name."""
        return {
            "name": self.name,
            "kind": self.kind,
            "distribution": self.distribution,
            "package": self.package,
            "plugin": self.plugin,
            "class_name": self.class_name,
            "collm_version": collm.__version__,
        }


def write_plugin(kind: Kind, name: str, *, registry: Registry, parent: Path) -> list[Path]:
    """Writes a new package into `<parent>/collm-<name>`.

    Args:
        kind: Kind of the component that it gives.
        name: Name of the component.
        registry: Installed components, whose names are taken.
        parent: Existing folder.

    Returns:
        The files written.

    Raises:
        UsageError: If the name cannot be used or is taken, or the folder exists; nothing is written then.
    """
    names = PluginNames(name, kind)
    folder = parent / names.distribution
    faults = list(_name_faults(names, registry)) if _well_formed(name) else [_form_fault(name)]
    if folder.exists():
        faults.append(f"{folder} exists; nothing is overwritten: choose another name or remove it")
    if faults:
        raise UsageError("\n".join(faults))
    content = rendered_files(names)
    for place, text in content.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / place for place in content]


def rendered_files(names: PluginNames) -> dict[str, str]:
    """Returns path inside the package's folder -> content."""
    root = files("collm.scaffold") / "templates"
    fields = names.fields()
    found: dict[str, str] = {}
    for top in (_SHARED, names.kind):
        for place, template in _templates(root / top, ""):
            target = Template(place.replace(f"{_PACKAGE}/", f"{names.package}/")).substitute(fields)
            found[target] = Template(template.read_text(encoding="utf-8")).substitute(fields)
    return dict(sorted(found.items()))


def _templates(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield f"{prefix}{entry.name.removesuffix(_SUFFIX)}", entry


def _well_formed(name: str) -> bool:
    return PLUGIN_NAME.fullmatch(name) is not None and len(name) <= MAX_NAME_LENGTH


def _form_fault(name: str) -> str:
    near = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("collm-")).strip("-0123456789")[:MAX_NAME_LENGTH]
    hint = f"; did you mean '{near}'?" if near and near != name else ""
    return (
        f"'{name}' cannot name a plugin: lower-case letters and digits with single hyphens between, beginning with a "
        f"letter, at most {MAX_NAME_LENGTH} characters{hint}"
    )


def _name_faults(names: PluginNames, registry: Registry) -> Iterator[str]:
    if names.name in registry.names(names.kind):
        owner = registry.origin(names.kind, names.name).label()
        yield f"{names.kind} '{names.name}' is taken: {owner} gives it; choose another name"
        return
    owners = [status.label() for status in registry.host.statuses if status.name == names.plugin]
    if owners:
        yield f"the plugin name '{names.plugin}' is taken by {owners[0]}; choose another name"
    elif importlib.util.find_spec(names.package) is not None:
        yield f"a package '{names.package}' is installed already; choose another name"
