"""What processes of a team say to each other, with threads in their place and a store in memory."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import team_fakes
import torch

from collm.engine import launched
from collm.engine.launched import join_team
from collm.errors import RunError, SpecError
from collm.runs.team import ALONE, ProcessFailed, Team

SIZE = 3
in_team = functools.partial(team_fakes.in_team, size=SIZE)


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "PATIENCE_S", 0.05)


def fail(error: Exception) -> None:
    raise error


def test_a_team_of_one_does_everything_itself() -> None:
    assert ALONE.is_main
    assert ALONE.from_main(lambda: 3) == ALONE.main_first(lambda: 3) == ALONE.together(lambda: 3) == 3


def test_the_main_process_works_and_all_get_the_answer() -> None:
    calls: list[int] = []

    def work(team: Team) -> Any:
        return team.from_main(lambda: calls.append(team.index) or {"metrics": {"auc": 0.1 + 0.2}, "none": None})

    assert in_team(work) == [{"metrics": {"auc": 0.1 + 0.2}, "none": None}] * SIZE
    assert calls == [0]


def test_the_main_process_is_first() -> None:
    order: list[int] = []
    in_team(lambda team: team.main_first(lambda: order.append(team.index)))
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


def test_an_error_of_the_main_process_is_everyones() -> None:
    raised = in_team(lambda team: team.from_main(lambda: fail(RunError("disk full"))))
    assert [(type(each), str(each)) for each in raised] == [(RunError, "disk full")] * SIZE


def test_after_a_shared_error_the_team_goes_on() -> None:
    def work(team: Team) -> Any:
        with pytest.raises(SpecError, match="row 7"):
            team.together(lambda: fail(SpecError("row 7")) if team.index == 1 else None)
        return team.from_main(lambda: "next run")

    assert in_team(work) == ["next run"] * SIZE


def test_the_first_of_several_errors_is_everyones() -> None:
    raised = in_team(lambda team: team.together(lambda: fail(RunError(f"from {team.index}")) if team.index else None))
    assert [str(each) for each in raised] == ["from 1"] * SIZE


def test_an_error_while_the_others_wait_ends_all_and_is_told_once() -> None:
    # The main process fails before a talk that the others are in: they cannot be reached where they are.
    def talk(team: Team) -> None:
        team.together(lambda: fail(RunError("out of luck")) if team.index == 0 else team.from_main(lambda: None))

    raised = in_team(talk)
    assert all(isinstance(each, ProcessFailed) for each in raised)
    assert [each.told for each in raised] == [False, True, True]
    assert {str(each) for each in raised} == {"process 0 of 3: out of luck"}


@pytest.mark.parametrize("owner", [0, 2])
def test_a_bug_ends_all_and_its_owner_tells(owner: int) -> None:
    raised = in_team(lambda team: team.together(lambda: fail(ValueError("oops")) if team.index == owner else None))
    assert all(isinstance(each, ProcessFailed) for each in raised)
    assert [each.told for each in raised] == [index != owner for index in range(SIZE)]
    assert str(raised[owner]) == f"process {owner} of 3: unexpected ValueError: oops"


def test_a_bug_of_the_main_process_reaches_those_who_wait_for_it() -> None:
    raised = in_team(lambda team: team.together(lambda: team.from_main(lambda: fail(ValueError("oops")))))
    assert [each.told for each in raised] == [False, True, True]


def test_an_interrupt_reaches_those_who_wait() -> None:
    class Stop(BaseException):
        pass

    def work(team: Team) -> Any:
        try:
            return team.together(lambda: team.from_main(lambda: stop()))
        except Stop:
            return "stopped"

    def stop() -> None:
        raise Stop

    first, *others = in_team(work)
    assert first == "stopped"
    assert all(isinstance(each, ProcessFailed) and each.told for each in others)


def test_a_team_can_take_leave() -> None:
    assert in_team(lambda team: team.close()) == [None] * SIZE


def test_one_numbered_device_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RunError, match="gives each process its own device; leave out the number"):
        join_team("cuda:1", expected=2)


def test_fewer_processes_than_announced_are_an_error() -> None:
    with pytest.raises(RunError, match="announced 2 processes, but 1 met"):
        join_team("cpu", expected=2)
    assert join_team("cpu", expected=1) is ALONE
