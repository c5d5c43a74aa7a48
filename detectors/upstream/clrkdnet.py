"""CLRKDNet as weiqingq/CLRKDNet builds it: the student's network, without a teacher."""

from __future__ import annotations

from typing import ClassVar

from detectors.meta import Form
from detectors.upstream.clrnet import CLRNetModel

CONFIGURATIONS = {"clrkdnet_resnet18": "configs/ResNet18_CULane.py", "clrkdnet_dla34": "configs/DLA_CULane.py"}
"""Variant -> upstream's configuration."""


class CLRKDNet(CLRNetModel):
    """`configs/ResNet18_CULane.py` and `configs/DLA_CULane.py`, CLRNet's code with another neck and one stage of refinement."""

    repository = "CLRKDNet"
    package = "clrkd"
    needs = tuple(CONFIGURATIONS.values())
    variants: ClassVar[dict[str, tuple[Form, ...]]] = dict.fromkeys(CONFIGURATIONS, ("culane",))

    def configuration(self, variant: str) -> str:
        """By variant."""
        return CONFIGURATIONS[variant]
