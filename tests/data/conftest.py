"""The fixture of small tables."""

from __future__ import annotations

from small_tables import make_table

__all__ = ["make_table"]
