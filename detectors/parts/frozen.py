"""Parts of a backbone that keep what they were given: stages that don't learn, statistics that training doesn't move.

OpenMMLab's detectors start so from published weights: open-mmlab/mmdetection (Apache-2.0), `frozen_stages` and `norm_eval` of
mmdet/models/backbones/resnet.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from detectors.base import Tap


def freeze_stages(backbone: nn.Module, count: int) -> None:
    """The first `count` stages don't learn, nor does what lies before them; 0 is none.

    backbone: what `build_backbone` gave, of a network whose stages are its own children. Raises ValueError where there aren't so many.
    """
    information: Any = backbone.feature_info
    stages = information.module_name()[:count]
    if len(stages) != count or not set(stages) <= {name for name, _ in backbone.named_children()}:
        raise ValueError(f"the first {count} stages of a {type(backbone).__name__} can't be frozen")
    children = iter(backbone.named_children())
    while stages:
        name, child = next(children)
        child.requires_grad_(False)
        if name in stages:
            stages.remove(name)


def with_frozen(taps: Sequence[Tap], count: int) -> tuple[Tap, ...]:
    """The same taps, of which the first `count` say that they don't train."""
    return tuple(replace(tap, trainable=tap.trainable and index >= count) for index, tap in enumerate(taps))


def keep_statistics(module: nn.Module) -> None:
    """Batch normalisations in a module use their running statistics, also where the module trains, and leave them as they are.

    To be called whenever the module's mode was set.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
