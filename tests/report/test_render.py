"""Rendered reports: every format shows the same numbers, hostile names stay text, links point to folders."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from report_fakes import WriteRun
from rich.console import Console

from collm.component import BuildContext
from collm.registry import Registry
from collm.report.collect import MissingRun, Reading, collect
from collm.report.figures import report_figures
from collm.report.records import Summary
from collm.report.render import escape_latex, escape_markdown, terminal_tables, to_html, to_latex, to_markdown
from collm.report.summary import summarise
from collm.report.tables import report_tables, to_csv
from collm.rescore import Measure

HOSTILE = "<script>alert('x')</script>|$a_b$&50%"


@pytest.fixture
def summary(write_run: WriteRun, registry: Registry, measure: Measure, tmp_path: Path) -> Summary:
    folders = [
        write_run(HOSTILE, noise=0.5, seed=0),
        write_run(HOSTILE, noise=0.5, seed=1),
        write_run("weak", noise=4.0),
    ]
    collected = collect(folders, Reading(tmp_path, registry, BuildContext(cache_dir=tmp_path)))
    missing = (MissingRun("lost", 0, "RunError: <b>disk</b> full"),)
    return summarise(type(collected)(collected.title, collected.runs, missing), measure)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.links.extend(filter(None, [found.get("href")]))
        self.ids.extend(filter(None, [found.get("id")]))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escapes_names(summary: Summary, tmp_path: Path) -> None:
    page = Page()
    page.feed(to_html(summary, report_figures(summary), folder=tmp_path))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert HOSTILE in page.text
    assert "<b>disk</b> full" in page.text
    assert not [link for link in page.links if link.startswith(("http", "//"))]
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else (tmp_path / unquote(link)).is_dir()
    figures = {"slices", "curves", "calibration", "time"}
    assert {"results-all", "results-warm", "comparisons", "cost", "missing"} | figures <= set(page.ids)


def test_every_number_of_a_method_links_to_its_run_folder(summary: Summary) -> None:
    for grid in report_tables(summary):
        if grid.key.startswith("results-"):
            for row, is_floor in zip(grid.rows, grid.dim, strict=True):
                assert all(bool(cell.link) is not is_floor for cell in row[1:4])


def test_formats_show_the_same_numbers(summary: Summary) -> None:
    value = summary.lines[1].cells["all"]["auc"].value
    assert value is not None
    console = Console(file=io.StringIO(), width=200)
    console.print(*terminal_tables(summary))
    texts = [console.file.getvalue(), to_markdown(summary), to_latex(summary)]  # type: ignore[attr-defined]
    assert all(f"{value:.4f}" in text for text in texts)
    rows = list(csv.DictReader(io.StringIO(to_csv(summary))))
    assert len(rows) == 3 * 3 * 3
    found = next(row for row in rows if row["method"] == HOSTILE and row["slice"] == "all" and row["metric"] == "auc")
    assert float(found["value"]) == value
    assert found["seeds"] == "0 1"


def test_markdown_and_latex_escape() -> None:
    assert escape_markdown("a|b*c_d<e>`f`") == r"a\|b\*c\_d\<e\>\`f\`"
    assert escape_latex(r"a_b & 5% \x {y} $z$ #1 ~ ^") == (
        r"a\_b \& 5\% \textbackslash{}x \{y\} \$z\$ \#1 \textasciitilde{} \textasciicircum{}"
    )


def test_markdown_tables_are_well_formed(summary: Summary) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", to_markdown(summary), flags=re.MULTILINE)
    assert len(blocks) >= 5
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
        assert len(widths) == 1


def test_latex_tables_have_one_form(summary: Summary) -> None:
    text = to_latex(summary)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") >= 5
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")


def test_a_browser_opens_the_page(summary: Summary, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    (tmp_path / "report.html").write_text(to_html(summary, report_figures(summary), folder=tmp_path), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [
        browser,
        *flags.split(),
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}/profile",
    ]
    done = subprocess.run(
        [*command, "--window-size=390,900", f"--screenshot={tmp_path}/phone.png", f"file://{tmp_path}/report.html"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "phone.png").stat().st_size > 10_000
    dumped = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/report.html"], capture_output=True, timeout=120, check=True
    ).stdout.decode()
    assert dumped.count("<svg") == 4 + 3, "three of them on the first screen"
    assert "<script" not in dumped
