"""The contracts of samplers and pruners as tests: subclass one in your plugin's tests and set `component`."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from collm.testing.component_suite import ComponentContract, expect, naming_the_step

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1e-2, log=True),
    "dropout": FloatDistribution(0.0, 0.8, step=0.2),
    "size": IntDistribution(8, 64, step=8),
    "name": CategoricalDistribution(["mf", "din"]),
}
# Exists where `name` is din.
BELOW: dict[str, BaseDistribution] = {"layers@din": CategoricalDistribution(["[200, 80]", "[64]"])}
N_TRIALS = 12


def _quiet_study(n_objectives: int) -> Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Some pruners draw by the name, which is random otherwise.
    return optuna.create_study(study_name="contract", directions=["maximize"] * n_objectives)


class SamplerContract(ComponentContract):
    """What every sampler promises: points of the space, decided by the seed and the study's trials alone."""

    def build(self, seed: int = 1) -> BaseSampler:
        """Builds the sampler for one trial."""
        sampler: BaseSampler = self.component.load_factory()(self.make_config(), seed=seed, context=self.context())
        return sampler

    def new_study(self) -> Study:
        """Returns an empty study as the sampler needs it."""
        several = "several-objectives" in self.component.needs
        return _quiet_study(2 if several else 1)

    def go_on(self, study: Study, n_trials: int) -> list[dict[str, Any]]:
        """Runs trials as `collm study` does, a new sampler for each; returns their points."""
        found = []
        for _ in range(n_trials):
            number = len(study.get_trials(deepcopy=False))
            study.sampler = self.build(seed=1000 + number)
            trial = study.ask()
            with naming_the_step(f"sampling trial {number}"):
                point = {name: trial._suggest(name, distribution) for name, distribution in SPACE.items()}
                if point["name"] == "din":
                    point |= {name: trial._suggest(name, distribution) for name, distribution in BELOW.items()}
            with naming_the_step(f"telling trial {number} its value"):
                study.tell(trial, [point["rate"] * point["size"]] * len(study.directions))
            found.append(point)
        return found

    def test_the_factory_gives_a_sampler(self) -> None:
        """The factory returns an Optuna sampler."""
        built = self.build()
        expect(isinstance(built, BaseSampler), f"the factory returned {built!r:.80}, must be an optuna BaseSampler")

    def test_points_lie_in_the_space(self) -> None:
        """Ranges, steps, whole numbers, choices and conditional fields get values that they may have."""
        for number, point in enumerate(self.go_on(self.new_study(), N_TRIALS)):
            for name, value in point.items():
                distribution = {**SPACE, **BELOW}[name]
                inside = distribution._contains(distribution.to_internal_repr(value))
                expect(inside, f"trial {number}: {name} is {value!r}, outside of {distribution}")

    def test_points_differ(self) -> None:
        """Trials do not all try the same point."""
        points = self.go_on(self.new_study(), N_TRIALS)
        expect(
            len({str(point) for point in points}) > 1,
            f"{N_TRIALS} trials all tried {points[0]}: take the factory's `seed`, or `config.seed` for one sequence",
        )

    def test_seed_and_history_decide(self) -> None:
        """The same seed and the same trials give the same next points."""
        first, second = (self.go_on(self.new_study(), N_TRIALS) for _ in range(2))
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            expect(one == other, f"trial {number} tried {one} once and {other} the second time")

    def test_it_goes_on_from_what_is_stored(self) -> None:
        """A command that continues a study tries what the command before would have tried."""
        whole = self.go_on(self.new_study(), N_TRIALS)
        study = self.new_study()
        parts = [*self.go_on(study, N_TRIALS // 2), *self.go_on(study, N_TRIALS - N_TRIALS // 2)]
        expect(whole == parts, "the points after a new start differ: keep what must be remembered in the storage")

    def test_other_trials_are_no_trouble(self) -> None:
        """Failed, pruned and running trials, enqueued points and trials that were added are lived with."""
        study = self.new_study()
        study.add_trial(create_trial(state=TrialState.FAIL))
        if len(study.directions) == 1:
            pruned = {"params": {"rate": 1e-3}, "distributions": {"rate": SPACE["rate"]}}
            study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5}, **pruned))
        point = {"rate": 1e-3, "dropout": 0.2, "size": 16, "name": "mf"}
        values = [0.5] * len(study.directions)
        study.add_trial(create_trial(values=values, params=point, distributions=SPACE))
        study.ask()
        study.enqueue_trial(point)
        study.sampler = self.build(seed=7)
        trial = study.ask()
        with naming_the_step("sampling an enqueued trial"):
            found = {name: trial._suggest(name, distribution) for name, distribution in SPACE.items()}
        expect(found == point, f"the enqueued point {point} became {found}")
        self.go_on(study, N_TRIALS)


class PrunerContract(ComponentContract):
    """What every pruner promises: a decision at each validation, by the study's trials alone."""

    def build(self) -> BasePruner:
        """Builds the pruner."""
        pruner: BasePruner = self.component.load_factory()(self.make_config(), context=self.context())
        return pruner

    def decisions(self) -> list[bool]:
        """Returns what is decided at each validation of some trials, the first ones better than the others."""
        study = _quiet_study(1)
        study.sampler = optuna.samplers.RandomSampler(seed=0)
        found = []
        for number in range(N_TRIALS):
            trial = study.ask()
            trial.suggest_float("rate", 0, 1)
            for step in range(1, 10):
                value = 0.9 - number / 20 + step / 100
                trial.report(value, step)
                # A new one each time, as in a command that continues the study.
                study.pruner = self.build()
                with naming_the_step(f"trial {number}, validation {step}"):
                    answer = trial.should_prune()
                expect(answer in (True, False), f"prune returned {answer!r:.80}, must be true or false")
                found.append(bool(answer))
                if answer:
                    break
            stopped = found[-1]
            study.tell(trial, None if stopped else value, state=TrialState.PRUNED if stopped else TrialState.COMPLETE)
        return found

    def test_the_factory_gives_a_pruner(self) -> None:
        """The factory returns an Optuna pruner."""
        built = self.build()
        expect(isinstance(built, BasePruner), f"the factory returned {built!r:.80}, must be an optuna BasePruner")

    def test_it_decides_at_every_validation(self) -> None:
        """Each validation gets true or false."""
        expect(bool(self.decisions()), "nothing was decided")

    def test_the_trials_decide(self) -> None:
        """The same trials give the same decisions."""
        first, second = self.decisions(), self.decisions()
        expect(first == second, "the same trials were judged differently a second time")

    def test_a_trial_without_a_validation_goes_on(self) -> None:
        """Before the first validation nothing is stopped."""
        study = _quiet_study(1)
        study.pruner = self.build()
        answer = study.ask().should_prune()
        expect(not answer, "a trial was stopped before it had any value")
