"""What a mode does to a detector's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from detectors.base import Detector
from harness.datasets.base import Dataset, Frame
from harness.inference.predict import Settings, predict
from harness.pytorch.compilation import compile_in_place
from harness.scoring.headline import score_of
from harness.throughput.devices import timing_settings
from harness.throughput.modes import HEADLINE, Mode, Precision
from harness.training.plan import Precision as TrainedPrecision

TOLERANCE = 0.001
"""A mode whose headline score differs from fp32-strict's by more, a fraction, is flagged: 0.1 points."""

PREDICTED: dict[Precision, TrainedPrecision] = {
    "fp32-strict": "fp32", "tf32": "fp32", "amp-bf16": "bf16", "amp-fp16": "fp16",
}  # fmt: skip


def score_changes(
    load: Callable[[], Detector],
    dataset: Dataset,
    split: str,
    frames: Sequence[Frame],
    modes: Sequence[Mode],
    *,
    device: torch.device,
    threads: int,
) -> dict[Mode, float]:
    """The headline score over some frames of a split in each mode, minus that in fp32-strict, as fractions.

    load: a fresh copy of the detector. The split has labels.
    """

    def score(mode: Mode) -> float:
        detector = load()
        if mode.compiled:
            compile_in_place(detector)
        with timing_settings(threads=threads, tf32=mode.precision == "tf32"):
            settings = Settings(device, precision=PREDICTED[mode.precision], channels_last=mode.channels_last)
            lanes = predict(detector, [frame.image for frame in frames], settings)
        return score_of(dataset, split, frames, lanes, workers=threads)

    strict = score(HEADLINE)
    return {mode: 0.0 if mode == HEADLINE else score(mode) - strict for mode in modes}
