"""Prints the oldest versions that pyproject.toml allows, as a constraints file: used by `make test-oldest`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def oldest(requirements: list[str]) -> list[str]:
    """Turns `name>=1.2,<2` into `name==1.2`; names without a lower bound are left out."""
    found = (re.match(r"([A-Za-z0-9._-]+)[^>]*>=([0-9.]+)", each) for each in requirements)
    return [f"{each[1]}=={each[2]}" for each in found if each]


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join(oldest(project["dependencies"])) + "\n")
