"""Stand-ins for what repositories need that are forks of mmdet 2.0: mmcv 0.5, and the parts of mmdet that aren't run.

What they use of mmcv is short: registries of classes, a convolution with its normalisation, and starts of weights. The facts are those
of open-mmlab/mmcv 0.5.6 (Apache-2.0). Their configurations have the same settings of images and labels, which are read here as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectors.upstream.deformable import modulated_deform_conv2d
from detectors.upstream.isolation import Patch, bare_package, cuda_is_here, replaced, stand_in
from detectors.upstream.openmmlab import ConvModule, Registry
from detectors.upstream.reference import needed
from harness.lanes import Lane

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

# FloatTensor: a type of tensors of one device, where only the numbers' type is meant.
PATCHES: tuple[Patch, ...] = (cuda_is_here, replaced(torch.cuda, "FloatTensor", torch.float32))
"""With which the forks' code runs on any device."""

ENCODERS = "mmdet.datasets.pipelines.lane_formating"
"""The module of the steps that encode labels."""


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


def normalised_as(settings: Mapping[str, Any], images: Tensor) -> Tensor:
    """uint8 RGB (B, 3, h, w) by a configuration's `img_norm_cfg`, in OpenCV's order of channels."""
    values = (settings["img_norm_cfg"][name] for name in ("mean", "std"))
    mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in values)
    return (images.flip(1).float() - mean) / std


def label_encoder(settings: Mapping[str, Any]) -> Any:
    """The step of a configuration that encodes labels; inside of the fork's scope. `Unavailable` where it can't be imported."""
    step = dict(settings["train_pipeline"][-1])
    return getattr(needed(ENCODERS, "its encoder needs"), step.pop("type"))(**step)


def labelled(settings: Mapping[str, Any], lanes: Sequence[Lane]) -> dict[str, Any]:
    """Labels of two points or more as the encoder reads them: cropped and resized as a configuration says, far outside or not."""
    left, top, right, bottom = settings["crop_bbox"]
    scale = np.array(settings["img_scale"]) / [right - left, bottom - top]
    read = [lane.points.astype(np.float64) for lane in lanes if len(lane.points) > 1]
    return {
        "img_shape": (*settings["img_scale"][::-1], 3),
        "gt_points": [((points - [left, top]) * scale).reshape(-1).tolist() for points in read],
    }
