"""Writes the pages that are read off the code: `docs/commands.md` and `docs/reference.md`. Run by `make docs`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from collm.cli.main import command_tree
from collm.component import KINDS, Component
from collm.registry import Registry, default_registry

DOCS = Path(__file__).resolve().parent
WIDTH = 100

_FACT = re.compile(r"\bfacts? \d+(?:(?:, | and )\d+)*")
_PAGE = re.compile(r"\bdocs/([\w-]+\.md)")


def commands_page() -> str:
    """Returns the help of every command as one page."""
    group = command_tree()
    lines = [
        "# Commands",
        "",
        "This page is the commands' own help, written by `make docs`.",
        "",
        "stdout carries the result, stderr everything else: `collm run SPEC --json > results.json` is safe in scripts.",
        "`COLLM_CACHE` names the folder for downloads and converted weights (default: the platform's user cache).",
        "`COLLM_MIRROR` names a mirror for `collm fetch`.",
        "",
        "```text",
        _help(group, "collm", None),
        "```",
    ]
    root = group.make_context("collm", [], resilient_parsing=True)
    for name in group.list_commands(root):
        command = group.get_command(root, name)
        lines += ["", f"## collm {name}", "", "```text", _help(command, name, root), "```"]
        if not hasattr(command, "list_commands"):
            continue
        inner = command.make_context(name, [], parent=root, resilient_parsing=True)
        for part in command.list_commands(inner):
            below = command.get_command(inner, part)
            lines += ["", f"### collm {name} {part}", "", "```text", _help(below, part, inner), "```"]
    return "\n".join(lines) + "\n"


def _help(command: Any, name: str, parent: Any) -> str:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, max_content_width=WIDTH)
    context.terminal_width = WIDTH
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def reference_page(registry: Registry) -> str:
    """Returns every field of a spec and of every component, with default and description."""
    from collm.spec.model import CORE_SECTIONS

    lines = [
        "# Reference: every component and field",
        "",
        "Read off the installed components by `make docs`. `collm plugins KIND NAME` prints one component,",
        "`collm schema` gives all as JSON Schema for an editor.",
    ]
    lines += ["", "## Sections of a spec"]
    for name, model in CORE_SECTIONS.items():
        lines += ["", f"### `{name}`", "", *_field_table(model)]
    for kind in KINDS:
        lines += ["", f"## {kind.capitalize()} components"]
        for component in registry.components(kind):
            lines += _component(component)
    return "\n".join(lines) + "\n"


def _component(component: Component) -> Iterator[str]:
    yield from ("", f"### {component.kind} `{component.name}`", "", component.summary)
    facts = []
    if component.gives:
        facts.append(f"gives {', '.join(f'`{each}`' for each in sorted(component.gives))}")
    if component.needs:
        facts.append(f"needs {', '.join(f'`{each}`' for each in sorted(component.needs))}")
    if component.floor:
        facts.append("is a floor: shown in every results table")
    sentences = [f"It {'; it '.join(facts)}."] if facts else []
    if component.fetch is not None:
        sentences.append(f"`collm fetch {component.name}` gets what it needs.")
    if sentences:
        yield from ("", " ".join(sentences))
    yield from ("", *_field_table(component.config))
    everywhere = [(f"Profile `{profile}`", values) for profile, values in component.profiles.items()]
    by_dataset = [
        (f"Profile `{profile}` on `{dataset}`", values)
        for dataset, profiles in component.dataset_profiles.items()
        for profile, values in profiles.items()
    ]
    for title, values in (*everywhere, *by_dataset):
        yield ""
        yield f"{title}: " + ", ".join(f"`{name}: {_shown(value)}`" for name, value in values.items()) + "."


def _field_table(model: type[BaseModel]) -> Iterator[str]:
    rows = list(_rows(model, prefix=""))
    if not rows:
        yield "No fields of its own."
        return
    yield from ("| field | default | meaning |", "|---|---|---|")
    yield from rows


def _rows(model: type[BaseModel], *, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "name":
            continue
        inner = _model_in(field.annotation)
        if inner is not None and not field.is_required():
            yield from _rows(inner, prefix=f"{prefix}{name}.")
            continue
        default = (
            "required" if field.is_required() or field.default is PydanticUndefined else f"`{_shown(field.default)}`"
        )
        meaning = _linked((field.description or "").replace("|", "/"))
        yield f"| `{prefix}{name}` | {default} | {meaning} |"


def _linked(text: str) -> str:
    """Returns a sentence with links to the facts and pages that it cites."""
    return _PAGE.sub(r"[\1](\1)", _FACT.sub(r"[\g<0>](facts.md)", text))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _shown(value: Any) -> str:
    plain = to_jsonable_python(value)
    return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)


def pages() -> dict[str, str]:
    """Returns file name -> content of each generated page."""
    return {"commands.md": commands_page(), "reference.md": reference_page(default_registry(strict=True))}


def main() -> None:
    """Writes the pages and says which ones changed."""
    for name, content in pages().items():
        path = DOCS / name
        changed = not path.is_file() or path.read_text(encoding="utf-8") != content
        path.write_text(content, encoding="utf-8")
        sys.stderr.write(f"{path.name}: {'written' if changed else 'unchanged'}\n")


if __name__ == "__main__":
    main()
