"""Training without anything random leaves a model as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from detectors.upstream.running import training_without_dropout


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.first(values)
        return self.attention(found, found, found)[0]


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


def test_nothing_is_random_and_batches_give_the_statistics(network: Network) -> None:
    values = torch.randn(16, 6)
    with training_without_dropout(network):
        assert network.training
        first, second = network(values), network(values)
    assert torch.equal(first, second)
    assert not torch.allclose(first, network(values), atol=1e-3)


def test_mode_chances_and_statistics_come_back(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with training_without_dropout(network):
        network(torch.randn(16, 6))
        assert not torch.equal(network.first[1].running_mean, before["first.1.running_mean"])
    with pytest.raises(RuntimeError), training_without_dropout(network):
        network(torch.randn(16, 5))
    assert not network.training
    assert (network.first[2].p, network.attention.dropout) == (0.5, 0.5)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_losses_can_be_differentiated_afterwards(network: Network) -> None:
    with training_without_dropout(network):
        loss = network(torch.randn(16, 6)).square().sum()
    (gradient,) = torch.autograd.grad(loss, [network.first[0].weight])
    assert gradient.abs().max() > 0
