"""The contract of encoders as tests: subclass `EncoderContract` in your plugin's tests and set `component`.

class TestMyEncoder(EncoderContract):
    component = register_encoders()[0]
    settings = {"embedding_size": 8}
"""

from __future__ import annotations

from dataclasses import replace

import torch

from collm.contracts.encoder import GIVES, NEEDS, Sizes
from collm.model.growth import find_tables, grown_state, with_one_more
from collm.testing.component_suite import expect
from collm.testing.encoder_outputs import OutputChecks, TrainingChecks
from collm.testing.encoder_subject import same, score, take

CATALOGUE_ROWS = 8
CATALOGUE_GAP = 1e-4


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

    def test_it_grows_by_users_and_items(self) -> None:
        """Built for a user and an item more, it takes over the fitted state, and old rows score as before."""
        if self.build().fit_mode != "gradient":
            return
        encoder, data = self.fitted(), self.make_data()
        larger = with_one_more(with_one_more(data, "user"), "item")
        grown = self.build_on(larger, seed=1)
        tables = find_tables(grown, self.build_on, larger)
        before, now = (Sizes(each.n_users, each.n_items) for each in (data, larger))
        state = grown_state(grown.state_dict(), encoder.state_dict(), tables, before=before, now=now)
        grown.load_state_dict(state)
        batch = self.batch(encoder)
        for name, get in self.outputs(encoder):
            after = dict(self.outputs(grown.eval()))[name]
            expect(
                same(get(batch), after(batch)),
                f"{name}: rows of old ids change when a user and an item are added; `id_tables` must say where rows of "
                "ids lie in tensors that hold both",
            )

    def test_what_ranks_a_catalogue_gives_the_scores(self) -> None:
        """Products of `factors`, and `score_all`, are the scores; the products up to a number per user."""
        if "scores" not in self.component.gives:
            return
        encoder, data = self.fitted().eval(), self.make_data()
        whole = self.batch(encoder)
        rows = torch.arange(min(len(whole.user), CATALOGUE_ROWS))
        asked = replace(take(whole, rows), item=torch.zeros(len(rows), dtype=torch.int64), label=None)
        items = torch.arange(data.n_items + 1)
        pairs = take(asked, rows.repeat_interleave(len(items)))
        with torch.no_grad():
            factors, found = encoder.factors(asked), encoder.score_all(asked)
            own = score(encoder, replace(pairs, item=items.repeat(len(rows)))).view(len(rows), len(items))
        if factors is not None:
            users, catalogue = factors
            shapes = tuple(users.shape), tuple(catalogue.shape)
            right = shapes == ((len(rows), users.shape[1]), (len(items), users.shape[1]))
            expect(right, f"factors returned shapes {shapes}; asked are [batch, d] and [n_items + 1, d]")
            products = users.float() @ catalogue.float().T
            gap = (products - products[:, 1:2]) - (own - own[:, 1:2])
            worst = float(gap[:, 1:].detach().abs().max())
            expect(worst <= CATALOGUE_GAP, f"products of `factors` differ from `score` by {worst:.3g}")
        if found is not None:
            expect(same(found.float()[:, 1:], own[:, 1:]), "`score_all` differs from `score`")
