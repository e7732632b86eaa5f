"""The site: built strictly, complete, and without anything from other servers."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the site is not built: {', '.join(missing)} is not installed (pip install 'collm[docs]')")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return target


class Addresses(HTMLParser):
    """Collects what a page loads: scripts, style sheets, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}.get(tag)
        self.found += [value for name, value in attrs if name == wanted and value]


def loaded(page: Path) -> list[str]:
    parser = Addresses()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.found


def pages(site: Path) -> Iterator[Path]:
    return (page for page in site.glob("*.html") if page.name != "404.html")


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    assert {page.stem for page in pages(site)} == {page.stem for page in DOCS.glob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == sorted(
        page.name for page in DOCS.glob("*.md")
    )


def test_nothing_is_loaded_from_other_servers(site: Path) -> None:
    addresses = {address for page in site.rglob("*.html") for address in loaded(page)}
    assert [each for each in addresses if re.match(r"(?:[a-z]+:)?//", each)] == []
    assert any(address.endswith(".css") for address in addresses)
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert [
        each for sheet in sheets for each in re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]+|@import[^;]+", sheet)
    ] == []


def test_python_reference_has_the_public_names(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("collm.run", "collm.Result", "collm.Result.get", "collm.load_results", "collm.open_run"):
        assert f'id="{name}"' in text, name
    assert "Dotted path of a field" in text


def test_marks_of_the_tests_are_not_shown(site: Path) -> None:
    text = (site / "specs.html").read_text(encoding="utf-8")
    assert "yaml spec" not in text
    assert '<span class="nt">dataset</span>' in text


def test_search_is_built_in(site: Path) -> None:
    assert "floor" in (site / "search" / "search_index.json").read_text(encoding="utf-8")
