"""The contract of encoders as tests: subclass `EncoderContract` in your plugin's tests and set `component`.

class TestMyEncoder(EncoderContract):
    component = register_encoders()[0]
    settings = {"embedding_size": 8}
"""

from __future__ import annotations

from collm.contracts.encoder import GIVES, NEEDS
from collm.testing.component_suite import expect
from collm.testing.encoder_outputs import OutputChecks, TrainingChecks


class EncoderContract(TrainingChecks, OutputChecks):
    """What every encoder promises, checked on a tiny dataset; see `EncoderSubject` for what a subclass may set."""

    def test_declarations_agree(self) -> None:
        """The record and the built encoder declare the same, from the known words."""
        encoder, component = self.build(), self.component
        expect(
            bool(component.gives) and component.gives <= GIVES,
            f"gives={sorted(component.gives)} must be a non-empty subset of {sorted(GIVES)}",
        )
        expect(component.needs <= NEEDS, f"needs={sorted(component.needs)} must be a subset of {sorted(NEEDS)}")
        expect(
            encoder.gives == component.gives,
            f"the encoder gives {sorted(encoder.gives)} but its component record says {sorted(component.gives)}",
        )
        expect(encoder.fit_mode in ("gradient", "direct", "none"), f"unknown fit_mode '{encoder.fit_mode}'")
        wants_history = encoder.history_items > 0
        expect(
            wants_history == ("history" in component.needs),
            f"history_items={encoder.history_items} but needs={sorted(component.needs)}; both or neither ask for it",
        )
        expect(
            encoder.reads_earlier_labels == ("earlier-labels" in component.needs),
            f"reads_earlier_labels={encoder.reads_earlier_labels} but needs={sorted(component.needs)}; both or neither",
        )
        has_dims = encoder.user_dim is not None and encoder.item_dim is not None
        expect(
            has_dims == ("vectors" in encoder.gives),
            f"user_dim={encoder.user_dim}, item_dim={encoder.item_dim}: set both exactly where `vectors` is given",
        )
