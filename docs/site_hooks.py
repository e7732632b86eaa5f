"""What the site shows differently from the plain files: read by mkdocs (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
# Words behind the language tell the tests what to do with a block.
_MARKED = re.compile(r"^(```\w+) \w+$", re.MULTILINE)
# Files of the repository that are not pages.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
# Links that show a page's file name, which serves readers of the files.
_FILE_NAME = re.compile(r"\[([\w-]+\.md)\]\(\1((?:#[^)]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Returns a page with titles in place of file names, without the tests' marks and links that leave the site."""
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation"]
    shown = _OUTSIDE.sub(r"\1", _MARKED.sub(r"\1", markdown))
    return _FILE_NAME.sub(lambda link: f"[{title(link[1])}]({link[1]}{link[2]})", shown)


@functools.cache
def title(name: str) -> str:
    """Returns the first heading of a page.

    Args:
        name: Its file name.
    """
    return (DOCS / name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
