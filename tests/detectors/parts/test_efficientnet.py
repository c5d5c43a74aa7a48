from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectors.backbones import build_backbone, whole_network
from detectors.parts.efficientnet import EfficientStages, LatePadded


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [8, 11])
def test_padding_is_that_of_an_even_side_whatever_the_map_has(kernel: int, side: int) -> None:
    layer = LatePadded(2, 3, kernel, stride=2, bias=False)
    features = torch.randn(1, 2, side, side)
    # For an even side: as many outputs as half of it, and the odd cell of the padding behind.
    before = (kernel - 2) // 2
    padded = torch.zeros(1, 2, side + kernel - 2, side + kernel - 2)
    padded[..., before : before + side, before : before + side] = features
    output = layer(features)
    torch.testing.assert_close(output, F.conv2d(padded, layer.weight, stride=2))
    assert output.shape[-1] == math.floor(side / 2)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b1"])
def test_every_entry_has_the_name_and_shape_of_timms_network(name: str) -> None:
    with torch.device("meta"):
        ours = build_backbone(name).state_dict()
    whole = whole_network(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in whole.items() if not key.startswith("classifier.")
    }


def test_only_strided_convolutions_are_replaced_and_all_keep_their_weights() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("efficientnet_b0")
    assert isinstance(backbone, EfficientStages)
    replaced = {name for name, module in backbone.named_modules() if isinstance(module, LatePadded)}
    strided = {name for name, m in backbone.named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)}
    assert replaced == strided == {"conv_stem", *(f"blocks.{stage}.0.conv_dw" for stage in (1, 2, 3, 5))}
    assert all(not parameter.is_meta for parameter in backbone.parameters())


def test_with_fewer_stages_nothing_lies_above_them() -> None:
    with torch.device("meta"):
        names = build_backbone("efficientnet_b0", stages=2).state_dict()
    assert {key.split(".")[0] for key in names} == {"conv_stem", "bn1", "blocks"}
    assert {key.split(".")[1] for key in names if key.startswith("blocks")} == {"0", "1", "2"}
