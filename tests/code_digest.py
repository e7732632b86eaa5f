"""Digests of the code that decides numbers: what a stage or a component computes with, without words around it.

Docstrings, comments, annotations, log lines, imports and formatting are left out. A digest covers the module that is
named and all modules of the project that it imports, those below `LEFT_OUT` excepted: they decide no number, or what
they decide is in a spec and so in the fingerprint itself.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (
    "collm.cli",
    "collm.component",
    "collm.contracts",
    "collm.engine.progress",
    "collm.errors",
    "collm.hookspecs",
    "collm.plugins",
    "collm.plugins",
    "collm.registry",
    "collm.report",
    "collm.runs",
    "collm.spec",
    "collm.stages.stage",
    "collm.stages.versions",
)


def code_digest(*entries: str) -> str:
    """Returns 16 hex characters over the code of some modules and of what they import.

    Args:
        entries: Dotted module names.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(entries)):
        digest.update(f"{name}\0{_code(name)}\0".encode())
    return digest.hexdigest()[:16]


def closure(entries: tuple[str, ...]) -> set[str]:
    """Returns the project's modules that some modules reach by their imports, themselves included."""
    found: set[str] = set()
    open_names = [name for name in entries if module_path(name) is not None]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found.add(name)
            open_names.extend(imports(name) - found)
    return found


@functools.cache
def _code(name: str) -> str:
    return normalised(module_path(name).read_text(encoding="utf-8"))


@functools.cache
def imports(name: str) -> frozenset[str]:
    """Returns the project's modules that a module imports, in functions too."""
    tree = ast.parse(module_path(name).read_text(encoding="utf-8"))
    return frozenset(target for target in _targets(tree) if not _is_left_out(target))


def normalised(text: str) -> str:
    """Returns the code of a module as text that changes only where the code does."""
    tree = _Stripped().visit(ast.parse(text))
    return ast.dump(tree, annotate_fields=False)


def module_path(name: str) -> Path | None:
    """Returns the file of a module of the project; None for other modules."""
    parts = name.split(".")
    base = ROOT if parts[0] == "collm" else ROOT / "plugins"
    if parts[0] != "collm" and not parts[0].startswith("collm_"):
        return None
    for path in (base.joinpath(*parts).with_suffix(".py"), base.joinpath(*parts, "__init__.py")):
        if path.is_file():
            return path
    return None


def _targets(tree: ast.Module) -> Iterator[str]:
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if module_path(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if module_path(full):
                    yield full
                elif module_path(node.module):
                    yield node.module


def _is_left_out(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in LEFT_OUT)


class _Stripped(ast.NodeTransformer):
    """Takes out what no number depends on."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_words(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_words(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_words(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # The value stays; of a field without one, its name does.
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        del node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        del node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        is_log = (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id in ("logger", "logging", "ticker")
        )
        return None if is_log else self.generic_visit(node)

    def _without_words(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        body = node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        node.body = body or [ast.Pass()]
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node
