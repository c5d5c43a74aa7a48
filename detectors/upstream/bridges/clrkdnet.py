"""weiqingq/CLRKDNet's own CLRKDNet, of which there is no variant of ours.

Trained is the student alone, by its losses on the labels. Its distillation isn't here: it needs the weights of a trained teacher, which
the repository doesn't hold, and a second network in every training step. Facts and recipe: configs/ResNet18_CULane.py and
configs/DLA_CULane.py, which are CLRNet's but for the number of epochs and, with DLA-34, the weight of the line's loss. Frames that are
nearly the frame before, which upstream leaves out, are learned too.
"""

from __future__ import annotations

from typing import ClassVar

from detectors.base import Detector
from detectors.clrnet import CULANE_INPUT, PLAIN, published
from detectors.clrnet import CLRNet as OurCLRNet
from detectors.meta import Configuration, DetectorMeta
from detectors.upstream.bridge import SUFFIX
from detectors.upstream.bridges.clrnet import Refinement
from detectors.upstream.clrkdnet import CLRKDNet
from detectors.upstream.repositories import REPOSITORIES

_REPOSITORY = REPOSITORIES[CLRKDNet.repository]


class UpstreamCLRKDNet(Refinement):
    """CLRKDNet of its authors, without distillation. It learns from CLRNet's labels."""

    reference = CLRKDNet
    labels = "as our CLRNet"
    departures = "suppression, a CUDA kernel there; no distillation, which needs a trained teacher"
    metas: ClassVar[dict[str, DetectorMeta]] = {
        name + SUFFIX: DetectorMeta(
            name=name + SUFFIX,
            paper="Qi, Zhao, Ma, Zheng, Liu: CLRKDNet: Speeding up Lane Detection with Knowledge Distillation, arXiv 2405.12503",
            year=2024,
            family="anchor",
            backbone=backbone,
            upstream=_REPOSITORY.url,
            commit=_REPOSITORY.commit,
            licence="Apache-2.0",
            normalisation=PLAIN,
            configurations={"culane": Configuration(input=CULANE_INPUT, recipe=published(20, 24, 6e-4, 0.4))},
        )
        for name, backbone in (("clrkdnet_resnet18", "resnet18"), ("clrkdnet_dla34", "dla34"))
    }

    def counterpart(self) -> Detector:
        """Our CLRNet on the same backbone."""
        return OurCLRNet(self.meta, self.form)
