"""What prompts list: likes, dislikes and ages; also of drawn negatives, examples and pairs without a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from list_fakes import VOCABULARY, Ratings

from collm.contracts.data import InteractionTable, Limit
from collm.contracts.prompt import DislikedTitles, HistoryTitles, PromptTemplate, RatedTitles, TargetTitle, Text
from collm.contracts.tuning import TuningConfig
from collm.data.pairs import pair_rows
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.engine.list_task import sampled_lists
from collm.engine.prompt_lists import PromptLists
from collm.engine.prompt_rows import PromptSource
from collm.errors import DataError
from collm.prompt.lists import AGES, TitleLists
from collm.spec.sections import HistoryConfig
from collm.stages.prompt_sources import past_notes
from collm.testing.fakes import FakeTokenizer

DAY = 86_400
START = 1_000_000_000
BOTH = HistoryConfig(include="both", max_items=3, max_disliked=2)
AGED = BOTH.model_copy(update={"ages": True})
TEMPLATE = PromptTemplate(
    hybrid=(),
    text=(
        Text("Liked "),
        HistoryTitles(),
        Text(". Not "),
        DislikedTitles(),
        Text(". New "),
        TargetTitle(),
        Text("? A:"),
    ),
)
RATED = PromptTemplate(hybrid=(), text=(Text("Rated "), RatedTitles(), Text(". New "), TargetTitle(), Text("? A:")))


class Dated(Ratings):
    """Random ratings; times are dates unless `step` is 1; disliked rows of every `drawn`-th item are drawn ones."""

    def __init__(self, *, step: int = 3 * DAY // 2, drawn: int = 0) -> None:
        super().__init__(seed=0)
        times = pl.col("timestamp") if step == 1 else START + pl.col("timestamp") * step
        self.frame = self.frame.with_columns(times.alias("timestamp"))
        self.drawn = drawn

    def load(self) -> InteractionTable:
        table = super().load()
        if not self.drawn:
            return table
        frame = table.frame.with_columns(((pl.col("label") == 0) & (pl.col("item") % self.drawn == 0)).alias("sampled"))
        return InteractionTable(frame, table.user_ids, table.item_ids, table.titles, table.tie_rule)


def opened(folder: Path, source: Dated, visibility: str = "strictly-earlier") -> PreparedData:
    history: Any = SimpleNamespace(visibility=visibility)
    prepare(source, limit=Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


def prompt_source(
    data: PreparedData, history: HistoryConfig, template: PromptTemplate = TEMPLATE, **settings: Any
) -> PromptSource:
    tokenizer = FakeTokenizer(VOCABULARY * 8)
    return PromptSource(
        data,
        PromptTemplate(hybrid=template.segments("text"), text=template.text),
        SimpleNamespace(tokenizer=lambda: tokenizer),  # type: ignore[arg-type]
        variant="text",
        max_tokens=settings.pop("max_tokens", 400),
        history=history,
        device=torch.device("cpu"),
        **settings,
    )


@pytest.fixture
def no_template_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text prompts need no slots here."""
    monkeypatch.setattr("collm.prompt.encode.check_template", lambda template: None)


def said(source: PromptSource, rows: Rows, place: int) -> str:
    prompts = source.encode(rows).prompts
    return source.prompt_encoder.tokenizer.decode(prompts.prompt(place).tolist())


@pytest.mark.usefixtures("no_template_check")
def test_ages_count_to_the_row_and_differ_between_rows_of_one_history(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    rows, table = data.rows("test"), data.interactions()
    lists = PromptLists.of(AGED, data).read(data, rows)
    assert lists.liked is not None and lists.age is not None
    days: dict[str, float] = {"today": 0, "1 day ago": 1, "1 week ago": 7, "1 month ago": 30}
    days |= {f"{n} days ago": n for n in range(2, 7)} | {f"{n} weeks ago": 7 * n for n in range(2, 5)}
    for row in range(len(rows)):
        for at in np.flatnonzero(lists.items[row]):
            rated = table.filter((pl.col("user") == rows.user[row]) & (pl.col("item") == lists.items[row, at]))
            ages = (rows.timestamp[row] - rated["timestamp"].to_numpy()) / DAY
            least = days[AGES[lists.age[row, at]]]
            assert any(least <= age < least + (7 if least >= 7 else 1) + 24 * (least == 30) for age in ages if age > 0)
    groups = prompt_source(data, AGED).encode(rows).prefix_group
    plain = prompt_source(data, BOTH).encode(rows).prefix_group
    assert len(np.unique(groups)) >= len(np.unique(plain))
    for one in range(len(rows)):
        for other in range(one):
            same = rows.user[one] == rows.user[other] and (lists.keys()[one] == lists.keys()[other]).all()
            assert (groups[one] == groups[other]) == same


@pytest.mark.usefixtures("no_template_check")
def test_rows_of_a_group_have_one_beginning(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated(step=DAY // 8))
    # With likes alone, rows of one history have other ages.
    likes = HistoryConfig(max_items=3, ages=True)
    for template, history in ((TEMPLATE, AGED), (RATED, AGED), (TEMPLATE, likes)):
        found = prompt_source(data, history, template).encode(data.rows("train"))
        for group in np.unique(found.prefix_group):
            rows = np.flatnonzero(found.prefix_group == group)
            beginnings = {found.prompts.prompt(row)[: found.shared[row]].tobytes() for row in rows}
            assert len(beginnings) == 1


@pytest.mark.usefixtures("no_template_check")
def test_titles_that_are_left_out_are_counted_over_both_lists(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    rows = data.rows("test")
    whole, short = (prompt_source(data, BOTH, max_tokens=most).encode(rows) for most in (400, 22))
    n_listed = (PromptLists.of(BOTH, data).read(data, rows).items != 0).sum(axis=1)
    assert whole.n_shortened == 0
    assert short.n_shortened == int((short.prompts.n_history_used < n_listed).sum()) > 0


@pytest.mark.usefixtures("no_template_check")
@pytest.mark.parametrize("history", [BOTH, AGED])
def test_drawn_negatives_show_what_their_positive_shows(tmp_path: Path, history: HistoryConfig) -> None:
    data = opened(tmp_path, Dated())
    source = prompt_source(data, history)
    lists = sampled_lists(source, data.rows("train"), TuningConfig(name="tiny", loss="bpr", negatives=3), seed=1)
    drawn = lists.drawn(np.arange(20), epoch=0)
    prompts, positives = lists.encode(drawn), source.encode(lists.rows.take(np.arange(20)))
    for place in range(20):
        ours = [prompts.prompts.prompt(4 * place + n)[: prompts.shared[4 * place + n]].tolist() for n in range(4)]
        assert ours == [positives.prompts.prompt(place)[: positives.shared[place]].tolist()] * 4
        assert len(set(prompts.prefix_group[4 * place : 4 * place + 4])) == 1


@pytest.mark.usefixtures("no_template_check")
def test_examples_list_dislikes_too(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    source = prompt_source(data, BOTH, n_examples=2, max_tokens=600)
    assert said(source, data.rows("test"), 0).count(". Not ") == 3


@pytest.mark.usefixtures("no_template_check")
def test_a_pair_without_a_time_is_as_old_as_the_data(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    last = int(data.column("timestamp").max())
    lists = PromptLists.of(AGED, data)
    users, items = np.arange(1, 7), np.zeros(6, dtype=np.int64)
    without, at_end = (
        lists.read(*pair_rows(data, users, items, time)) for time in (None, np.full(6, last + 1, dtype=np.int64))
    )
    assert without.items.tolist() == at_end.items.tolist()
    assert without.age is not None and at_end.age is not None
    assert without.age.max() < len(AGES) - 1
    assert np.abs(without.age - at_end.age).max() <= 1


def test_likes_alone_are_the_histories(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    rows = data.rows("test")
    lists = PromptLists.of(HistoryConfig(max_items=4), data).read(data, rows)
    assert isinstance(lists, TitleLists)
    assert (lists.liked, lists.age) == (None, None)
    assert lists.items.tolist() == data.history(rows, 4).tolist()
    aged = PromptLists.of(HistoryConfig(max_items=4, ages=True), data).read(data, rows)
    assert aged.items.tolist() == lists.items.tolist()
    assert aged.liked is None
    assert aged.age is not None


@pytest.mark.parametrize("n", [2, 10, 12, 30])
def test_rated_items_are_the_last_of_either_label(n: int, tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    history, rows = HistoryConfig(include="both", max_rated=n), data.rows("test")
    lists, table = PromptLists.of(history, data).read(data, rows), data.interactions()
    most = 0
    for place in range(len(rows)):
        seen = table.filter(
            (pl.col("user") == rows.user[place])
            & (pl.col("timestamp") < rows.timestamp[place])
            & (pl.col("item") != rows.item[place])
        ).sort("order")
        shown = lists.items[place] != 0
        assert lists.items[place][shown].tolist() == seen["item"].to_list()[-n:]
        assert lists.liked is not None
        assert lists.liked[place][shown].astype(int).tolist() == seen["label"].to_list()[-n:]
        most = max(most, len(seen))
    assert most > 10, "some users rated more than a list holds by default"
    assert f"Prompts list the last {n} items that the user rated" in " ".join(past_notes(history, data))


@pytest.mark.parametrize(
    ("source", "history", "visibility", "message"),
    [
        (Dated(step=1), AGED, "all", "history.ages: the dataset's times are numbers of no known unit, not dates"),
        (
            Dated(drawn=1),
            BOTH,
            "all",
            "the dataset has no row with label 0 that prompts could list; its",
        ),
        (Dated(drawn=1), BOTH, "as-of-split", "the training split has no row with label 0"),
    ],
)
def test_data_that_lacks_what_is_listed_is_refused(
    source: Dated, history: HistoryConfig, visibility: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        PromptLists.of(history, opened(tmp_path, source, visibility))


def test_data_without_times_has_no_ages(tmp_path: Path) -> None:
    data = opened(tmp_path, Dated())
    data.has_times = False
    with pytest.raises(DataError, match="rows have an order, but no times, so the age of an item is unknown"):
        PromptLists.of(AGED, data)


def test_drawn_negatives_are_no_dislikes_and_a_note_says_so(tmp_path: Path) -> None:
    data = opened(tmp_path / "some", Dated(drawn=2))
    n = int(data.column("sampled").sum())
    assert f"Its {n} rows drawn as negatives are not dislikes" in " ".join(past_notes(BOTH, data))
    rows = data.rows("train")
    past = data.past(rows, max_liked=0, max_disliked=9)
    assert (past.items[past.items != 0] % 2 == 1).all()
    with pytest.raises(
        DataError, match=r"no row with label 0 that prompts could list; its \d+ rows drawn as negatives"
    ):
        PromptLists.of(BOTH, opened(tmp_path / "all", Dated(drawn=1)))
