"""Random weights under which nothing that a model does stays hidden."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.parity.weights import randomise


class Frozen(nn.Module):
    """A batch normalisation that is all buffers, as torchvision's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, bias=False)
        self.frozen = Frozen(8)
        self.norm = nn.BatchNorm2d(8, momentum=0.1)
        self.hidden = nn.Conv2d(8, 8, 1)
        nn.init.zeros_(self.hidden.weight)
        self.layer = nn.LayerNorm(8)
        self.untracked = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(40.0 * self.first(images) + 7.0)


def built() -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    network = Network().eval()
    images = torch.randn(4, 3, 12, 12)
    randomise(network, lambda: network(images))
    return network, images


def test_every_normalisation_and_every_zero_gets_numbers_of_its_own() -> None:
    network, _ = built()
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.is_floating_point() and value.ndim:
            assert value.unique().numel() == value.numel(), name


def test_statistics_are_near_those_of_the_images_and_not_the_same() -> None:
    network, images = built()
    before = 40.0 * network.first(images) + 7.0
    deviation, mean = before.std(dim=(0, 2, 3)), before.mean(dim=(0, 2, 3))
    away = (network.norm.running_mean - mean) / deviation
    assert 0.005 < away.abs().mean() < 0.3
    stretched = (network.norm.running_var / deviation**2).log().abs()
    assert (stretched < 0.3).all()
    assert stretched.mean() > 0.01
    assert (network.norm.momentum, network.norm.training) == (0.1, False)


def test_the_same_seed_gives_the_same_weights() -> None:
    (first, _), (second, _) = built(), built()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
