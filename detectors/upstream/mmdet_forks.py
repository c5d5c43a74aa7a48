"""Stand-ins for what repositories need that are forks of mmdet 2.0: mmcv 0.5, and the parts of mmdet that aren't run.

What they use of mmcv is short: registries of classes, a convolution with its normalisation, and starts of weights. The facts are those
of open-mmlab/mmcv 0.5.6 (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from detectors.upstream.deformable import modulated_deform_conv2d
from detectors.upstream.isolation import bare_package, stand_in
from detectors.upstream.openmmlab import ConvModule, Registry

PACKAGES = (
    "mmdet",
    "mmdet.core.bbox",
    "mmdet.core.bbox.assigners",
    "mmdet.datasets",
    "mmdet.datasets.pipelines",
    "mmdet.models",
    "mmdet.models.backbones",
    "mmdet.models.detectors",
    "mmdet.models.losses",
    "mmdet.models.necks",
    "mmdet.ops",
    "mmdet.ops.dcn",
    "mmdet.utils",
)
"""Of the fork itself, without what their `__init__` would import."""


def build_from_cfg(
    options: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None
) -> Any:
    """An instance of the class that `type` names."""
    others = {**(default_args or {}), **options}
    return registry.classes[others.pop("type")](**others)


def build_norm_layer(options: Mapping[str, Any], channels: int, postfix: int | str = "") -> tuple[str, nn.Module]:
    """A batch normalisation and its name."""
    return f"bn{postfix}", nn.BatchNorm2d(channels)


def build_conv_layer(options: Mapping[str, Any] | None, *sizes: Any, **others: Any) -> nn.Module:
    """A plain convolution."""
    return nn.Conv2d(*sizes, **others)


def constant_init(layer: Any, value: float, bias: float = 0) -> None:
    """Weights of one value."""
    nn.init.constant_(layer.weight, value)
    _bias(layer, bias)


def kaiming_init(layer: Any, bias: float = 0) -> None:
    """He's normal weights."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    _bias(layer, bias)


def normal_init(layer: Any, mean: float = 0, std: float = 1, bias: float = 0) -> None:
    """Normal weights."""
    nn.init.normal_(layer.weight, mean, std)
    _bias(layer, bias)


def xavier_init(layer: Any, gain: float = 1, bias: float = 0, distribution: str = "normal") -> None:
    """Glorot's weights."""
    start = nn.init.xavier_uniform_ if distribution == "uniform" else nn.init.xavier_normal_
    start(layer.weight, gain)
    _bias(layer, bias)


def _bias(layer: Any, value: float) -> None:
    if getattr(layer, "bias", None) is not None:
        nn.init.constant_(layer.bias, value)


def bias_init_with_prob(share: float) -> float:
    """The bias of a logistic unit that says `share` at first."""
    return -math.log((1 - share) / share)


def deform_conv(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """Deformable convolution as the fork's compiled operator has it: without a mask and a bias."""
    mask = torch.ones_like(offset[:, ::2])
    bias = torch.zeros_like(weight[:, 0, 0, 0])
    sizes = (stride, padding, dilation, groups, deformable_groups)
    return modulated_deform_conv2d(features, offset, mask, weight, bias, *sizes)


def _the_function_itself(*options: Any, **others: Any) -> Callable[[Any], Any]:
    return lambda function: function


def _build_assigner(options: Mapping[str, Any]) -> Any:
    return import_module("mmdet.core.bbox.builder").build_assigner(options)


def mmdet_fork(checkout: Path) -> list[ModuleType]:
    """Stand-ins for mmcv, and the fork's packages with nothing in them but the modules that are asked for.

    In `mmdet.core` are an assigner's builder and names that are imported and never used. `mmdet.datasets` has a registry for steps of
    pipelines.
    """
    inert = (
        "bbox2result",
        "images_to_levels",
        "multi_apply",
        "multiclass_nms",
        "unmap",
        "PointGenerator",
        "build_sampler",
    )
    packages = [bare_package(name, checkout.joinpath(*name.split("."))) for name in PACKAGES]
    known = {package.__name__: package for package in packages}
    vars(known["mmdet.utils"]).update(get_root_logger=None)
    vars(known["mmdet.ops"]).update(build_plugin_layer=None)
    vars(known["mmdet.models"]).update(build_detector=None)
    vars(known["mmdet.datasets"]).update(build_dataloader=None, build_dataset=None)
    core = stand_in(
        "mmdet.core", auto_fp16=_the_function_itself, build_assigner=_build_assigner, **dict.fromkeys(inert)
    )
    return [
        *packages,
        core,
        stand_in("mmdet.datasets.builder", PIPELINES=Registry()),
        stand_in("mmdet.ops.dcn.deform_conv_ext"),
        stand_in("mmcv", **dict.fromkeys(("Config", "DictAction", "Timer"))),
        stand_in(
            "mmcv.cnn",
            CONV_LAYERS=Registry(),
            ConvModule=ConvModule,
            bias_init_with_prob=bias_init_with_prob,
            build_conv_layer=build_conv_layer,
            build_norm_layer=build_norm_layer,
            constant_init=constant_init,
            kaiming_init=kaiming_init,
            normal_init=normal_init,
            xavier_init=xavier_init,
        ),
        # What a pipeline gives for a batch stays what it is.
        stand_in(
            "mmcv.parallel",
            DataContainer=lambda value, **options: value,
            MMDataParallel=None,
            MMDistributedDataParallel=None,
        ),
        stand_in("mmcv.runner", **dict.fromkeys(("get_dist_info", "init_dist", "load_checkpoint"))),
        stand_in("mmcv.utils", Registry=Registry, build_from_cfg=build_from_cfg, print_log=None),
        stand_in("pycocotools"),
        stand_in("pycocotools.mask"),
        stand_in("torch.utils.tensorboard", SummaryWriter=None),
    ]
