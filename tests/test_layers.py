"""Rules that the imports and texts of all modules keep; layers are contracts of import-linter (pyproject.toml)."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "collm"
PLUGINS = ROOT / "plugins"

TORCH_FREE = (
    *("errors", "component", "hookspecs", "plugins", "registry", "contracts", "spec", "look"),
    *("experiment", "api", "cli"),
)
# The edges: they may read the environment and the working directory.
EDGES = ("cli", "api", "testing")
HEAVY = {"torch", "transformers", "peft", "accelerate", "sklearn", "optuna", "polars"}
# Where a function may import the own package: the command line, so that `collm --help` stays free of torch.
LAZY_OWN_IMPORTS = ("cli",)
# A trial's own process loads the runner; the command that starts it stays small.
LAZY_MODULES = {
    ("study/trial_run.py", "collm.runner"),
    # What needs no computing answers without torch and polars.
    ("experiment.py", "collm.ensemble"),
    ("experiment.py", "collm.suite"),
    ("experiment.py", "collm.runner"),
    ("api.py", "collm.report.collect"),
    ("api.py", "collm.report.results_frame"),
    ("api.py", "collm.trained.opened"),
    ("stages/stage.py", "collm.engine.checkpoint"),
}
# Where a tracker writes is a matter of the machine, not of the experiment: it is not part of a spec.
TRACKERS = ("collm_mlflow", "collm_tensorboard")


def modules(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the layer"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """All imports but those for type checkers only."""
    skipped: set[int] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(inner) for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree_of(path)):
        if id(node) not in skipped:
            yield from ((name, node.lineno) for name in imported(node))


def module_level_imports(path: Path) -> set[str]:
    lazy = {id(inner) for function in functions(path) for inner in ast.walk(function)}
    checked_only = {
        id(inner)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    nodes = [node for node in ast.walk(tree_of(path)) if id(node) not in lazy | checked_only]
    return {name for node in nodes for name in imported(node)}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def area_of(path: Path) -> str:
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def shown(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_import_contracts_hold() -> None:
    """Layers, circles, plugins apart: [tool.importlinter] of pyproject.toml."""
    # A process of its own: import-linter's logging configuration disables the loggers that exist.
    run = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_light_modules_do_not_import_heavy_libraries() -> None:
    light = [path for path in modules(CORE) if area_of(path) in TORCH_FREE]
    light += [path for path in modules(PLUGINS) if path.name in ("__init__.py", "config.py")]
    faults = [
        f"{path.relative_to(ROOT)}: imports {name} when it is loaded"
        for path in light
        for name in sorted(module_level_imports(path))
        if name.split(".")[0] in HEAVY
    ]
    assert faults == []


def test_own_imports_inside_functions_only_where_they_keep_torch_out() -> None:
    faults = []
    for path in modules(CORE):
        if area_of(path) in LAZY_OWN_IMPORTS:
            continue
        for function in functions(path):
            for node in ast.walk(function):
                own = [name for name in imported(node) if name.split(".")[0] == "collm"]
                module = str(path.relative_to(CORE))
                own = [name for name in own if (module, name.rpartition(".")[0]) not in LAZY_MODULES]
                faults += [f"{shown(path, node.lineno)}: {name} is imported inside a function" for name in own]
    assert sorted(set(faults)) == []


def test_only_the_command_line_prints() -> None:
    faults = [
        shown(path, node.lineno)
        for path in [*modules(CORE), *modules(PLUGINS)]
        if not (path.is_relative_to(CORE) and area_of(path) == "cli")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert faults == []


def test_only_the_command_line_and_the_python_interface_read_process_wide_state() -> None:
    pattern = re.compile(r"\b(os\.environ|os\.getenv|sys\.argv|Path\.cwd|os\.getcwd)\b")
    faults = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*modules(CORE), *modules(PLUGINS)]
        if not (path.is_relative_to(CORE) and area_of(path) in EDGES) and path.parent.name not in TRACKERS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line) and not line.lstrip().startswith(("#", '"'))
    ]
    assert faults == []


def test_no_machine_path_in_tracked_text() -> None:
    pattern = re.compile(r"(?<![\w.])/(home|root|work|Users|tmp)/\w")
    folders = [CORE, PLUGINS, ROOT / "docs", ROOT / "experiments", ROOT / "tests"]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".yaml")]
    faults = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert faults == []
