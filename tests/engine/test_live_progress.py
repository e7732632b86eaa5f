"""Progress: rows within rows on a terminal, lines with the names of what runs elsewhere."""

from __future__ import annotations

import re

import numpy as np
import pytest

from collm.engine import progress as module
from collm.engine.progress import progress
from collm.engine.shares import scored_in_parts


@pytest.fixture
def lines(monkeypatch, capsys):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    return lambda: capsys.readouterr().err.splitlines()


@pytest.fixture
def terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n").splitlines()


def test_lines_name_the_work_that_parts_belong_to(lines):
    with progress("evaluate mf"), progress(total=7_331, unit="rows scored") as ticker:
        ticker.advance(1_200)
    (line,) = lines()
    assert re.fullmatch(r"evaluate mf: 1,200/7,331 rows scored, [\d.]+/s, \d+ s left at most\s*", line)


def test_the_rate_after_a_continued_training_counts_its_own_steps_alone(lines, monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("tune_1 text", 1_000, done=600) as ticker:
        ticker.advance(20)
    (line,) = lines()
    assert line.strip() == "tune_1 text: 620/1,000 steps, 2.0/s, 190 s left at most"


def test_the_terminal_rate_after_a_continued_training_counts_its_own_steps_alone(terminal):
    with progress("tune_1 text", 1_000, done=600) as ticker:
        bar = module._DISPLAY._progress.tasks[0]
        clock = iter(range(100, 200, 10))
        module._DISPLAY._progress.get_time = lambda: next(clock)
        ticker.advance(20)
        ticker.advance(20)
        assert bar.completed == 640
        assert bar.speed == 2.0
    terminal()


def test_a_part_of_nothing_is_not_shown(lines):
    with progress(total=10, unit="rows scored") as ticker:
        ticker.advance(5)
    with progress("tune_1", total=10, shown=False) as ticker:
        ticker.advance(5)
    assert lines() == []


def test_work_of_unknown_length_writes_no_lines(lines):
    with progress("prepare_data") as ticker:
        ticker.advance(1)
    assert lines() == []


def test_a_terminal_shows_suite_run_stage_and_step_within_each_other(terminal):
    with progress("s: run 1 of 2: mf"), progress("tune_1"), progress("tune_1", 4, "steps") as ticker:
        ticker.advance(3, {"loss": 0.5})
        module._DISPLAY._progress.refresh()
    shown = terminal()
    at = max(number for number, line in enumerate(shown) if "3/4 steps" in line)
    assert "tune_1" in shown[at - 1]
    assert "run 1 of 2: mf" in shown[at - 2]
    assert "tune_1" not in shown[at], "the same title is not shown twice"
    assert all(len(line) <= 80 for line in shown)
    assert module._DISPLAY._progress is None


def test_the_display_ends_with_an_error(terminal):
    with pytest.raises(KeyboardInterrupt), progress("run"), progress("stage"):
        raise KeyboardInterrupt
    assert module._DISPLAY._progress is None
    assert module._TITLES == []
    terminal()


class Table:
    """Rows as far as scoring in parts reads them."""

    def __init__(self, user, number):
        self.user, self.number = user, number

    def __len__(self):
        return len(self.user)

    def take(self, at):
        return Table(self.user[at], self.number[at])


def test_parts_keep_users_together_and_give_every_row_its_score():
    generator = np.random.default_rng(0)
    user = generator.integers(1, 60, 1_000)
    user[:150] = 7
    seen = []

    def score(rows):
        seen.append(rows)
        return rows.number.astype(np.float32)

    logits = scored_in_parts(Table(user, np.arange(1_000)), score, size=100)
    assert np.array_equal(logits, np.arange(1_000))
    assert max(map(len, seen)) < 200
    for one in set(user.tolist()) - {7}:
        assert sum((rows.user == one).any() for rows in seen) == 1


def test_few_rows_are_one_part_in_their_order():
    table = Table(np.array([3, 1, 3]), np.arange(3))
    assert scored_in_parts(table, lambda part: part if part is table else None, size=3) is table
