"""Peak, memory and time are measured as said."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from bench_types import OpenSubject

from collm.bench.cases import Amount, make_cases
from collm.bench.machine import Clock, matmul_peak, peak_memory_gb
from collm.bench.sweep import draw_sweep, growth, sweep, sweep_content

CPU = torch.device("cpu")


class FixedClock(Clock):
    """Says that everything takes half a second."""

    def seconds(self, work: Callable[[], object]) -> float:
        work()
        return 0.5


def test_peak_is_the_best_of_the_shapes() -> None:
    peak = matmul_peak(torch.float32, CPU, FixedClock("wall", CPU), shapes=[(2, 3, 4), (8, 8, 8)], seconds_per_shape=0)
    assert peak.shape == (8, 8, 8)
    assert peak.gflops == pytest.approx(2 * 8**3 / 0.5 / 1e9)


def test_peak_memory_sees_what_is_gone_again() -> None:
    before = psutil.Process().memory_info().rss / 1e9

    def work() -> None:
        held = bytearray(300_000_000)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(0.03)

    assert peak_memory_gb(work, CPU) > before + 0.25
    assert peak_memory_gb(lambda: None, CPU) > 0.01


def test_clocks_run() -> None:
    for name in ("wall", "processor"):
        clock = Clock(name, CPU)
        assert 0 < clock.seconds(lambda: sum(range(200_000))) < 5


def test_strategy_decides_which_cases_there_are(open_tiny: OpenSubject) -> None:
    clock = Clock("wall", CPU)
    names = ("scoring", "text_step", "collaborative_step", "ranking_100")
    amount = Amount(rows=8, users=2, repetitions=1)
    text = open_tiny("tuning.name=text-only", "encoder=null")
    assert [case.name for case in make_cases(text, names, amount, clock)] == ["scoring", "text_step", "ranking_100"]
    untuned = open_tiny("tuning.name=none", "encoder=null")
    assert [case.name for case in make_cases(untuned, names, amount, clock)] == ["scoring", "ranking_100"]


def test_pieces_cover_the_rows_once(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    (case,) = make_cases(subject, ["scoring"], Amount(rows=30, users=1, repetitions=4), Clock("wall", CPU))
    assert sum(piece.n_ours for piece in case.pieces) == 30
    assert [piece.text_only is not None for piece in case.pieces] == [False, False, True, False]
    (case,) = make_cases(subject, ["text_step"], Amount(rows=30, users=1, repetitions=2), Clock("wall", CPU))
    assert [piece.n_ours for piece in case.pieces] == [2 * subject.setup.tuning.batch_size] * 2
    before = {name: tensor.clone() for name, tensor in subject.recommender.group_state("lora").items()}
    assert case.pieces[0].ours(Clock("wall", CPU)) > 0
    after = subject.recommender.group_state("lora")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_later_epoch_runs_no_beginning_again(open_tiny: OpenSubject) -> None:
    names = ("collaborative_step", "collaborative_step_kept")
    amount = Amount(rows=8, users=2, repetitions=2)
    clock = Clock("wall", CPU)
    subject = open_tiny("tuning.prefix_cache_gb=0.1")
    step, later = make_cases(subject, names, amount, clock)
    assert later.name == "collaborative_step_kept"
    assert sum(piece.n_ours for piece in later.pieces) == sum(piece.n_ours for piece in step.pieces)
    assert sum(piece.tokens for piece in later.pieces) < 0.9 * sum(piece.tokens for piece in step.pieces)
    step.warm_up()
    assert subject.recommender.kept_prefixes is None
    later.warm_up()
    kept = subject.recommender.kept_prefixes
    assert kept is not None
    n_bytes = kept.n_bytes
    assert n_bytes > 0
    later.pieces[1].ours(clock)
    assert kept.n_bytes == n_bytes
    assert [case.name for case in make_cases(open_tiny("tuning.prefix_cache_gb=0"), names, amount, clock)] == [names[0]]


def test_sweep_and_its_picture(open_tiny: OpenSubject, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    subject = open_tiny()
    cells = sweep(subject, Clock("wall", CPU), histories=(0, 3), candidates=(1, 8, 100_000), repetitions=2)
    most = subject.data.n_items - 20
    assert [(cell.history, cell.candidates) for cell in cells] == [(h, c) for h in (0, 3) for c in (1, 8, most)]
    assert all(cell.ours_ms > 0 and cell.plain_ms > 0 for cell in cells)
    one, many = cells[3], cells[5]
    # Alone nothing is shared; with many the history is spread over all.
    assert one.tokens == one.prompt_tokens
    assert many.tokens < 0.7 * many.prompt_tokens
    assert sweep_content(cells, [])["cells"][0]["speedup"] > 0
    draw_sweep(cells, [tmp_path / "a.svg", tmp_path / "a.png"], title="tiny")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").count("candidates ranked at once")
    assert (tmp_path / "a.png").stat().st_size > 1_000


def test_growth_counts_rows_and_tokens(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    n_pairs = subject.data.n_users * subject.data.n_items
    found = growth(subject, Clock("wall", CPU), sizes=(40, 4, 10 * n_pairs, 20 * n_pairs))
    assert [each.rows for each in found] == [4, 40, n_pairs]
    for each in found:
        assert each.token_us == pytest.approx(each.row_ms / each.tokens * 1e3)
        assert each.peak_memory_gb > 0
    # All items of a user share the prompt's beginning, a single pair shares it with none.
    assert found[-1].tokens < found[0].tokens


def test_pairs_are_distinct_and_known(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    _, rows = subject.pairs(500)
    codes = rows.user.astype(np.int64) * (subject.data.n_items + 1) + rows.item
    assert len(np.unique(codes)) == len(rows) == 500
    assert 1 <= rows.user.min() <= rows.user.max() <= subject.data.n_users
    assert 1 <= rows.item.min() <= rows.item.max() <= subject.data.n_items
    assert (np.diff(rows.user) >= 0).all()
