from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from collm.errors import PluginError
from collm.plugins import PluginHost, load_plugins

GOOD = """
from collm.component import Component
from collm.contracts.encoder import EncoderConfig
from collm.hookspecs import hookimpl

@hookimpl
def register_encoders():
    gives = frozenset(["scores"])
    return [Component("encoder", "{name}", "{module}:build", EncoderConfig, "Made for a test.", gives=gives)]
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with a `.dist-info` on `sys.path`, as an installer would."""
    modules: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(distribution: str, module: str, source: str, *, entry: str | None = None, version: str = "1.2") -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[collm]\n{entry or module} = {module}\n")
        modules.append(module)

    yield add
    for module in modules:
        sys.modules.pop(module, None)


def ours(host: PluginHost, prefix: str = "zz") -> list:
    return [status for status in host.statuses if status.name.startswith(prefix)]


def point(module: str, name: str = "zz") -> EntryPoint:
    return EntryPoint(name=name, value=module, group="collm")


def test_a_strangers_distribution_is_found_by_the_same_loader(install: Install) -> None:
    install("zz-mine", "zz_mine", GOOD.format(name="mine", module="zz_mine"))
    host = load_plugins()
    (status,) = ours(host)
    assert (status.ok, status.distribution, status.version, status.module) == (True, "zz-mine", "1.2", "zz_mine")
    assert status.hooks == ("register_encoders",)
    assert [c.name for c, origin in host.components() if origin == status] == ["mine"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_library_zz", "ModuleNotFoundError: No module named 'no_such_library_zz'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError"),
        ("x = 1", "implements no hook; the hooks are: register_backbones"),
        (
            "def register_encoders():\n    return []\n",
            "'register_encoders' looks like a hook but is not marked: put @hookimpl",
        ),
        (
            "def register_encoder():\n    return []\n",
            "'register_encoder' looks like a hook but is not marked: put @hookimpl (from collm.hookspecs) above it "
            "(did you mean 'register_encoders'?)",
        ),
        ("def run_started():\n    pass\n", "'run_started' looks like a hook"),
        (
            "from collm.hookspecs import hookimpl\n@hookimpl\ndef register_encodrs():\n    return []\n",
            "'register_encodrs' is marked @hookimpl, but no hook has that name (did you mean 'register_encoders'?)",
        ),
        (
            "from collm.hookspecs import hookimpl\n@hookimpl\ndef run_started(folder):\n    pass\n",
            "PluginValidationError",
        ),
        (
            "from collm.hookspecs import hookimpl\n@hookimpl\ndef register_encoders():\n    raise ValueError('no')\n",
            "ValueError: no",
        ),
        (
            "from collm.hookspecs import hookimpl\n@hookimpl\ndef register_encoders():\n    return 'mf'\n",
            "register_encoders must return a list of Component, got 'mf'",
        ),
        (GOOD.replace("register_encoders", "register_metrics"), "register_metrics returned '{name}' of kind 'encoder'"),
        (GOOD.replace("{name}", "MyEncoder"), "the name must be lower-case letters and digits with single hyphens"),
        (GOOD.replace("{name}", "my.encoder"), "the name must be lower-case letters and digits with single hyphens"),
        (GOOD.replace('"encoder", "{name}"', '"metric", "{name}"'), "must be a subclass of MetricConfig"),
        (GOOD.replace("EncoderConfig,", "dict,"), "must be a subclass of EncoderConfig"),
        (GOOD.replace('["scores"]', '["score"]'), "gives must be a non-empty subset of"),
        (GOOD.replace("{module}:build", "build"), "factory must be 'package.module:function'"),
    ],
)
def test_a_broken_plugin_is_named_and_the_rest_works(install: Install, source: str, cause: str) -> None:
    install("zz-good", "zz_good", GOOD.format(name="good", module="zz_good"))
    install("zz-bad", "zz_bad", source)
    host = load_plugins()
    bad, good = ours(host)
    assert (bad.name, bad.distribution, bad.version, bad.ok) == ("zz_bad", "zz-bad", "1.2", False)
    assert cause in bad.cause
    assert "\n" not in bad.cause
    assert "Traceback" in bad.traceback
    assert good.ok
    assert "good" in [component.name for component, _ in host.components()]
    assert not host.manager.has_plugin("zz_bad")
    with pytest.raises(PluginError, match=r"plugin 'zz_bad' \(zz-bad 1\.2\)"):
        load_plugins(strict=True)


def test_fields_without_description_and_open_models_are_named(install: Install) -> None:
    source = (
        "from pydantic import BaseModel, Field\n"
        "from collm.contracts.encoder import EncoderConfig as Base\n"
        "class Inner(BaseModel):\n    steps: int = 1\n"
        "class EncoderConfig(Base):\n    size: int = 3\n    inner: Inner = Field(default=Inner(), description='x')\n"
    )
    body = GOOD.replace("from collm.contracts.encoder import EncoderConfig\n", source)
    install("zz-bare", "zz_bare", body.format(name="bare", module="zz_bare"))
    (status,) = ours(load_plugins())
    assert "config class EncoderConfig has fields without a description: size" in status.cause
    assert "config class Inner has fields without a description: steps" in status.cause
    assert 'config class Inner must set extra="forbid"' in status.cause


def test_unknown_profile_field_is_named(install: Install) -> None:
    body = GOOD.replace('"Made for a test.",', '"Made for a test.", profiles={{"paper": {{"fit.lr": 1}}}},')
    install("zz-prof", "zz_prof", body.format(name="prof", module="zz_prof"))
    (status,) = ours(load_plugins())
    assert "profile 'paper' sets 'fit.lr', which EncoderConfig does not have" in status.cause


def test_two_plugins_of_one_name_are_both_reported(install: Install) -> None:
    install("zz-one", "zz_one", GOOD.format(name="one", module="zz_one"), entry="zz")
    install("zz-two", "zz_two", GOOD.format(name="two", module="zz_two"), entry="zz")
    first, second = ours(load_plugins())
    assert (first.distribution, second.distribution) == ("zz-one", "zz-two")
    assert not first.ok
    assert first.cause == second.cause
    assert "by plugin 'zz' (zz-one 1.2) and by plugin 'zz' (zz-two 1.2)" in first.cause


def test_imported_and_private_functions_are_not_taken_for_hooks(install: Install) -> None:
    extra = "from atexit import register as register_exit\ndef _register_more():\n    pass\n"
    install("zz-fine", "zz_fine", GOOD.format(name="fine", module="zz_fine") + extra)
    (status,) = ours(load_plugins())
    assert status.ok, status.cause


def test_trace_tells_of_hook_calls(install: Install, tmp_path: Path) -> None:
    source = "from collm.hookspecs import hookimpl\n@hookimpl\ndef run_started(run_dir):\n    pass\n"
    install("zz-seen", "zz_seen", source)
    lines: list[str] = []
    host = load_plugins([point("zz_seen")], trace=lines.append)
    host.manager.hook.run_started(run_dir=tmp_path, spec={})
    assert lines == ["hook run_started(run_dir, spec) -> ['zz']", "hook run_started returned"]


def test_an_entry_point_without_a_distribution(install: Install) -> None:
    install("zz-plain", "zz_plain", GOOD.format(name="plain", module="zz_plain"))
    (status,) = load_plugins([point("zz_plain")]).statuses
    assert status.ok
    assert status.label() == "plugin 'zz' (zz_plain)"
