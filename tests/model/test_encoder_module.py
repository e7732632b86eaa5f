from __future__ import annotations

import pytest
import torch
from torch import nn

from collm.contracts.encoder import EncoderBatch, FitConfig
from collm.errors import PluginError
from collm.model.encoder import EncoderModule

BATCH = EncoderBatch(user=torch.tensor([1, 2]), item=torch.tensor([1, 1]), label=torch.tensor([0.0, 1.0]))


class Level(EncoderModule):
    def __init__(self) -> None:
        super().__init__()
        self.users = nn.Parameter(torch.tensor([0.0, 0.5, -2.0]))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)

    def score(self, batch):
        return self.users[batch.user]


def test_loss_is_the_mean_cross_entropy_of_the_logits():
    logits = torch.tensor([0.5, -2.0])
    expected = -(torch.log(1 - torch.sigmoid(logits[0])) + torch.log(torch.sigmoid(logits[1]))) / 2
    torch.testing.assert_close(Level().loss(BATCH), expected)


def test_one_group_of_trainable_parameters_by_default():
    encoder = Level()
    (group,) = encoder.parameter_groups(FitConfig(learning_rate=0.1, weight_decay=0.2))
    assert [id(p) for p in group["params"]] == [id(encoder.users)]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)
    assert EncoderModule().parameter_groups(FitConfig()) == []


def test_loss_names_what_is_wrong():
    class Column(Level):
        def score(self, batch):
            return super().score(batch)[:, None]

    with pytest.raises(PluginError, match=r"Column\.score returned shape \(2, 1\); asked is \(2,\)"):
        Column().loss(BATCH)
    with pytest.raises(PluginError, match=r"Level\.loss: the batch has no labels"):
        Level().loss(EncoderBatch(user=BATCH.user, item=BATCH.item))


def test_missing_methods_say_what_was_declared():
    class Vectors(EncoderModule):
        gives = frozenset({"vectors"})

    class Direct(EncoderModule):
        fit_mode = "direct"

    with pytest.raises(PluginError, match=r"EncoderModule declares gives=\['scores'\] but does not write score"):
        EncoderModule().score(BATCH)
    with pytest.raises(PluginError, match="gives scores only and cannot enter a prompt"):
        EncoderModule().encode(BATCH)
    with pytest.raises(PluginError, match=r"Vectors declares gives=\['vectors'\] but does not write encode"):
        Vectors().encode(BATCH)
    with pytest.raises(PluginError, match="has fit_mode 'gradient'"):
        EncoderModule().fit_direct(None, iter([]))
    with pytest.raises(PluginError, match="does not write it"):
        Direct().fit_direct(None, iter([]))
