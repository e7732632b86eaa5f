from __future__ import annotations

import pytest
import torch
from model_fakes import ANSWER, TableEncoder, TokenEncoder, tiny_lm, tiny_recommender
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model

from collm.contracts.tuning import LoraConfig
from collm.errors import RunError
from collm.model.parameters import add_lora, load_lora_state, lora_parameters, lora_state, optimiser_groups
from collm.model.recommender import Recommender


def test_fresh_adapters_change_nothing_and_have_float32_masters():
    lm = tiny_lm().to(torch.bfloat16)
    ids = torch.randint(0, 64, (2, 9))
    before = lm(input_ids=ids).logits
    names = add_lora(lm, LoraConfig(r=4), ("q_proj", "v_proj"))
    assert len(names) == 6
    assert torch.equal(lm(input_ids=ids).logits, before)
    assert {p.dtype for p in lora_parameters(lm).values()} == {torch.float32}
    assert len(lora_state(lm)) == 12
    assert "model.layers.0.self_attn.q_proj.lora_A" in lora_state(lm)


def test_adapters_compute_what_peft_computes():
    config = LoraConfig(r=4, alpha=12, dropout=0.0)
    ours, theirs = tiny_lm(), tiny_lm()
    add_lora(ours, config, ("q_proj", "v_proj"))
    state = {name: torch.randn_like(value) for name, value in lora_state(ours).items()}
    load_lora_state(ours, state)
    theirs = get_peft_model(theirs, PeftLoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"])).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(state[name.removeprefix("base_model.model.").removesuffix(".default.weight")])
    ids = torch.randint(0, 64, (2, 9))
    torch.testing.assert_close(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_states_load_strictly():
    lm = tiny_lm()
    add_lora(lm, LoraConfig(r=4), ("q_proj",))
    state = {name: torch.randn_like(value) for name, value in lora_state(lm).items()}
    load_lora_state(lm, state)
    assert all(torch.equal(lora_state(lm)[name], value) for name, value in state.items())
    first = next(iter(state))
    with pytest.raises(RunError, match=r"1 missing \(.*layers.0.*\); 1 unexpected \(other\)"):
        load_lora_state(lm, {**{n: v for n, v in state.items() if n != first}, "other": torch.zeros(1)})
    with pytest.raises(RunError, match="has shape"):
        load_lora_state(lm, {**state, first: torch.zeros(3)})
    with pytest.raises(RunError, match="6 unexpected"):
        load_lora_state(tiny_lm(), state)


def test_unknown_targets_and_second_adapters_are_refused():
    with pytest.raises(RunError, match="no linear module is called query; linear modules are down_proj"):
        add_lora(tiny_lm(), LoraConfig(), ("query",))
    lm = tiny_lm()
    add_lora(lm, LoraConfig(target_modules=("o_proj",)), ("q_proj",))
    assert all("o_proj" in name for name in lora_state(lm))
    with pytest.raises(RunError, match="has adapters already"):
        add_lora(lm, LoraConfig(), ("q_proj",))


def test_only_matrices_decay():
    recommender = tiny_recommender(encoder=TableEncoder())
    recommender.set_trainable(("projector",))
    groups = optimiser_groups(recommender, "projector", weight_decay=0.1)
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.1, {2}), (0.0, {1})]
    with pytest.raises(RunError, match="'lora' has nothing to train"):
        optimiser_groups(recommender, "lora", weight_decay=0.1)


def test_groups_switch_on_alone_and_frozen_parts_stay_in_evaluation_mode():
    recommender = tiny_recommender(encoder=TableEncoder(), dropout=0.5)
    recommender.set_trainable(("projector",))
    recommender.train()
    moving = {n for n, p in recommender.named_parameters() if p.requires_grad}
    assert moving and all(name.startswith("_projectors.") for name in moving)
    drops = [m for n, m in recommender.lm.named_modules() if isinstance(m, torch.nn.Dropout)]
    assert drops and not any(m.training for m in drops)
    assert not recommender.encoders[""].training and recommender.projectors[""].training
    recommender.set_trainable(("projector",), frozen_lora_dropout=True)
    assert all(m.training for m in drops)
    recommender.set_trainable(("lora", "encoder"))
    assert all(m.training for m in drops) and recommender.encoders[""].training
    assert not recommender.lm.model.layers[0].training
    recommender.eval()
    assert not any(m.training for m in drops)


def test_parameters_that_an_encoder_freezes_stay_frozen():
    encoder = TableEncoder()
    encoder.item.weight.requires_grad_(False)
    recommender = tiny_recommender(encoder=encoder)
    recommender.set_trainable(("encoder",))
    assert [n for n, p in recommender.named_parameters() if p.requires_grad] == ["_encoders.of_.user.weight"]


def test_token_encoders_train_as_the_mapping():
    recommender = tiny_recommender(encoder=TokenEncoder())
    assert (
        set(recommender.parameter_groups()["projector"])
        == {"user.weight", "item.weight"}
        == set(recommender.group_state("projector"))
    )
    assert recommender.parameter_groups()["encoder"] == recommender.group_state("encoder") == {}
    with pytest.raises(RunError, match="llm-tokens takes none"):
        Recommender(tiny_lm(), answer=ANSWER, readout="yes_logit", encoders={"": TableEncoder()})


def test_part_states_round_trip():
    one, two = (tiny_recommender(encoder=TableEncoder()) for _ in range(2))
    for group in ("lora", "projector", "encoder"):
        state = {name: torch.randn_like(value) for name, value in one.group_state(group).items()}
        two.load_group_state(group, state)
        assert all(torch.equal(two.group_state(group)[name], value) for name, value in state.items())
    with pytest.raises(RunError, match="projector weights do not fit"):
        two.load_group_state("projector", {})
