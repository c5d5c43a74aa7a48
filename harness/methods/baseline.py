"""The baseline: the detector as it is, behind the interface that every method has."""

from __future__ import annotations

from torch import Tensor

from detectors.base import Batch, Detector
from harness.methods.base import ParameterGroup, TrainingModel


class BaselineModel(TrainingModel):
    """Adds nothing: losses and gradients are bit for bit those of the detector alone."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The detector's own loss terms."""
        return self.detector.losses(self.detector(batch.images), batch)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """One group: what trains in the detector."""
        trained = tuple(parameter for parameter in self.detector.parameters() if parameter.requires_grad)
        return (ParameterGroup("detector", trained),)

    def diagnostics(self) -> dict[str, float]:
        """None."""
        return {}

    def inference_model(self) -> Detector:
        """The detector itself."""
        return self.detector
