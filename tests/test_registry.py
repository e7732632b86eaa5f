from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from collm.component import Component, ComponentConfig
from collm.contracts.encoder import EncoderConfig
from collm.contracts.metric import MetricConfig
from collm.errors import PluginError, SpecError, UnknownName
from collm.plugins import PluginHost, PluginStatus, make_manager
from collm.registry import build_registry, registry_of

SCORES = frozenset({"scores"})


def encoder(name: str, **facts: object) -> Component:
    return Component("encoder", name, "zz_pack.code:build", EncoderConfig, "One line.", gives=SCORES, **facts)


def status(name: str, *, ok: bool = True, cause: str = "", version: str = "1.0") -> PluginStatus:
    return PluginStatus(name, f"dist-{name}", version, ok=ok, cause=cause, traceback="", module=f"zz_{name}")


def test_lookup() -> None:
    mean = encoder("item-mean", floor=True)
    auc = Component("metric", "auc", "a:b", MetricConfig, "AUC.")
    registry = registry_of([encoder("mf"), mean, auc])
    assert registry.get("encoder", "item-mean") is mean
    assert registry.names("encoder") == ("item-mean", "mf")
    assert registry.names("prompt") == ()
    assert [component.name for component in registry.components()] == ["item-mean", "mf", "auc"]
    assert registry.components("metric") == (auc,)
    assert registry.floors() == (mean,)
    assert registry.origin("metric", "auc").name == "inline"


def test_unknown_name_says_what_was_meant() -> None:
    registry = registry_of([encoder("mf"), encoder("mf-bias"), Component("metric", "auc", "a:b", MetricConfig, "AUC.")])
    with pytest.raises(UnknownName, match=r"unknown encoder 'mf-bais' \(did you mean 'mf-bias'") as caught:
        registry.get("encoder", "mf-bais")
    assert isinstance(caught.value, SpecError)
    assert caught.value.exit_code == 2
    assert "installed encoder names: mf, mf-bias" in str(caught.value)
    with pytest.raises(UnknownName, match="'auc' is a metric; installed encoder names"):
        registry.origin("encoder", "auc")
    with pytest.raises(UnknownName, match="installed backbone names: none"):
        registry.code_version("backbone", "x")


def test_unknown_name_points_to_the_failed_plugin() -> None:
    failed = (status("light-gcn", ok=False, cause="ImportError: scipy"), status("other", ok=False, cause="boom"))
    registry = build_registry(PluginHost(make_manager(), failed))
    with pytest.raises(UnknownName, match=r"plugin 'light-gcn' \(dist-light-gcn 1.0\) did not load and might") as one:
        registry.get("encoder", "light-gcn")
    assert "boom" not in str(one.value)
    with pytest.raises(UnknownName, match=r"may come from a plugin that did not load \(light-gcn, other\)"):
        registry.get("encoder", "sasrec")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_taken_name_names_both_owners(order: tuple[int, int]) -> None:
    given = [(encoder("mf"), status("a")), (encoder("mf"), status("b"))]
    host = PluginHost(make_manager(), (), tuple(given[i] for i in order))
    with pytest.raises(
        PluginError, match=r"encoder 'mf' is given by plugin 'a' \(dist-a 1\.0\) and plugin 'b' \(dist-b 1\.0\)"
    ):
        build_registry(host)


def test_one_name_in_two_kinds_is_no_clash() -> None:
    registry = registry_of([encoder("auc"), Component("metric", "auc", "a:b", MetricConfig, "AUC.")])
    assert registry.get("metric", "auc").kind == "metric"


def test_contract_breaches() -> None:
    with pytest.raises(PluginError, match="encoder 'Mf': the name must be lower-case"):
        registry_of([encoder("Mf")])
    with pytest.raises(PluginError, match="unknown kind; kinds: dataset, encoder"):
        registry_of([replace(encoder("mf"), kind="optimiser")])  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="must be a subclass of EncoderConfig"):
        registry_of([replace(encoder("mf"), config=ComponentConfig)])
    with pytest.raises(PluginError, match="a floor must give scores"):
        registry_of([replace(encoder("mf", floor=True), gives=frozenset({"vectors"}))])
    with pytest.raises(PluginError, match="`gives`, `floor` and `ranking_floor` belong to encoders only"):
        registry_of([Component("metric", "auc", "a:b", MetricConfig, "AUC.", gives=SCORES)])
    with pytest.raises(PluginError, match="summary must be one non-empty line"):
        registry_of([replace(encoder("mf"), summary=" ")])


def test_registry_cannot_be_changed() -> None:
    registry = registry_of([encoder("mf")])
    with pytest.raises(AttributeError, match="cannot assign"):
        registry.host = None  # type: ignore[misc]
    with pytest.raises(TypeError, match="does not support item assignment"):
        registry._entries[("encoder", "x")] = None  # type: ignore[index]


def version_of(distribution: str, version: str, module: str, component: Component | None = None) -> str:
    owner = replace(status("pack", version=version), module=module, distribution=distribution)
    host = PluginHost(make_manager(), ((owner),), ((component or encoder("mf"), owner),))
    return build_registry(host).code_version("encoder", "mf")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zz_pack"
    (folder / "deep").mkdir(parents=True)
    for name in ("__init__.py", "code.py", "deep/more.py"):
        (folder / name).write_text("x = 1\n")
    (folder / "README.md").write_text("words")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def installed(folder: Path, name: str, editable: bool | None) -> None:
    """Writes what pip leaves of an installed distribution."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if editable is not None:
        (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": editable}}))


def test_code_that_is_being_written_is_told_by_its_sources(package: Path, tmp_path: Path) -> None:
    installed(tmp_path, "zz-written", editable=True)
    for distribution in ("", "zz-unknown", "zz-written"):
        first = version_of(distribution, "1.0", "zz_pack")
        assert first.startswith("sources ")
        assert version_of(distribution, "1.0", "zz_pack") == first
        (package / "README.md").write_text("other words")
        assert version_of(distribution, "1.0", "zz_pack") == first
        assert version_of(distribution, "1.1", "zz_pack") != first
        (package / "deep" / "more.py").write_text(f"x = '{distribution}'\n")
        assert version_of(distribution, "1.0", "zz_pack") != first
    assert "zz_pack" not in sys.modules


@pytest.mark.parametrize("editable", [None, False])
def test_an_installed_distribution_is_told_by_its_version(package: Path, tmp_path: Path, editable: bool | None) -> None:
    name = f"zz-installed-{editable}".lower()
    installed(tmp_path, name, editable)
    first = version_of(name, "1.0", "zz_pack")
    (package / "code.py").write_text("x = 2  # a comment\n")
    assert version_of(name, "1.0", "zz_pack") == first == f"{name} 1.0, version 1"
    assert version_of(name, "1.1", "zz_pack") != first
    assert version_of(name, "1.0", "zz_pack", replace(encoder("mf"), version=2)) != first


def test_the_projects_own_components_survive_its_releases() -> None:
    old, new = (version_of("collm", version, "collm_mf") for version in ("0.1.0", "0.2.0"))
    assert old == new == "version 1"
    assert version_of("collm", "0.1.0", "collm_mf", replace(encoder("mf"), version=2)) == "version 2"
    # A distribution that calls itself so is not taken for it by its name alone.
    assert version_of("collm", "0.1.0", "zz_pack") != "version 1"


def test_registry_never_imports_torch() -> None:
    code = "import sys, collm.registry as r; r.default_registry(); print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
