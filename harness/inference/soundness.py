"""What every decoded lane has to be, said where it is decoded: a scorer knows neither the detector nor the image any more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Detector
from harness.errors import InputError
from harness.lanes import Lane

NOT_FINITE = "has coordinates that are no numbers"


class BrokenDetector(InputError):
    """A detector finds what no picture can show: the fault is its own, not a picture's."""


def fault_of(lane: Lane) -> str | None:
    """What is wrong with a decoded lane, as the rest of a sentence about it; None where it is sound."""
    if not np.isfinite(lane.points).all():
        return NOT_FINITE
    if len(lane) < 2:
        return f"has {len(lane)} point{'s' * (len(lane) != 1)}; give two or more"
    if lane.points[0, 1] < lane.points[-1, 1]:
        return "goes from far to near; give its points from near to far"
    if lane.score is None or not 0.0 <= lane.score <= 1.0:
        return f"has score {lane.score}; scores lie in [0, 1]"
    return None


def check_sound(lanes: Sequence[Lane], detector: Detector, image: str) -> None:
    """BrokenDetector, which names detector and image, unless every lane that the detector decoded of it is sound."""
    for number, lane in enumerate(lanes, start=1):
        fault = fault_of(lane)
        if fault is None:
            continue
        name, which = detector.meta.name, f"lane {number} of {len(lanes)}"
        if fault == NOT_FINITE:
            # Most often a training that diverged; there `decode` has nothing to mend.
            raise BrokenDetector(
                f"{image}: {name} gives coordinates that are no numbers; its weights are broken, or its decode ({which})"
            )
        raise BrokenDetector(f"{image}: {name} decodes a lane that {fault} ({which}); mend `decode`")
