"""Samplers and pruners as components of a study: what they ask for, what is recorded, what follows when they fail."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from study_fakes import STUDY, Studies

from collm.component import Component
from collm.contracts.search import PrunerConfig, SamplerConfig
from collm.errors import RunError, SpecError
from collm.registry import Registry, registry_of
from collm.study import records
from collm.study.records import ClaimedTrial, Outcome
from collm.study.search_rules import drawn_at_random
from collm.study.show import study_data

RANGES = """\
    encoder.embedding_size: {low: 2, high: 8}
    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    encoder.fit.epochs: [2, 3]
"""


class Breaks(optuna.samplers.RandomSampler):
    """A stranger's sampler that fails at its third trial."""

    broken = True

    def sample_independent(self, study: Any, trial: Any, *rest: Any) -> Any:
        if trial.number == 2 and self.broken:
            raise KeyError("what I know by heart")
        return super().sample_independent(study, trial, *rest)


class Stumbles(optuna.pruners.BasePruner):
    def prune(self, study: Any, trial: Any) -> bool:
        raise ZeroDivisionError("no trial to compare with")


def build_breaks(config: SamplerConfig, *, seed: int, context: Any) -> Breaks:
    return Breaks(seed=seed)


def build_stumbles(config: PrunerConfig, *, context: Any) -> Stumbles:
    return Stumbles()


def build_nothing(config: SamplerConfig, *, seed: int, context: Any) -> str:
    return "no sampler"


def with_strangers(installed: Registry) -> Registry:
    own = [
        Component("sampler", "breaks", "test_study_search:build_breaks", SamplerConfig, "Fails."),
        Component("sampler", "nothing", "test_study_search:build_nothing", SamplerConfig, "Is none."),
        Component("pruner", "stumbles", "test_study_search:build_stumbles", PrunerConfig, "Fails."),
    ]
    return registry_of([*installed.components(), *own], plugin="test_study_search")


@pytest.fixture
def strangers(studies: Studies, installed: Registry) -> Studies:
    studies.registry = with_strangers(installed)
    return studies


def test_a_sampler_of_ones_own_chooses_and_its_fault_is_named(
    strangers: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = strangers.queue(STUDY.replace("name: random", "name: breaks"))
    for _ in range(2):
        found = queue.claim()
        assert isinstance(found, ClaimedTrial)
        queue.finish(found.number, Outcome("complete", values=(0.5,)))
    with pytest.raises(RunError, match=r"sampler 'breaks', plugin .*failed: KeyError: 'what I know by heart'"):
        queue.claim()
    # Once it works, the same trial goes on.
    monkeypatch.setattr(Breaks, "broken", False)
    found = queue.claim()
    assert isinstance(found, ClaimedTrial)
    assert (found.number, found.attempt) == (2, 1)


def test_a_pruner_of_ones_own_is_asked_and_its_fault_is_named(strangers: Studies) -> None:
    queue = strangers.queue(STUDY.replace("  trials", "  pruner: {name: stumbles}\n  trials"))
    found = queue.claim()
    assert isinstance(found, ClaimedTrial)
    with pytest.raises(RunError, match=r"pruner 'stumbles', plugin .*: ZeroDivisionError: no trial to compare with"):
        queue.report(found.number, 1, 0.5)


def test_what_is_no_sampler_is_located(strangers: Studies) -> None:
    queue = strangers.queue(STUDY.replace("name: random", "name: nothing"))
    with pytest.raises(
        SpecError, match=r"study.yaml:6:12: study.sampler: sampler 'nothing' cannot be built: .*'no sam"
    ):
        queue.record_search()


def test_a_study_records_what_its_trials_came_from(studies: Studies) -> None:
    queue = studies.queue()
    queue.record_search()
    queue.record_search()
    claimed = queue.claim()
    assert isinstance(claimed, ClaimedTrial)
    other = studies.queue(STUDY.replace("name: random, seed: 1", "name: optuna, type: TPESampler, seed: 3"))
    other.record_search()
    first, second = study_data(other)["searches"]
    assert (first["from_trial"], second["from_trial"]) == (0, 1)
    assert first["sampler"]["settings"] == {"name": "random", "seed": 1}
    assert first["optuna"] == optuna.__version__
    assert second["sampler"]["settings"] == {"name": "optuna", "seed": 3, "type": "TPESampler", "settings": {}}
    assert other.study.user_attrs[records.SEARCHES] == [first, second]


def test_names_may_be_left_out(studies: Studies) -> None:
    file = studies.read(STUDY.replace("name: random, seed: 1", "seed: 5"))
    assert (file.sampler.name, file.sampler.seed, file.pruner.name) == ("tpe", 5, "none")
    assert studies.read(STUDY.replace("  sampler: {name: random, seed: 1}\n", "")).sampler.name == "tpe"


def test_cmaes_says_what_it_draws_at_random(studies: Studies) -> None:
    text = STUDY[: STUDY.index("    encoder.embedding")].replace("random", "cmaes") + RANGES
    said = "cmaes models encoder.embedding_size, encoder.fit.learning_rate; drawn at random: encoder.fit.epochs"
    assert drawn_at_random(studies.check(text).file) == said
    assert drawn_at_random(studies.check(text.replace("cmaes", "random")).file) == ""


def test_cmaes_refuses_what_it_cannot_search(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("random", "cmaes"))
    assert (
        "study.sampler.name: cmaes searches ranges (low, high) outside of groups, at least two; here are 1" in message
    )
    text = STUDY[: STUDY.index("    encoder.embedding")].replace("random", "cmaes") + RANGES
    message = studies.only_problem(text.replace("valid.auc", "[valid.auc, valid.uauc]"))
    assert "cmaes is for one objective" in message
