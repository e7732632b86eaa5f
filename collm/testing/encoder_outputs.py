"""The encoder contract, part one: what `score` and `encode` return, and what they may look at."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from collm.contracts.encoder import EncoderBatch, EncoderData, Side
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm.testing.component_suite import expect, naming_the_step
from collm.testing.encoder_subject import EncoderSubject, check_pair, check_scores, encode, same, score, take


class OutputChecks(EncoderSubject):
    """Checks of scores and vectors."""

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
        """`encode` returns finite vectors or tokens of the declared size; an encoder without vectors refuses."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        if self.gives_vectors():
            check_pair(encoder, encode(encoder, batch), len(batch.user))
            return
        try:
            encode(encoder, batch)
        except PluginError:
            return
        expect(False, f"gives={sorted(encoder.gives)} but encode returned something; it must raise PluginError")

    def test_words_are_one_line_per_id(self) -> None:
        """`slot_words` returns one text of one line per id, the same each time, for padding and unseen ids too."""
        if "words" not in self.component.gives:
            return
        encoder, data = self.fitted(), self.make_data()
        sides: tuple[tuple[Side, int], ...] = (("user", data.n_users), ("item", data.n_items))
        for side, last in sides:
            ids = list(range(last + 1))
            words = list(encoder.slot_words(side, ids))
            expect(len(words) == len(ids), f"slot_words gave {len(words)} texts for {len(ids)} {side}s")
            bad = [
                each for each in words if not isinstance(each, str) or not each.strip() or len(each.splitlines()) != 1
            ]
            expect(not bad, f"slot_words gave {bad[:1]!r} for a {side}; asked is text of one line, not empty")
            alone = [encoder.slot_words(side, [each])[0] for each in ids[:3]]
            expect(
                alone == words[:3], f"slot_words: the words of a {side} change with the ids that are asked beside it"
            )

    def test_user_vector_depends_on_the_item_as_declared(self) -> None:
        """Another target item changes the user vector exactly where `user_depends_on_item` says so."""
        if not self.gives_vectors():
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
        rows = {
            "padding (user 0, item 0)": (0, 0),
            f"a user without training rows ({data.n_users}, the largest id)": (data.n_users, 1),
            f"an item without training rows ({data.n_items}, the largest id)": (1, data.n_items),
        }
        for who, (user, item) in rows.items():
            batch = EncoderBatch(
                user=torch.tensor([user]),
                item=torch.tensor([item]),
                earlier=torch.zeros(1, 4) if encoder.reads_earlier_labels else None,
                recent=torch.zeros(1, 2, len(encoder.half_lives), 2) if encoder.half_lives else None,
                days_since=-torch.ones(1, 2) if encoder.half_lives else None,
                timestamp=torch.zeros(1, dtype=torch.int64) if encoder.reads_time else None,
            )
            for length in (encoder.history_items, 0) if encoder.history_items else (None,):
                history = None if length is None else torch.zeros((1, length), dtype=torch.int64)
                with naming_the_step(who):
                    self.check_outputs(encoder, replace(batch, history=history))

    def test_one_row_is_a_batch(self) -> None:
        """A last batch of one row scores, encodes and trains."""
        encoder = self.fitted()
        batch = take(self.batch(encoder), torch.tensor([3]))
        with naming_the_step("a batch of one row"):
            self.check_outputs(encoder, batch)
        if encoder.fit_mode == "gradient":
            with naming_the_step("training on a last batch of one row"):
                loss = encoder.train().loss(batch)
            finite = bool(loss.shape == ()) and bool(torch.isfinite(loss))
            expect(finite, f"loss of one row is {loss}, not a finite scalar")

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        """Scores and vectors are the same alone, in another order and beside other rows."""
        encoder = self.fitted()
        whole = self.batch(encoder)
        order = torch.arange(len(whole.user)).flip(0)
        parts = (order[:1], order[1:8], order[8:])
        for name, get in self.outputs(encoder):
            together = get(whole)[order]
            apart = torch.cat([get(take(whole, part)) for part in parts])
            expect(same(together, apart), f"{name}: a row's result changes with the batch it is in")

    def test_the_batch_is_only_read(self) -> None:
        """Scoring and encoding leave the tensors of the batch as they were."""
        encoder = self.fitted()
        for name, get in self.outputs(encoder):
            batch, before = self.batch(encoder), self.batch(encoder)
            get(batch)
            changed = [
                field.name
                for field in fields(batch)
                if not _equal(getattr(batch, field.name), getattr(before, field.name))
            ]
            expect(not changed, f"{name}: changes the batch's {', '.join(changed)} in place; work on a copy")

    def test_labels_are_not_seen(self) -> None:
        """Scores and vectors do not change when labels are missing or turned round."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        label = batch.label
        turned = None if label is None else 1 - label
        for name, get in self.outputs(encoder):
            for other in (None, turned):
                kept = same(get(batch), get(replace(batch, label=other)))
                expect(kept, f"{name}: changes with the label of the row it predicts")

    def test_history_is_read_as_declared(self) -> None:
        """Padding on the left of a history changes nothing; a declared history is read, another one is not."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        if batch.history is None:
            other = replace(batch, history=torch.ones((len(batch.user), 3), dtype=torch.int64))
            fault = "reads a history although the component does not declare needs={'history'}"
        else:
            other = replace(batch, history=torch.nn.functional.pad(batch.history, (2, 0)))
            fault = "changes when the history has more padding (id 0) on the left"
            empty = replace(batch, history=torch.zeros_like(batch.history))
            read = any(not same(get(batch), get(empty)) for _, get in self.outputs(encoder))
            expect(read, "declares needs={'history'}, but no output changes when the history is empty")
        for name, get in self.outputs(encoder):
            expect(same(get(batch), get(other)), f"{name}: {fault}")

    def test_earlier_labels_are_read_as_declared(self) -> None:
        """Counts of earlier labels change the results where `needs` declares them, and nowhere else."""
        encoder = self.fitted()
        batch = self.batch(encoder)
        counts = torch.tensor([[3.0, 5.0, 1.0, 9.0]]).expand(len(batch.user), 4)
        one, two = replace(batch, earlier=counts), replace(batch, earlier=counts.flip(1))
        declared = "earlier-labels" in self.component.needs
        changed = [name for name, get in self.outputs(encoder) if not same(get(one), get(two))]
        expect(
            declared or not changed,
            f"{' and '.join(changed)}: read batch.earlier without declaring needs={{'earlier-labels'}}",
        )
        expect(bool(changed) or not declared, "declares needs={'earlier-labels'}, but no output changes with them")

    def test_the_past_of_a_row_is_its_history_alone(self) -> None:
        """No look-ahead: with the same weights, other training rows change no result of an encoder of the past."""
        needs = self.component.needs
        if not needs & {"history", "earlier-labels"} or "graph" in needs:
            return
        fitted = self.fitted()
        elsewhere = self.build_on(_other_rows(self.make_data()))
        with naming_the_step("loading the fitted state into an encoder built on as many other training rows"):
            elsewhere.load_state_dict(fitted.state_dict(), strict=True)
        batch = self.batch(fitted)
        for (name, one), (_, two) in zip(self.outputs(fitted), self.outputs(elsewhere.eval()), strict=True):
            expect(
                same(one(batch), two(batch)),
                f"{name}: changes with the training rows while weights and history stay the same; it looks rows up "
                "that may be later than the one it scores (look-ahead): take the past from batch.history or "
                "batch.earlier",
            )


def _equal(one: torch.Tensor | None, two: torch.Tensor | None) -> bool:
    return one is two if one is None or two is None else torch.equal(one, two)


def _other_rows(data: EncoderData) -> EncoderData:
    """The same users and times with other items and labels; the last item stays without a row."""
    train = replace(data.train, item=data.n_items - data.train.item, label=1 - data.train.label)
    return replace(data, train=train)


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
        expect(not strangers, f"the model of fit phase {', '.join(strangers)} is not a torch module")

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
        """The losses of the fit are finite scalars; the gradient of one is finite and not zero, for each parameter."""
        encoder = self.build()
        if encoder.fit_mode != "gradient":
            return
        loss = encoder.train().loss(self.batch(encoder))
        expect(bool(loss.shape == ()), f"loss has shape {tuple(loss.shape)}; asked is a scalar, the mean over the rows")
        expect(bool(torch.isfinite(loss)), f"loss is {loss.item()}, not finite")
        expect(loss.requires_grad, "loss is cut off from the parameters (it has no gradient)")
        loss.backward()  # type: ignore[no-untyped-call]
        free = {
            name: parameter
            for name, parameter in encoder.named_parameters()
            if parameter.requires_grad and name not in self.unused_parameters
        }
        if any(parameter.grad is None for parameter in free.values()):
            # What the last phase leaves alone may be fitted in an earlier one.
            for phase in encoder.fit_phases(self.make_config())[:-1]:
                phase.model.loss(self.batch(encoder)).backward()  # type: ignore[no-untyped-call]
        for name, parameter in free.items():
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
        for side, vectors in (("user", pair.user), ("item", pair.item), ("context", pair.context)):
            expect(
                vectors is None or not vectors.numel() or vectors.requires_grad,
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
