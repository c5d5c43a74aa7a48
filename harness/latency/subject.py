"""What is timed: a trained detector, on the files of a test set."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from detectors.base import Detector
from harness.inference.detector import load_detector


class Subject(BaseModel):
    """A trained detector and the files of the images that it is timed on. adapter, confidence_threshold: as for `load_detector`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path
    adapter: str | None = None
    confidence_threshold: float | None = None
    images: tuple[Path, ...]


def loaded(subject: Subject) -> Detector:
    """A subject's detector, on the host."""
    return load_detector(subject.checkpoint, adapter=subject.adapter, confidence_threshold=subject.confidence_threshold)
