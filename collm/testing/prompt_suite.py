"""The contract of prompts as tests: subclass `PromptContract` in your plugin's tests and set `component`."""

from __future__ import annotations

from collm.contracts.prompt import PromptTemplate
from collm.prompt.template import template_faults
from collm.testing.component_suite import ComponentContract, expect


class PromptContract(ComponentContract):
    """What every prompt promises: a template of segments whose both variants can be asked."""

    def build(self) -> PromptTemplate:
        """Builds the template."""
        template = self.component.load_factory()(self.make_config())
        expect(
            isinstance(template, PromptTemplate), f"the factory returned {type(template).__name__}, not PromptTemplate"
        )
        return template  # type: ignore[no-any-return]

    def test_template_is_sound(self) -> None:
        """Segments, slots and answer words are in order in both variants."""
        faults = template_faults(self.build())
        expect(not faults, "; ".join(faults))

    def test_same_settings_same_template(self) -> None:
        """Building twice gives equal templates."""
        expect(self.build() == self.build(), "two builds under the same settings differ")
