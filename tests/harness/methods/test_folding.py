from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.methods.folding import channels_last_is_safe, folded
from harness.methods.oracle import Oracle, drawn_backbone, oracle_taps


def settled(network: nn.Module) -> nn.Module:
    """The network in eval mode with statistics and scales that aren't 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    return network.eval().requires_grad_(False)


class Reused(nn.Module):
    """The convolution's own result is used as well: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.normalization = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        convolved = self.convolution(x)
        return [x, convolved + self.normalization(convolved)]


class Twice(nn.Module):
    """One convolution under two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.first, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.first(self.convolution(x)), self.second(self.convolution(x.flip(3)))]


class Shared(nn.Module):
    """Two convolutions under one normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.normalization = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.normalization(self.first(x)), self.normalization(self.second(x))]


class Scaled(nn.Module):
    """A convolution under a normalisation, reused or not, whose result is scaled; beside it an output that isn't."""

    def __init__(self, reused: float, scale: float) -> None:
        super().__init__()
        self.convolution, self.normalization = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.reused, self.scale = reused, scale

    def forward(self, x: Tensor) -> list[Tensor]:
        convolved = self.convolution(x)
        return [x, self.scale * (self.normalization(convolved) + self.reused * convolved)]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_folded_output_may_differ_by_a_share_of_its_own_size_alone(scale: float) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    for reused, kept in ((0.0, 0), (0.1, 1)):
        faster = folded(settled(Scaled(reused, scale)), lambda one: one(images))
        assert sum(isinstance(module, nn.BatchNorm2d) for module in faster.modules()) == kept


@pytest.mark.parametrize("name", ["resnet_micro", "resnet18s_2x"])
def test_a_folded_backbone_gives_the_same_features_without_a_normalisation(name: str) -> None:
    backbone = settled(drawn_backbone(name, 0))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    before = copy.deepcopy(backbone.state_dict())
    shown = torch.randn(1, 3, 32, 64)
    faster = folded(backbone, lambda network: network(shown))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.modules())
    for one, other in zip(backbone(images), faster(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in faster.parameters())


@pytest.mark.parametrize("kind", [Reused, Twice, Shared])
def test_what_would_change_by_folding_is_left_alone(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = settled(kind())
    images = torch.randn(2, 3, 8, 8)
    faster = folded(network, lambda one: one(images))
    assert faster is not network  # whose layout is its owner's
    assert [type(module) for module in faster.modules()] == [type(module) for module in network.modules()]
    for one, other in zip(network(images), faster(images), strict=True):
        # Rounding, since the copy has another layout; a normalisation that was folded here would change all values.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_quickened_oracle_sees_what_the_oracle_sees_at_any_scale() -> None:
    from detectors.meta import Normalisation

    backbone = settled(drawn_backbone("resnet_micro", 0))
    oracle = Oracle(backbone, oracle_taps(backbone), Normalisation())
    images = torch.randint(0, 256, (2, 3, 64, 128), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    faster = oracle.quickened((64, 128), 0.5)
    assert faster is not oracle
    assert not faster.training
    for scale in (1.0, 0.5):
        for one, other in zip(oracle(images, scale), faster(images, scale), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_narrow_strided_pointwise_convolutions_are_kept_out_of_channels_last() -> None:
    assert channels_last_is_safe(nn.Conv2d(16, 32, 1, 2))
    assert channels_last_is_safe(nn.Conv2d(8, 32, 1))
    assert not channels_last_is_safe(nn.Sequential(nn.Conv2d(12, 32, 1, 2)))
