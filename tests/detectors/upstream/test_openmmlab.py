from __future__ import annotations

import pytest
import torch
from torch import nn

from detectors.upstream.openmmlab import ConvModule, Options, Registry, Sample, mmdet3


def test_a_convolution_has_a_bias_where_nothing_normalises_and_is_activated_where_nothing_refuses() -> None:
    features = torch.randn(2, 3, 4, 4)
    plain = ConvModule(3, 5, 1, act_cfg=None)
    assert set(plain.state_dict()) == {"conv.weight", "conv.bias"}
    assert torch.equal(plain(features), plain.conv(features))
    normalised = ConvModule(3, 5, 3, padding=1, norm_cfg={"type": "BN"}).eval()
    assert {name.split(".")[0] for name in normalised.state_dict()} == {"conv", "bn"}
    assert normalised.conv.bias is None
    assert torch.equal(normalised(features), normalised.bn(normalised.conv(features)).relu())


def test_options_are_read_and_set_as_attributes_and_say_what_is_missing() -> None:
    options = Options({"head": {"width": 3}, "depth": 2})
    options.head.width = 4
    assert options["head"]["width"] == 4
    assert options.copy().head == {"width": 4}
    with pytest.raises(AttributeError, match="height"):
        _ = options.height


def test_a_registry_takes_classes_in_each_of_the_ways_that_forks_register_them() -> None:
    registry = Registry("layers")

    @registry.register_module
    class Plain(nn.Identity):
        pass

    @registry.register_module()
    class Called(nn.Identity):
        pass

    @registry.register_module("DCN")
    class Named(nn.Identity):
        pass

    assert registry.classes == {"Plain": Plain, "Called": Called, "DCN": Named}


def test_a_registry_builds_the_class_that_options_name_and_leaves_them_as_they_are() -> None:
    registry = Registry()

    @registry.register_module()
    class Layer(nn.Linear):
        pass

    options = {"type": "Layer", "in_features": 2, "out_features": 3}
    assert isinstance(registry.build(options), Layer)
    assert options["type"] == "Layer"


def test_stand_ins_have_registries_of_their_own_at_every_call() -> None:
    first, second = ({module.__name__: module for module in mmdet3()} for _ in range(2))
    assert first["mmdet.registry"].MODELS is not second["mmdet.registry"].MODELS
    sample = Sample()
    sample.set_metainfo({"lanes": 3})
    assert (sample.lanes, sample.metainfo) == (3, {"lanes": 3})  # type: ignore[attr-defined]
