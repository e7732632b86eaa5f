"""The contract of encoders as tests: subclass `EncoderContract` in your plugin's tests and set `component`.

class TestMyEncoder(EncoderContract):
    component = register_encoders()[0]
    settings = {"embedding_size": 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from collm.component import BuildContext, Component
from collm.contracts.encoder import GIVES, NEEDS, EncoderBatch, EncoderConfig, EncoderData, FitConfig
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm.testing.encoder_checks import check_pair, check_scores, encode, same, score, take
from collm.testing.expectation import expect
from collm.testing.fakes import encoder_batch, encoder_data


class EncoderContract:
    """What every encoder promises, checked on a tiny dataset.

    Attributes:
        component: The record under test.
        settings: Fields of its config that the tests set; defaults otherwise. Small sizes keep the tests quick.
        fit_steps: Optimiser steps that stand for a fit.
        unused_parameters: Names of parameters that no score may reach, with a reason in the subclass.
    """

    component: ClassVar[Component]
    settings: ClassVar[Mapping[str, Any]] = {}
    fit_steps: ClassVar[int] = 3
    unused_parameters: ClassVar[frozenset[str]] = frozenset()

    # -- what the tests build -------------------------------------------------------------------------------------

    def make_config(self) -> EncoderConfig:
        """Returns the settings under test."""
        config = self.component.config.model_validate({"name": self.component.name, **self.settings})
        expect(isinstance(config, EncoderConfig), f"{type(config).__name__} must be a subclass of EncoderConfig")
        return config  # type: ignore[return-value]

    def make_data(self) -> EncoderData:
        """Returns training rows in which the last user and the last item do not appear."""
        return encoder_data()

    def build(self, seed: int = 0) -> EncoderModule:
        """Builds the encoder, untrained."""
        torch.manual_seed(seed)
        context = BuildContext(cache_dir=Path("no-cache"))
        encoder = self.component.load_factory()(self.make_config(), data=self.make_data(), context=context)
        expect(
            isinstance(encoder, torch.nn.Module), f"the factory returned {type(encoder).__name__}, not a torch module"
        )
        return encoder  # type: ignore[no-any-return]

    def fitted(self, seed: int = 0) -> EncoderModule:
        """Builds and fits the encoder; it comes back in eval mode."""
        encoder, data = self.build(seed), self.make_data()
        batch = self.batch(encoder)
        if encoder.fit_mode == "direct":
            encoder.fit_direct(data, iter([batch]))
        elif encoder.fit_mode == "gradient":
            optimiser = torch.optim.Adam(encoder.parameter_groups(self.fit_settings()))
            encoder.train()
            for _ in range(self.fit_steps):
                optimiser.zero_grad()
                encoder.loss(batch).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return encoder.eval()

    def fit_settings(self) -> FitConfig:
        """Returns the config's own `fit`, or the defaults where it has none."""
        fit = getattr(self.make_config(), "fit", FitConfig())
        return fit if isinstance(fit, FitConfig) else FitConfig()

    def batch(self, encoder: EncoderModule) -> EncoderBatch:
        """Returns all training rows as a batch, with history where the encoder wants it."""
        return encoder_batch(self.make_data(), history_items=encoder.history_items)

    # -- declarations ---------------------------------------------------------------------------------------------

    def test_config_survives_a_round_trip(self) -> None:
        """Settings written as JSON and read again are equal, and every field is described."""
        config = self.make_config()
        read = type(config).model_validate_json(config.model_dump_json())
        expect(read == config, f"config changed in a JSON round trip: {config} became {read}")
        bare = [name for name, field in type(config).model_fields.items() if not field.description]
        expect(not bare, f"config fields without a description: {', '.join(bare)}")

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
        has_dims = encoder.user_dim is not None and encoder.item_dim is not None
        expect(
            has_dims == ("vectors" in encoder.gives),
            f"user_dim={encoder.user_dim}, item_dim={encoder.item_dim}: set both exactly where `vectors` is given",
        )

    def test_parameter_groups_hold_every_parameter_once(self) -> None:
        """No trainable parameter is left out of the optimiser or in it twice."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        grouped = [id(p) for group in encoder.parameter_groups(self.fit_settings()) for p in group["params"]]
        wanted = {id(p): name for name, p in encoder.named_parameters() if p.requires_grad}
        expect(len(grouped) == len(set(grouped)), "parameter_groups holds a parameter twice")
        left_out = [name for key, name in wanted.items() if key not in set(grouped)]
        expect(not left_out, f"parameter_groups leaves out trainable parameters: {', '.join(left_out)}")

    # -- scores and vectors ---------------------------------------------------------------------------------------

    def test_scores_are_float32_logits_per_row(self) -> None:
        """`score` returns finite float32 [batch]."""
        if "scores" not in self.component.gives:
            return
        if (untrained := self.build()).fit_mode != "direct":
            # Before a fit: a wrong shape is named here and not deep inside the loss.
            batch = self.batch(untrained)
            check_scores(score(untrained, batch), len(batch.user))
        encoder = self.fitted()
        batch = self.batch(encoder)
        check_scores(score(encoder, batch), len(batch.user))

    def test_vectors_have_the_declared_size(self) -> None:
        """`encode` returns finite [batch, user_dim] and [batch, item_dim]; an encoder without vectors refuses."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        if self._gives_vectors():
            check_pair(encoder, encode(encoder, batch), len(batch.user))
            return
        try:
            encode(encoder, batch)
        except PluginError:
            return
        expect(False, f"gives={sorted(encoder.gives)} but encode returned something; it must raise PluginError")

    def test_user_vector_depends_on_the_item_as_declared(self) -> None:
        """Another target item changes the user vector exactly where `user_depends_on_item` says so."""
        if not self._gives_vectors():
            return
        encoder = self.fitted()
        batch = self.batch(encoder)
        other = replace(batch, item=batch.item.roll(1))
        changed = not same(encode(encoder, batch).user, encode(encoder, other).user)
        expect(
            changed == encoder.user_depends_on_item,
            f"user_depends_on_item={encoder.user_depends_on_item}, but the user vector "
            f"{'changes' if changed else 'does not change'} with the target item",
        )

    def test_padding_and_unseen_ids_are_finite(self) -> None:
        """Id 0, ids without a training row and empty histories give finite scores and vectors."""
        encoder, data = self.fitted(), self.make_data()
        batch = EncoderBatch(
            user=torch.tensor([0, data.n_users, 0, data.n_users, 1]),
            item=torch.tensor([0, data.n_items, data.n_items, 0, data.n_items]),
        )
        lengths = (encoder.history_items, 0) if encoder.history_items else (None,)
        for length in lengths:
            history = None if length is None else torch.zeros((5, length), dtype=torch.int64)
            self._check_outputs(encoder, replace(batch, history=history))

    def test_one_row_is_a_batch(self) -> None:
        """A last batch of one row scores, encodes and trains."""
        encoder = self.fitted()
        batch = encoder_batch(self.make_data(), history_items=encoder.history_items, rows=[3])
        self._check_outputs(encoder, batch)
        if encoder.fit_mode == "gradient":
            loss = encoder.train().loss(batch)
            expect(
                bool(loss.shape == ()) and bool(torch.isfinite(loss)), f"loss of one row is {loss}, not a finite scalar"
            )

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        """Scores and vectors are the same alone, in another order and beside other rows."""
        encoder = self.fitted()
        whole = self.batch(encoder)
        order = torch.arange(len(whole.user)).flip(0)
        parts = (order[:1], order[1:8], order[8:])
        for name, get in self._outputs(encoder):
            together = get(whole)[order]
            apart = torch.cat([get(take(whole, part)) for part in parts])
            expect(same(together, apart), f"{name}: a row's result changes with the batch it is in")

    # -- training, state, leaks -----------------------------------------------------------------------------------

    def test_gradient_reaches_every_parameter(self) -> None:
        """The loss is a finite scalar whose gradient is finite and not zero everywhere, for each parameter."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        loss = encoder.train().loss(self.batch(encoder))
        expect(bool(loss.shape == ()) and bool(torch.isfinite(loss)), f"loss is {loss}, not a finite scalar")
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in encoder.named_parameters():
            if not parameter.requires_grad or name in self.unused_parameters:
                continue
            gradient = parameter.grad
            expect(gradient is not None and bool(gradient.any()), f"no gradient reaches parameter '{name}'")
            finite = gradient is not None and bool(torch.isfinite(gradient).all())
            expect(finite, f"the gradient of parameter '{name}' is not finite")

    def test_same_seed_same_encoder(self) -> None:
        """Building and fitting twice under one seed gives equal outputs."""
        first, second = self.fitted(seed=1), self.fitted(seed=1)
        batch = self.batch(first)
        for (name, one), (_, two) in zip(self._outputs(first), self._outputs(second), strict=True):
            expect(torch.equal(one(batch), two(batch)), f"{name}: two fits under the same seed differ")

    def test_saved_state_is_the_whole_encoder(self) -> None:
        """A fresh encoder of another seed gives equal outputs after a strict load of the state."""
        fitted, fresh = self.fitted(seed=1), self.build(seed=2)
        state = {name: tensor.clone() for name, tensor in fitted.state_dict().items()}
        fresh.load_state_dict(state, strict=True)
        fresh.eval()
        batch = self.batch(fitted)
        for (name, one), (_, two) in zip(self._outputs(fitted), self._outputs(fresh), strict=True):
            expect(
                torch.equal(one(batch), two(batch)),
                f"{name}: differs after save and load; something is not in the state",
            )

    def test_labels_are_not_seen(self) -> None:
        """Scores and vectors do not change when labels are missing or turned round."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        label = batch.label
        turned = None if label is None else 1 - label
        for name, get in self._outputs(encoder):
            for other in (None, turned):
                kept = same(get(batch), get(replace(batch, label=other)))
                expect(kept, f"{name}: changes with the label of the row it predicts")

    def test_history_is_the_only_past(self) -> None:
        """More padding on the left changes nothing; without `needs` history, a history changes nothing."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        if batch.history is None:
            other = replace(batch, history=torch.ones((len(batch.user), 3), dtype=torch.int64))
            fault = "reads a history although the component does not need one"
        else:
            other = replace(batch, history=torch.nn.functional.pad(batch.history, (2, 0)))
            fault = "changes when the history has more padding (id 0) on the left"
        for name, get in self._outputs(encoder):
            expect(same(get(batch), get(other)), f"{name}: {fault}")

    def _gives_vectors(self) -> bool:
        return bool(self.component.gives & {"vectors", "llm-tokens"})

    def _outputs(self, encoder: EncoderModule) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        if "scores" in self.component.gives:
            found.append(("score", lambda batch: score(encoder, batch)))
        if self._gives_vectors():
            found.append(("user vector", lambda batch: encode(encoder, batch).user))
            found.append(("item vector", lambda batch: encode(encoder, batch).item))
        return found

    def _check_outputs(self, encoder: EncoderModule, batch: EncoderBatch) -> None:
        if "scores" in self.component.gives:
            check_scores(score(encoder, batch), len(batch.user))
        if self._gives_vectors():
            check_pair(encoder, encode(encoder, batch), len(batch.user))
