"""Every step of every tuning strategy moves its own groups and not one bit of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_fakes import TableEncoder, random_prompts, tiny_recommender

from collm.model.parameters import is_lora_dropout, optimiser_groups
from collm.model.prefix.batch import build_batch
from collm.registry import default_registry

RATES = {"lora": 1e-2, "projector": 2e-2, "encoder": 3e-2}


def steps():
    registry = default_registry()
    for name in ("default", "t1", "t2", "t3", "text-only"):
        component = registry.get("tuning", name)
        for step in component.load_factory()(component.config(name=name)).plan():
            yield pytest.param(step, id=f"{name}-{step.name}")


def state(recommender):
    return {
        group: {n: p.detach().clone() for n, p in part.items()}
        for group, part in recommender.parameter_groups().items()
    }


@pytest.mark.parametrize("frozen_dropout", [False, True])
@pytest.mark.parametrize("step", list(steps()))
def test_frozen_groups_do_not_move_by_a_bit(step, frozen_dropout):
    recommender = tiny_recommender(dropout=0.2, encoder=TableEncoder())
    trained = [group for group, plan in step.groups.items() if plan.trains]
    recommender.set_trainable(trained, frozen_lora_dropout=frozen_dropout)
    groups = [
        {**part, "lr": RATES[group]}
        for group in trained
        for part in optimiser_groups(recommender, group, weight_decay=0.1)
    ]
    optimiser = torch.optim.AdamW(groups)
    before, weights = state(recommender), {n: p.clone() for n, p in recommender.lm.named_parameters()}
    n_slot = 1 if step.variant == "hybrid" else 0
    prompts, rows = random_prompts(np.random.default_rng(0), [4, 4], tokens_per_slot=n_slot)
    batch = build_batch(prompts, np.arange(8), encoders={"": rows} if n_slot else None, share="through-user")
    recommender.train()
    dropouts = [module for name, module in recommender.lm.named_modules() if is_lora_dropout(name, module)]
    # Fact 45: the published code leaves dropout on where LoRA is frozen.
    assert {module.training for module in dropouts} == {"lora" in trained or frozen_dropout}
    for _ in range(3):
        optimiser.zero_grad()
        recommender(batch).square().sum().backward()
        optimiser.step()
    after = state(recommender)
    for group, part in before.items():
        for name, value in part.items():
            same = torch.equal(after[group][name], value)
            assert same or group in trained, (group, name)
    for group in trained:
        assert any(not torch.equal(after[group][name], value) for name, value in before[group].items()), group
    lora = {name for name, _ in recommender.lm.named_parameters() if "lora_" in name}
    assert lora
    assert all(torch.equal(p, weights[n]) for n, p in recommender.lm.named_parameters() if n not in lora)
    assert {group["lr"] for group in optimiser.param_groups} == {RATES[group] for group in trained}


def test_the_plans_are_those_of_the_paper():
    registry = default_registry()
    plans = {}
    for name in ("none", "text-only", "default", "t1", "t2", "t3"):
        component = registry.get("tuning", name)
        plans[name] = component.load_factory()(component.config(name=name)).plan()
    assert [len(plans[name]) for name in plans] == [0, 1, 2, 2, 2, 1]
    assert plans["default"][0] == plans["t1"][0] == plans["t2"][0] == plans["text-only"][0]
    second = {name: plans[name][-1].groups for name in ("default", "t1", "t2", "t3")}
    encoders = {name: (groups["encoder"].trains, groups["encoder"].start) for name, groups in second.items()}
    assert encoders == {
        "default": (False, "pretrained"),
        "t1": (True, "pretrained"),
        "t2": (True, "scratch"),
        "t3": (False, "pretrained"),
    }
    assert [second[name]["lora"].trains for name in second] == [False, False, False, True]
