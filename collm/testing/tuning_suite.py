"""The contract of tuning strategies as tests: subclass `TuningContract` in your plugin's tests and set `component`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from collm.contracts.prompt import Variant
from collm.contracts.tuning import Group, Start, StepConfig, TuneStep, TuningStrategy
from collm.testing.component_suite import ComponentContract, expect

VARIANTS, GROUPS, STARTS = get_args(Variant), get_args(Group), get_args(Start)


class TuningContract(ComponentContract):
    """What every strategy promises: a plan whose steps can run one after another."""

    def build(self) -> TuningStrategy:
        """Builds the strategy."""
        strategy: TuningStrategy = self.component.load_factory()(self.make_config())
        return strategy

    def plan(self) -> Sequence[TuneStep]:
        """Returns the steps."""
        return self.build().plan()

    def test_declarations(self) -> None:
        """`needs_encoder` and `variant` are of the known values and agree with the record."""
        strategy = self.build()
        expect(strategy.variant in VARIANTS, f"variant '{strategy.variant}' must be one of {', '.join(VARIANTS)}")
        expect(isinstance(strategy.needs_encoder, bool), f"needs_encoder is {strategy.needs_encoder!r}, must be a bool")
        declared = "encoder" in self.component.needs
        expect(
            declared == strategy.needs_encoder,
            f"needs_encoder={strategy.needs_encoder}, but the record has needs={sorted(self.component.needs)}",
        )

    def test_steps_name_known_things(self) -> None:
        """Step names are unique; variants, groups and starts are known; each group that trains has its settings."""
        steps = self.plan()
        names = [step.name for step in steps]
        expect(len(set(names)) == len(names), f"steps must have different names, got {names}")
        for step in steps:
            expect(step.variant in VARIANTS, f"step '{step.name}': unknown variant '{step.variant}'")
            strange = [group for group in step.groups if group not in GROUPS]
            expect(not strange, f"step '{step.name}': unknown groups {strange}; groups: {', '.join(GROUPS)}")
            starts = {plan.start for plan in step.groups.values()} - set(STARTS)
            expect(not starts, f"step '{step.name}': unknown starts {sorted(starts)}; starts: {', '.join(STARTS)}")
            training = list(step.trained)
            expect(bool(training), f"step '{step.name}' trains nothing")
            bare = [group for group in training if not isinstance(step.optimiser.get(group), StepConfig)]
            expect(not bare, f"step '{step.name}': no StepConfig in `optimiser` for {', '.join(bare)}")

    def test_steps_can_follow_each_other(self) -> None:
        """A group starts from the previous step only where that step has it; only the encoder starts pretrained."""
        before: frozenset[Group] = frozenset()
        for number, step in enumerate(self.plan(), start=1):
            for group, plan in step.groups.items():
                where = f"step {number} ('{step.name}'), group '{group}'"
                known = plan.start != "previous" or group in before
                expect(known, f"{where}: starts from the previous step, which does not have it")
                expect(plan.start != "pretrained" or group == "encoder", f"{where}: only the encoder starts pretrained")
            before |= frozenset(step.groups)

    def test_groups_fit_the_variant(self) -> None:
        """Mapping and encoder belong to hybrid prompts; what the finished model reads is part of the last step."""
        strategy, steps = self.build(), self.plan()
        for step in steps:
            slots = {"projector", "encoder"} & set(step.groups)
            expect(
                step.variant == "hybrid" or not slots,
                f"step '{step.name}' reads the text prompt, which has no slots, but holds {', '.join(sorted(slots))}",
            )
        if steps and strategy.variant == "hybrid":
            last = steps[-1].groups
            missing = {"projector", "encoder"} - set(last)
            # Slots that take words are read by the adapters alone.
            reads_words = len(missing) == 2 and "lora" in last and last["lora"].trains
            expect(
                not missing or reads_words,
                f"the last step lacks {', '.join(sorted(missing))}, which the hybrid prompt reads",
            )
