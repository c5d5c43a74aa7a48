from __future__ import annotations

import pytest
import torch

from detectors.backbones import backbone_taps, build_backbone
from detectors.parts.frozen import freeze_stages, keep_statistics, with_frozen


@pytest.mark.parametrize("count", range(5))
def test_nothing_up_to_a_stage_learns_and_all_behind_it_does(count: int) -> None:
    backbone = build_backbone("resnet_micro")
    freeze_stages(backbone, count)
    learning = {name.split(".")[0] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    everything = {name.split(".")[0] for name, _ in backbone.named_parameters()}
    stages = [f"layer{number}" for number in range(1, 5)]
    assert learning == (everything if count == 0 else set(stages[count:]))
    taps = with_frozen(backbone_taps(backbone, "backbone"), count)
    assert [tap.trainable for tap in taps] == [number >= count for number in range(4)]


def test_more_stages_than_there_are_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="first 3 stages"):
        freeze_stages(build_backbone("resnet_micro", stages=2), 3)


def test_statistics_are_kept_and_weights_of_normalisations_still_learn() -> None:
    backbone = build_backbone("resnet_micro").train()
    keep_statistics(backbone)
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    images = torch.randn(2, 3, 64, 64)
    backbone(images)[-1].square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert backbone.get_parameter("layer4.0.bn1.weight").grad is not None
