"""Which titles count as the same."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collm.inspect.similar_titles import example_groups, n_identical, similar_items, title_keys


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Heat (1995)", "heat"),
        ("The  Matrix", "matrix"),
        ("Matrix, The (1999)", "matrix"),
        ("MATRIX - THE!", "matrix the"),  # a rule, no understanding
        ("An Affair to Remember (1957)", "affair to remember"),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "city of lost children cite des enfants perdus",
        ),
        ("Amélie", "amelie"),
        ("AMÉLIE", "amelie"),
        ("Beavis & Butt-head", "beavis and butt head"),
        ("Twin Peaks (1989-1990)", "twin peaks"),
        ("2001: A Space Odyssey (1968)", "2001 a space odyssey"),
        ("Blade Runner 2049", "blade runner 2049"),
        ("1984", "1984"),
        ("千と千尋の神隠し", "千と千尋の神隠し"),
        ("$ (1971)", "$ (1971)"),
        ("???", "???"),
        ("A", "a"),
        ("The", "the"),
        ("", None),
        ("   ", None),
    ],
)
def test_keys(title: str, key: str | None) -> None:
    assert title_keys(pl.Series([title])).to_list() == title_keys(pl.Series([key], dtype=pl.String)).to_list() or (
        title_keys(pl.Series([title])).to_list() == [key]
    )
    assert title_keys(pl.Series([title])).to_list()[0] == key


def test_groups() -> None:
    titles = pl.Series(["", "Heat (1995)", "Alien", "HEAT", "", "", "The Alien (1979)", "Aliens", "Alien"])
    groups = similar_items(titles)
    np.testing.assert_array_equal(groups > 0, [False, True, True, True, False, False, True, False, True])
    assert groups[1] == groups[3] != groups[2] == groups[6] == groups[8]
    assert example_groups(titles, groups, 5) == [["Alien", "The Alien (1979)", "Alien"], ["Heat (1995)", "HEAT"]]
    assert n_identical(titles) == 2
    assert not similar_items(pl.Series([""])).any()
    assert similar_items(pl.Series(["", "Heat"])).tolist() == [0, 0]
