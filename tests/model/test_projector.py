from __future__ import annotations

import numpy as np
import pytest
import torch

from collm.errors import RunError
from collm.model.mapping import Projector


def test_is_the_papers_mlp_and_shared_where_dimensions_agree():
    projector = Projector({"user": 4, "item": 4}, 8, n_tokens=2, init="torch-default")
    assert projector.shared
    assert [tuple(p.shape) for p in projector.parameters()] == [(40, 4), (40,), (16, 40), (16,)]
    vectors = torch.randn(5, 4)
    user, item = projector("user", vectors), projector("item", vectors)
    first, second = projector.mlps["both"][0], projector.mlps["both"][2]
    hidden = np.maximum(vectors.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    expected = hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy()
    np.testing.assert_allclose(user.detach().numpy().reshape(5, 16), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(user, item)
    assert user.shape == (5, 2, 8)


def test_two_modules_where_dimensions_differ():
    projector = Projector({"user": 12, "item": 4}, 8)
    assert not projector.shared
    user, item = projector("user", torch.randn(3, 12)), projector("item", torch.randn(3, 4))
    assert user.shape == item.shape == (3, 1, 8)


@pytest.mark.parametrize("dims", [(4, 4), (6, 4)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_calibration_gives_the_scale_of_token_embeddings_whatever_the_encoder(dims, scale):
    torch.manual_seed(0)
    projector = Projector(dict(zip(("user", "item"), dims, strict=True)), 8)
    user, item = torch.randn(200, dims[0]) * scale + 5 * scale, torch.randn(200, dims[1]) * scale
    projector.calibrate({"user": user, "item": item}, target_rms=0.13)
    outputs = (projector("user", user), projector("item", item))
    if projector.shared:
        assert torch.cat(outputs).square().mean().sqrt().item() == pytest.approx(0.13, rel=1e-4)
    else:
        assert [x.square().mean().sqrt().item() for x in outputs] == pytest.approx([0.13, 0.13], rel=1e-4)


def test_calibration_does_nothing_for_the_reference_and_survives_constant_inputs():
    projector = Projector({"user": 4, "item": 4}, 8, init="torch-default", standardise=False)
    before = {name: value.clone() for name, value in projector.state_dict().items()}
    projector.calibrate({"user": torch.randn(9, 4), "item": torch.randn(9, 4)}, target_rms=1.0)
    assert all(torch.equal(before[name], value) for name, value in projector.state_dict().items())
    projector = Projector({"user": 4, "item": 4}, 8)
    projector.calibrate({"user": torch.ones(9, 4), "item": torch.ones(9, 4)}, target_rms=1.0)
    assert torch.isfinite(projector("user", torch.ones(2, 4))).all()


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("init", ["token-norm", "torch-default"])
def test_standardising_and_the_start_of_the_weights_are_chosen_apart(init, standardise):
    torch.manual_seed(0)
    vectors = torch.randn(300, 4) * 20 + 3
    projector = Projector({"user": 4, "item": 4}, 8, init=init, standardise=standardise)
    weights = {name: value.clone() for name, value in projector.named_parameters()}
    projector.calibrate({"user": vectors, "item": vectors}, target_rms=0.1)
    if standardise:
        assert torch.allclose(projector.user_mean, vectors.mean(0))
        assert projector.user_std[0].item() == pytest.approx(vectors.var(0, correction=0).mean().sqrt().item())
    else:
        assert (projector.user_mean == 0).all() and (projector.user_std == 1).all()
    changed = {name for name, value in projector.named_parameters() if not torch.equal(value, weights[name])}
    assert changed == ({"mlps.both.2.weight", "mlps.both.2.bias"} if init == "token-norm" else set())
    rms = projector("user", vectors).square().mean().sqrt().item()
    assert (rms == pytest.approx(0.1, rel=1e-4)) == (init == "token-norm")


def test_calibration_keeps_which_dimensions_vary_most():
    torch.manual_seed(0)
    vectors = torch.randn(400, 4) * torch.tensor([5.0, 0.01, 0.01, 0.01]) + 7
    projector = Projector({"user": 4, "item": 4}, 8)
    projector.calibrate({"user": vectors, "item": vectors}, target_rms=0.1)
    standard = (vectors - projector.user_mean) / projector.user_std
    assert standard.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)
    assert standard.std(0)[0] / standard.std(0)[1] == pytest.approx(500, rel=0.2)


@pytest.mark.parametrize(
    ("vectors", "said"), [(torch.empty(0, 4), "missing"), (torch.full((2, 4), torch.nan), "not finite")]
)
def test_calibration_refuses_useless_rows(vectors, said):
    with pytest.raises(RunError, match=f"user vectors.* {said}"):
        Projector({"user": 4, "item": 4}, 8).calibrate({"user": vectors, "item": vectors}, target_rms=1.0)


def test_statistics_are_saved_with_the_weights():
    projector = Projector({"user": 4, "item": 4}, 8)
    projector.calibrate({"user": torch.randn(50, 4) * 3 + 1, "item": torch.randn(50, 4)}, target_rms=0.1)
    other = Projector({"user": 4, "item": 4}, 8)
    other.load_state_dict(projector.state_dict())
    vectors = torch.randn(3, 4)
    assert torch.equal(projector("user", vectors), other("user", vectors))


def test_context_has_a_module_of_its_own_where_user_and_item_share_one():
    projector = Projector({"user": 4, "item": 4, "context": 4}, 8, init="torch-default", standardise=False)
    assert set(projector.mlps) == {"both", "context"}
    vectors = torch.randn(3, 4)
    torch.testing.assert_close(projector("context", vectors)[:, 0], projector.mlps["context"](vectors))
    assert not torch.allclose(projector("context", vectors), projector("user", vectors))


def test_single_vectors_share_their_mapping_whatever_several_have() -> None:
    """`mapping.vectors: own` changes sides with several vectors per slot only."""
    torch.manual_seed(0)
    shared = Projector({"user": 4, "item": 4}, 8)
    torch.manual_seed(0)
    own = Projector({"user": 4, "item": 4}, 8, n_vectors={"user": 1, "item": 1})
    assert own.shared
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in shared.state_dict().items())
    several = Projector({"user": 4, "item": 4, "context": 4}, 8, n_vectors={"user": 1, "item": 2, "context": 1})
    assert set(several.mlps) == {"user", "item-0", "item-1", "context"}
