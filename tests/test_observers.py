"""Observers: called with what they name; one that raises is reported once and does not stop the run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from collm.hookspecs import hookimpl
from collm.plugins import Observers, PluginHost, make_manager


class Good:
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    @hookimpl
    def step_logged(self, step, values):
        self.seen.append((step, values["loss"]))


class Bad:
    @hookimpl
    def step_logged(self, run_dir):
        raise ValueError("tracker is down")


def test_a_failing_observer_is_reported_once_and_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    manager, good = make_manager(), Good()
    manager.register(Bad(), name="bad")
    manager.register(good, name="good")
    observers = Observers(PluginHost(manager, ()))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            observers.notify("step_logged", run_dir=Path("r"), stage="tune_1", step=step, values={"loss": 0.5})
    assert good.seen == [(1, 0.5), (2, 0.5)]
    assert [record.message for record in caplog.records] == [
        "observer plugin 'bad' failed in step_logged; the run goes on"
    ]
    assert "tracker is down" in caplog.text


def test_no_observer_is_fine() -> None:
    Observers(PluginHost(make_manager(), ())).notify("run_finished", run_dir=Path("r"), results={})
