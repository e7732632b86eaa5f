"""What is said of histories that do not fit, and how they are counted while rows are scored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from collm.stages.prompt_sources import SHORTENED, PromptScorer, shortened_note


def test_shortened_rows_are_counted_over_all_splits() -> None:
    source = cast(Any, SimpleNamespace(encode=lambda rows: SimpleNamespace(n_shortened=len(rows) // 2)))
    scorer = PromptScorer(source, lambda prompts: np.full(prompts.n_shortened, 1.0))
    assert scorer.facts() == {SHORTENED: 0, "probe": None}
    assert [len(scorer(cast(Any, range(n)))) for n in (4, 7)] == [2, 3]
    assert scorer.facts()[SHORTENED] == 5


def test_the_note_names_what_was_shortened() -> None:
    assert shortened_note([], {}, max_tokens=128) == ()
    assert shortened_note([{SHORTENED: 0}], {SHORTENED: 0}, max_tokens=128) == ()
    (note,) = shortened_note([{SHORTENED: 3}, {SHORTENED: 1_200}, {}], {SHORTENED: 70}, max_tokens=128)
    assert note.startswith("The histories of 70 rows scored and of 1,200 rows trained on were shortened")
    assert "more than 128 tokens" in note
    (only,) = shortened_note([], {SHORTENED: 1}, max_tokens=64)
    assert "trained" not in only
