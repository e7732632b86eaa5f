"""What processes of a group say to each other, with threads in their place and a store in memory."""

from __future__ import annotations

import functools
from typing import Any

import process_fakes
import pytest
import torch

from collm.engine import launched
from collm.engine.launched import join_group
from collm.errors import RunError, SpecError
from collm.process_group import SINGLE, ProcessFailed, ProcessGroup

SIZE = 3
in_group = functools.partial(process_fakes.in_group, size=SIZE)


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "PATIENCE_S", 0.05)


def fail(error: Exception) -> None:
    raise error


def test_a_group_of_one_does_everything_itself() -> None:
    assert SINGLE.is_main
    assert SINGLE.run_on_main(lambda: 3) == SINGLE.run_main_first(lambda: 3) == SINGLE.run_on_all(lambda: 3) == 3


def test_the_main_process_works_and_all_get_the_answer() -> None:
    calls: list[int] = []

    def work(processes: ProcessGroup) -> Any:
        return processes.run_on_main(
            lambda: calls.append(processes.index) or {"metrics": {"auc": 0.1 + 0.2}, "none": None}
        )

    assert in_group(work) == [{"metrics": {"auc": 0.1 + 0.2}, "none": None}] * SIZE
    assert calls == [0]


def test_the_main_process_is_first() -> None:
    order: list[int] = []
    in_group(lambda processes: processes.run_main_first(lambda: order.append(processes.index)))
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


def test_an_error_of_the_main_process_is_everyones() -> None:
    raised = in_group(lambda processes: processes.run_on_main(lambda: fail(RunError("disk full"))))
    assert [(type(each), str(each)) for each in raised] == [(RunError, "disk full")] * SIZE


def test_after_a_shared_error_the_group_goes_on() -> None:
    def work(processes: ProcessGroup) -> Any:
        with pytest.raises(SpecError, match="row 7"):
            processes.run_on_all(lambda: fail(SpecError("row 7")) if processes.index == 1 else None)
        return processes.run_on_main(lambda: "next run")

    assert in_group(work) == ["next run"] * SIZE


def test_the_first_of_several_errors_is_everyones() -> None:
    raised = in_group(
        lambda processes: processes.run_on_all(
            lambda: fail(RunError(f"from {processes.index}")) if processes.index else None
        )
    )
    assert [str(each) for each in raised] == ["from 1"] * SIZE


def test_an_error_while_the_others_wait_ends_all_and_is_told_once() -> None:
    # The main process fails before a talk that the others are in: they cannot be reached where they are.
    def talk(processes: ProcessGroup) -> None:
        processes.run_on_all(
            lambda: fail(RunError("out of luck")) if processes.index == 0 else processes.run_on_main(lambda: None)
        )

    raised = in_group(talk)
    assert all(isinstance(each, ProcessFailed) for each in raised)
    assert [each.already_reported for each in raised] == [False, True, True]
    assert {str(each) for each in raised} == {"process 0 of 3: out of luck"}


@pytest.mark.parametrize("owner", [0, 2])
def test_a_bug_ends_all_and_its_owner_tells(owner: int) -> None:
    raised = in_group(
        lambda processes: processes.run_on_all(lambda: fail(ValueError("oops")) if processes.index == owner else None)
    )
    assert all(isinstance(each, ProcessFailed) for each in raised)
    assert [each.already_reported for each in raised] == [index != owner for index in range(SIZE)]
    assert str(raised[owner]) == f"process {owner} of 3: unexpected ValueError: oops"


def test_a_bug_of_the_main_process_reaches_those_who_wait_for_it() -> None:
    raised = in_group(
        lambda processes: processes.run_on_all(lambda: processes.run_on_main(lambda: fail(ValueError("oops"))))
    )
    assert [each.already_reported for each in raised] == [False, True, True]


def test_an_interrupt_reaches_those_who_wait() -> None:
    class Stop(BaseException):
        pass

    def work(processes: ProcessGroup) -> Any:
        try:
            return processes.run_on_all(lambda: processes.run_on_main(lambda: stop()))
        except Stop:
            return "stopped"

    def stop() -> None:
        raise Stop

    first, *others = in_group(work)
    assert first == "stopped"
    assert all(isinstance(each, ProcessFailed) and each.already_reported for each in others)


def test_a_group_can_take_leave() -> None:
    assert in_group(lambda processes: processes.close()) == [None] * SIZE


def test_one_numbered_device_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RunError, match="gives each process its own device; leave out the number"):
        join_group("cuda:1", expected=2)


def test_fewer_processes_than_announced_are_an_error() -> None:
    with pytest.raises(RunError, match="announced 2 processes, but 1 met"):
        join_group("cpu", expected=2)
    assert join_group("cpu", expected=1) is SINGLE
