"""The contract must catch faults: each encoder of the zoo fails the check about its fault, in words that name it."""

from __future__ import annotations

import broken_encoders
import pytest

from collm.component import Component
from collm.registry import default_registry
from collm.testing.encoder_suite import EncoderContract
from collm.testing.plugin_check import CheckResult, check_component

REGISTRY = default_registry()

# Name in the zoo -> the check that finds it -> words that name the fault.
ZOO = {
    "Float64Scores": ("scores_are_float32_logits_per_row", "score returned torch.float64; asked is torch.float32"),
    "ScoresOfOneColumn": ("scores_are_float32_logits_per_row", "score returned shape (146, 1); asked is (146,)"),
    "SqueezesOneRow": ("one_row_is_a_batch", "a batch of one row: score returned shape (); asked is (1,)"),
    "WrongDim": (
        "vectors_have_the_declared_size",
        "vectors of shape (146, 4); declared are 146 rows and user_dim=5",
    ),
    "NanForPadding": (
        "padding_and_unseen_ids_are_finite",
        "padding (user 0, item 0): score returned NaN or infinite logits",
    ),
    "NoRowForTheLastId": (
        "padding_and_unseen_ids_are_finite",
        "a user without training rows (12, the largest id) raised IndexError",
    ),
    "NanForUnseenItems": (
        "padding_and_unseen_ids_are_finite",
        "an item without training rows (20, the largest id): score returned NaN",
    ),
    "SaysLess": ("declarations_agree", "the encoder gives ['scores'] but its component record says"),
    "TargetAware": (
        "user_vector_depends_on_the_item_as_declared",
        "user_depends_on_item=False, but the user vector changes",
    ),
    "NotTargetAware": (
        "user_vector_depends_on_the_item_as_declared",
        "user_depends_on_item=True, but the user vector does not change",
    ),
    "IgnoresItsHistory": ("history_is_read_as_declared", "no output changes when the history is empty"),
    "ReadsHistory": ("history_is_read_as_declared", "score: reads a history although the component does not declare"),
    "ReadsEarlierLabels": ("earlier_labels_are_read_as_declared", "score: read batch.earlier without declaring needs="),
    "SeesLabels": ("labels_are_not_seen", "score: changes with the label of the row it predicts"),
    "LooksAhead": ("the_past_of_a_row_is_its_history_alone", "(look-ahead): take the past from batch.history"),
    "CountsPadding": ("history_is_read_as_declared", "changes when the history has more padding (id 0) on the left"),
    "BatchStatistics": ("a_row_does_not_depend_on_its_batch", "score: a row's result changes with the batch it is in"),
    "ChangesTheBatch": ("the_batch_is_only_read", "score: changes the batch's item in place"),
    "IdleParameter": ("gradient_reaches_every_parameter", "no gradient reaches parameter 'idle'"),
    "ForgetsAGroup": ("parameter_groups_hold_every_parameter_once", "trainable parameters: items.weight"),
    "LossPerRow": ("gradient_reaches_every_parameter", "loss has shape (146,); asked is a scalar"),
    "DetachedVectors": ("gradient_flows_through_the_vectors", "the user vectors of encode are cut off"),
    "NormalisesOneRow": ("one_row_is_a_batch", "training on a last batch of one row raised ValueError"),
    "SelectsByLoss": ("fit_phases_can_run", "the last fit phase selects by 'loss', must be 'auc'"),
    "DropoutInScores": ("same_seed_same_encoder", "score: two calls on the same batch differ"),
    "Unseeded": ("same_seed_same_encoder", "two fits under the same seed differ; draw from torch's global generator"),
    "HiddenState": ("saved_state_is_the_whole_encoder", "score: differs after save and load; something is not in the"),
    "LearnsWhileScoring": ("scoring_changes_nothing", "score: changes the encoder's seen in eval mode"),
    "BareConfig": ("record_keeps_the_contract", "config class BareConfig has fields without a description: depth"),
    "LossyNestedConfig": (
        "nested_settings_keep_their_defaults",
        "'fit' loses defaults where a spec sets only a part of it: learning_rate (0.05 becomes 0.001)",
    ),
    "GrowingConfig": ("config_survives_a_round_trip", "config changed in a JSON round trip"),
    "FitlessConfig": ("fit_phases_can_run", "is fitted by gradient, but FitlessConfig has no `fit`"),
    "WrongProfile": ("every_profile_gives_valid_settings", "profile paper: encoder.embedding_size: got the number 0"),
}


def check(name: str) -> dict[str, CheckResult]:
    return {each.name: each for each in check_component(broken_encoders.component(name), registry=REGISTRY)}


@pytest.mark.parametrize("name", ZOO)
def test_each_of_the_zoo_is_caught_in_words_that_name_its_fault(name: str) -> None:
    caught_by, words = ZOO[name]
    found = check(name)[caught_by]
    assert words in found.fault


@pytest.mark.parametrize("name", ["Sound", "SoundWithHistory"])
def test_sound_encoders_pass(name: str) -> None:
    assert [each for each in check(name).values() if not each.ok] == []


def test_the_fault_names_the_plugins_own_line() -> None:
    fault = check("NoRowForTheLastId")["padding_and_unseen_ids_are_finite"].fault
    assert "(broken_encoders.py:" in fault


def test_all_fifteen_and_more() -> None:
    assert len(ZOO) >= 15


class TestSound(EncoderContract):
    """The same checks under pytest."""

    component = broken_encoders.component("Sound")
    registry = REGISTRY


def small_inner_parts(component: Component) -> dict[str, object]:
    """Components inside a first-party encoder: what needs no weights."""
    tiny = {"text_backbone": {"name": "tiny", "dtype": "float32"}}
    known: dict[str, dict[str, object]] = {"ctrl": {"encoder": {"name": "din"}, **tiny}, "ctrl-din": tiny}
    return known.get(component.name, {})


# These have the contract in their own tests: one needs files, the other attributes.
NEEDS_DATA = ("vectors", "attribute-tokens")
FIRST_PARTY = [
    each
    for each in REGISTRY.components("encoder")
    if REGISTRY.origin("encoder", each.name).distribution == "collm" and each.name not in NEEDS_DATA
]


@pytest.mark.parametrize("component", FIRST_PARTY, ids=lambda component: component.name)
def test_every_first_party_encoder_passes_with_its_defaults(component: Component) -> None:
    results = check_component(component, registry=REGISTRY, settings=small_inner_parts(component))
    assert [(each.name, each.fault) for each in results if not each.ok] == []
    assert len(results) >= 20
