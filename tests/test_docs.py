"""The docs say what the code does: generated pages are fresh, examples resolve or load, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from collm import hookspecs
from collm.cli.main import command_tree
from collm.component import KINDS, BuildContext, Component
from collm.plugins import load_plugins
from collm.registry import build_registry, default_registry
from collm.spec.component_config import component_config
from collm.spec.expand import load_any
from collm.testing.plugin_check import check_component
from collm.testing.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def blocks(kind: str) -> list[tuple[str, str]]:
    """Fenced blocks of one kind, with a name for the test."""
    found = []
    for page in PAGES:
        pattern = rf"^```{re.escape(kind)}\n(.*?)^```$"
        for number, body in enumerate(
            re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        ):
            found.append((f"{page.name}-{number}", body))
    return found


SPECS = blocks("yaml spec")
PLUGINS = blocks("python plugin")
SCRIPTS = blocks("python run")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "reference.md"])
def test_generated_page_is_fresh(generate: ModuleType, name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == generate.pages()[name], "run `make docs`"


@pytest.mark.parametrize("body", [body for _, body in SPECS], ids=[name for name, _ in SPECS])
def test_spec_in_docs_resolves(body: str, tmp_path: Path) -> None:
    # A block whose first line is a file's name may be the base of another.
    write_named_specs(tmp_path)
    path = tmp_path / "spec.yaml"
    path.write_text(body, encoding="utf-8")
    load_any(path, [], default_registry(), cwd=tmp_path)


@pytest.mark.parametrize("body", [body for _, body in PLUGINS], ids=[name for name, _ in PLUGINS])
def test_plugin_in_docs_keeps_its_contract(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    module, components = documented_components(body, tmp_path, monkeypatch)
    for component in components:
        settings = {"path": str(tiny_model)} if component.kind == "backbone" else {}
        results = check_component(component, registry=default_registry(), settings=settings, cache_dir=tmp_path)
        assert [(each.name, each.fault) for each in results if not each.ok] == []
    sys.modules.pop(module, None)


def write_named_specs(folder: Path) -> None:
    """Writes the specs of the docs whose first line is a file's name."""
    for _, body in SPECS:
        if named := re.match(r"# (\S+\.yaml)\n", body):
            (folder / named.group(1)).write_text(body, encoding="utf-8")


@pytest.mark.parametrize("page", sorted({name.rpartition("-")[0] for name, _ in SCRIPTS}))
def test_python_in_docs_runs(page: str, tmp_path: Path) -> None:
    write_named_specs(tmp_path)
    script = "\n".join(body for name, body in SCRIPTS if name.rpartition("-")[0] == page)
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    environment = {**os.environ, "COLLM_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return folder


def documented_components(
    body: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, tuple[Component, ...]]:
    """Loads a one-file plugin through its entry point, as an installed one."""
    match = re.match(r'"""(collm_\w+): ', body)
    assert match is not None, "the first line names the module"
    module = match.group(1)
    (folder / f"{module}.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    host = load_plugins([EntryPoint(name=module, value=module, group="collm")], strict=True)
    return module, build_registry(host).components()


def test_every_kind_has_a_one_file_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {each.kind for _, body in PLUGINS for each in documented_components(body, tmp_path, monkeypatch)[1]}
    assert shown == set(KINDS)
    guide = (DOCS / "plugins.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"| {kind} |" not in guide] == []


def test_documented_tuning_strategy_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "collm_mapping_only.py").write_text(dict(PLUGINS)["tuning.md-0"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = build_registry(load_plugins([EntryPoint("m", "collm_mapping_only", "collm")], strict=True))
    component = registry.get("tuning", "mapping-only")
    (step,) = component.load_factory()(component.config(name="mapping-only")).plan()
    assert step.variant == "hybrid"


def test_documented_metric_agrees_with_a_count_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from collm.contracts.metric import MetricConfig, ScoredRows

    (tmp_path / "collm_hit.py").write_text(dict(PLUGINS)["metrics.md-0"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = build_registry(load_plugins([EntryPoint("m", "collm_hit", "collm")], strict=True))
    metric = registry.get("metric", "hit").load_factory()(MetricConfig(name="hit"))
    rows = ScoredRows(
        user=np.array([7, 7, 3, 3]), label=np.array([0, 1, 0, 1], np.int8), score=np.array([0.1, 0.9, 0.8, 0.2])
    )
    assert metric.compute(rows).value == 0.5
    assert metric.resample(rows, np.array([[2, 0], [0, 2]])).tolist() == [0.0, 1.0]


def test_documented_metric_with_a_setting_agrees_with_a_count_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from collm.contracts.metric import ScoredRows
    from collm.stages.evaluate import build_metrics

    (tmp_path / "collm_mean_popularity.py").write_text(dict(PLUGINS)["metrics.md-1"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = build_registry(load_plugins([EntryPoint("m", "collm_mean_popularity", "collm")], strict=True))
    metrics = build_metrics(["mean-popularity", "mean-popularity@1", "mean-popularity(k=2)"], registry)
    assert list(metrics) == ["mean-popularity", "mean-popularity@1", "mean-popularity@2"]
    rows = ScoredRows(
        user=np.array([7, 7, 7, 3]),
        label=np.array([0, 1, 0, 1], np.int8),
        score=np.array([0.9, 0.5, 0.5, 0.2]),
        item_train_rows=np.array([0, 1, 7, 3]),
    )
    # user 7: log2 of 1, 2, 8; the last two are tied. user 3: log2 of 4.
    values = {label: metric.compute(rows).value for label, metric in metrics.items()}
    assert values == {"mean-popularity": (4 / 3 + 2) / 2, "mean-popularity@1": 1.0, "mean-popularity@2": (1 + 2) / 2}
    unknown = ScoredRows(rows.user, rows.label, rows.score)
    assert metrics["mean-popularity@1"].compute(unknown).reason == "training rows of items are not known"


def test_documented_encoder_around_another_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from collm.testing.fakes import encoder_batch, encoder_data

    (tmp_path / "collm_shifted.py").write_text(dict(PLUGINS)["encoders.md-2"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = build_registry(load_plugins([EntryPoint("m", "collm_shifted", "collm")], strict=True))
    component, installed = registry.get("encoder", "shifted"), default_registry()
    config = component_config(component, {"shift": 2.0}, installed)
    context = BuildContext(cache_dir=tmp_path, find=installed.get)
    encoder = component.load_factory()(config, data=encoder_data(), context=context)
    batch = encoder_batch(encoder_data())
    torch.testing.assert_close(encoder.score(batch), encoder.inner.score(batch) + 2.0)
    assert [phase.fit for phase in encoder.fit_phases(config)] == [config.encoder.fit]


def hook_signatures() -> list[str]:
    functions = [
        function
        for _, function in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(function, f"{hookspecs.PROJECT}_spec")
    ]
    assert functions
    return [f"### {each.__name__}({', '.join(inspect.signature(each).parameters)})" for each in functions]


def test_every_hook_has_a_heading_with_its_signature() -> None:
    headings = [
        line for line in (DOCS / "hooks.md").read_text(encoding="utf-8").splitlines() if line.startswith("### ")
    ]
    assert sorted(headings) == sorted(hook_signatures())


def test_every_command_is_in_the_docs() -> None:
    group = command_tree()
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for name, command in group.commands.items():
        assert f"## collm {name}\n" in text
        assert f"Example: collm {name}" in (command.help or ""), f"the help of {name} shows no example"


def test_every_component_and_field_is_in_the_reference() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    registry = default_registry()
    for kind in KINDS:
        for component in registry.components(kind):
            section = text.partition(f"### {kind} `{component.name}`\n")[2].partition("\n### ")[0]
            assert section, f"{kind} {component.name} is missing"
            for name in component.config.model_fields:
                assert name == "name" or f"`{name}" in section, f"{kind} {component.name}: {name} is missing"


def test_every_metric_is_explained() -> None:
    tables = [line for name in ("metrics", "ranking") for line in (DOCS / f"{name}.md").read_text("utf-8").splitlines()]
    named = {name for line in tables if line.startswith("| `") for name in re.findall(r"`([a-z]+)(?:@k)?`", line)}
    assert [name for name in default_registry().names("metric") if name not in named] == []


def test_profile_table_matches_the_code() -> None:
    from collm.spec import profiles

    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    assert "reference-sawtooth" in text
    source = inspect.getsource(profiles)
    for value in ("yes_logit", "reference-sawtooth", "more-than-3", "unseen", "half"):
        assert value in source


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if not target.startswith("http")]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []


def test_architecture_names_every_package() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "collm").glob("*/__init__.py")]
    assert [package for package in packages if f"{package}" not in text] == []


def test_every_cited_fact_is_on_its_page() -> None:
    page = (DOCS / "facts.md").read_text(encoding="utf-8")
    facts = {int(number) for number in re.findall(r"(?m)^(\d+)\. ", page.partition("## Facts")[2])}
    assert facts == set(range(1, 53))
    roots = (DOCS, DOCS.parent / "collm", DOCS.parent / "plugins", DOCS.parent / "experiments")
    files = [path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".md", ".yaml")]
    cited = {
        int(number)
        for path in files
        for run in re.findall(r"\bfacts? (\d+(?:(?:, | and )\d+)*)", path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d+", run)
    }
    assert cited
    assert cited <= facts
