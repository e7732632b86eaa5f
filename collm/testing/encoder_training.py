"""The encoder contract, part two: gradients, parameters, phases of the fit, determinism, saved state."""

from __future__ import annotations

import torch

from collm.model.encoder import EncoderModule
from collm.testing.encoder_subject import EncoderSubject
from collm.testing.expectation import expect, naming_the_step


class TrainingChecks(EncoderSubject):
    """Checks of what a fit changes and what is left of it."""

    def test_fit_phases_can_run(self) -> None:
        """A gradient fit has phases of different names; the last selects by AUC; each model is a torch module."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        phases = encoder.fit_phases(self.make_config())
        names = [phase.name for phase in phases]
        expect(bool(names) and len(set(names)) == len(names), f"fit phases must have different names, got {names}")
        expect(phases[-1].select == "auc", f"the last fit phase selects by '{phases[-1].select}', must be 'auc'")
        strangers = [phase.name for phase in phases if not isinstance(phase.model, torch.nn.Module)]
        expect(not strangers, f"the model of fit phase {', '.join(strangers)} is no torch module")

    def test_parameter_groups_hold_every_parameter_once(self) -> None:
        """No trainable parameter is left out of the optimiser or in it twice."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        groups = encoder.parameter_groups(encoder.fit_phases(self.make_config())[-1].fit)
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        wanted = {id(parameter): name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        expect(len(grouped) == len(set(grouped)), "parameter_groups holds a parameter twice")
        left_out = [name for key, name in wanted.items() if key not in set(grouped)]
        expect(not left_out, f"parameter_groups leaves out trainable parameters: {', '.join(left_out)}")

    def test_gradient_reaches_every_parameter(self) -> None:
        """The loss is a finite scalar whose gradient is finite and not zero everywhere, for each parameter."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        loss = encoder.train().loss(self.batch(encoder))
        expect(bool(loss.shape == ()), f"loss has shape {tuple(loss.shape)}; asked is a scalar, the mean over the rows")
        expect(bool(torch.isfinite(loss)), f"loss is {loss.item()}, not finite")
        expect(loss.requires_grad, "loss is cut off from the parameters (it has no gradient)")
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in encoder.named_parameters():
            if not parameter.requires_grad or name in self.unused_parameters:
                continue
            gradient = parameter.grad
            expect(gradient is not None and bool(gradient.any()), f"no gradient reaches parameter '{name}'")
            finite = gradient is not None and bool(torch.isfinite(gradient).all())
            expect(finite, f"the gradient of parameter '{name}' is not finite")

    def test_gradient_flows_through_the_vectors(self) -> None:
        """Tuning can move the encoder through its vectors: `encode` is not cut off from the parameters."""
        encoder = self.build()
        trainable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        if not self.gives_vectors() or not trainable:
            return
        pair = encoder.train().encode(self.batch(encoder))
        for side, vectors in (("user", pair.user), ("item", pair.item)):
            expect(
                vectors.requires_grad,
                f"the {side} vectors of encode are cut off from the parameters (detach or no_grad), "
                "so tuning could not train the encoder through them",
            )

    def test_same_seed_same_encoder(self) -> None:
        """Building and fitting twice under one seed gives equal outputs, and so does asking twice."""
        first, second = self.fitted(seed=1), self.fitted(seed=1)
        batch = self.batch(first)
        for (name, one), (_, two) in zip(self.outputs(first), self.outputs(second), strict=True):
            expect(
                torch.equal(one(batch), one(batch)),
                f"{name}: two calls on the same batch differ; something random is left in eval mode",
            )
            expect(
                torch.equal(one(batch), two(batch)),
                f"{name}: two fits under the same seed differ; draw from torch's global generator only",
            )

    def test_saved_state_is_the_whole_encoder(self) -> None:
        """A fresh encoder of another seed gives equal outputs after a strict load of the state."""
        fitted, fresh = self.fitted(seed=1), self.build(seed=2)
        state = {name: tensor.clone() for name, tensor in fitted.state_dict().items()}
        with naming_the_step("loading the fitted state into a fresh encoder"):
            fresh.load_state_dict(state, strict=True)
        fresh.eval()
        batch = self.batch(fitted)
        for (name, one), (_, two) in zip(self.outputs(fitted), self.outputs(fresh), strict=True):
            expect(
                torch.equal(one(batch), two(batch)),
                f"{name}: differs after save and load; something is not in the state: use parameters and buffers",
            )

    def test_scoring_changes_nothing(self) -> None:
        """Asking for scores or vectors does not change the state of the encoder."""
        encoder = self.fitted()
        before = _state(encoder)
        for name, get in self.outputs(encoder):
            get(self.batch(encoder))
            moved = [key for key, value in _state(encoder).items() if not torch.equal(value, before[key])]
            expect(not moved, f"{name}: changes the encoder's {', '.join(moved)} in eval mode")


def _state(encoder: EncoderModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
