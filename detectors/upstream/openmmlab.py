"""Stand-ins for the few parts of OpenMMLab's packages (mmcv, mmengine, mmdet) that lane detectors are made of.

Real ones want compiled operators and fixed versions of torch, and what the detectors use of them is short: a registry of classes, a
convolution with its normalisation, and the order in which a detector's parts are built. The facts are those of mmcv 1.7.2 and of mmcv
2.2.0, mmengine 0.10.7 and mmdet 3.3.0; with these three, CLRerNet has the same weights, outputs and losses, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.upstream.isolation import stand_in


class Options(dict[str, Any]):
    """A configuration whose keys can be read and set as attributes, mappings in it too."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__({key: options_of(value) for key, value in options.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def copy(self) -> Self:
        """Of the same type, as parts of it are changed by who builds from it."""
        return type(self)(self)


def options_of(value: Any) -> Any:
    """A mapping as `Options`, anything else as it is."""
    return Options(value) if isinstance(value, Mapping) else value


class Registry:
    """Classes by name, built from options that name them as `type`; `register_module` is the decorator itself, or gives it."""

    def __init__(self, name: str = "") -> None:
        self.classes: dict[str, type] = {}

    def register_module(self, made: Any = None) -> Any:
        """Registers a class under its own name, or under the one that is given."""
        if isinstance(made, type):
            self.classes[made.__name__] = made
            return made

        def register(other: type) -> type:
            self.classes[made or other.__name__] = other
            return other

        return register

    def build(self, options: Mapping[str, Any]) -> Any:
        """An instance of the class that `type` names, made with the other options."""
        others = Options(options)
        return self.classes[others.pop("type")](**others)


class ConvModule(nn.Module):
    """mmcv.cnn.ConvModule: `conv`, with a bias where nothing normalises; `bn` where `norm_cfg` says so; ReLU where not refused."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        bias: bool | str = "auto",
        conv_cfg: Any = None,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = {"type": "ReLU"},
        inplace: bool = True,
    ) -> None:
        super().__init__()
        bias = norm_cfg is None if bias == "auto" else bool(bias)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels) if norm_cfg is not None else None
        self.activated, self.inplace = act_cfg is not None, inplace

    def forward(self, features: Tensor) -> Tensor:
        """Convolution, normalisation, activation."""
        features = self.conv(features)
        features = features if self.bn is None else self.bn(features)
        return F.relu(features, inplace=self.inplace) if self.activated else features


class SmoothL1Loss(nn.Module):
    """mmdet's with beta 1 and without weights of samples."""

    def __init__(self, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Weighted smooth L1."""
        return self.loss_weight * F.smooth_l1_loss(predicted, target, reduction=self.reduction)


class Head(nn.Module):
    """mmdet's BaseDenseHead, of which a head of lanes inherits no more than that it is a module."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()


class Sample:
    """mmdet's DetDataSample: what is known of one image, as attributes."""

    def set_metainfo(self, known: Mapping[str, Any]) -> None:
        """Make entries of a mapping attributes, and `metainfo`."""
        self.metainfo = dict(known)
        vars(self).update(known)


def mmdet3() -> list[ModuleType]:
    """Stand-ins for mmdet 3 and for what it needs of mmcv 2 and mmengine; the registries are new at every call."""
    models = Registry()
    models.classes["SmoothL1Loss"] = SmoothL1Loss
    registries = {name: Registry() for name in ("DATASETS", "HOOKS", "METRICS", "TASK_UTILS", "TRANSFORMS")}

    class SingleStageDetector(nn.Module):
        """Backbone, neck and head, built in this order; the head gets the settings of training and testing."""

        def __init__(
            self, backbone: Any, neck: Any, bbox_head: Any, train_cfg: Any, test_cfg: Any, *others: Any
        ) -> None:
            super().__init__()
            self.backbone = models.build(backbone)
            self.neck = models.build(neck)
            self.bbox_head = models.build({**bbox_head, "train_cfg": train_cfg, "test_cfg": test_cfg})

        def extract_feat(self, images: Tensor) -> Any:
            return self.neck(self.backbone(images))

    packages = (
        "mmcv",
        "mmcv.cnn.bricks",
        "mmdet",
        "mmdet.models",
        "mmdet.models.dense_heads",
        "mmdet.models.detectors",
        "mmdet.models.task_modules",
        "mmdet.models.task_modules.assigners",
        "mmengine",
    )
    return [
        *(stand_in(name) for name in packages),
        stand_in("mmcv.cnn", ConvModule=ConvModule),
        stand_in("mmcv.cnn.bricks.transformer", build_attention=models.build),
        stand_in("mmcv.transforms", to_tensor=torch.from_numpy),
        stand_in("mmcv.transforms.base", BaseTransform=object),
        stand_in("mmdet.registry", MODELS=models, **registries),
        stand_in("mmdet.models.dense_heads.base_dense_head", BaseDenseHead=Head),
        stand_in("mmdet.models.detectors.single_stage", SingleStageDetector=SingleStageDetector),
        stand_in("mmdet.models.task_modules.assigners.base_assigner", BaseAssigner=object),
        stand_in("mmdet.structures", DetDataSample=Sample, SampleList=list),
        stand_in("mmengine.evaluator", BaseMetric=object),
        stand_in("mmengine.logging", MMLogger=None, print_log=print),
        stand_in("mmengine.structures", InstanceData=Sample),
    ]
