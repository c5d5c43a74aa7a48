"""What `decode` promises: sound lanes, whatever lies beside an image, whatever threshold is set, on whatever device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from detectors.base import Detector
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.subject import Unmet, told
from harness.inference.detector import with_confidence_threshold
from harness.inference.predict import decoded
from harness.inference.soundness import fault_of
from harness.lanes import Geometry, Lane

CERTAIN = 1e-3
"""Scores this near to 1 are too near for a threshold between them and 1."""


def check_decoding(
    detector: Detector,
    outputs: Any,
    geometries: Sequence[Geometry],
    lanes: Sequence[Sequence[Lane]],
    size: tuple[int, int],
) -> None:
    """Raise Unmet unless each image is decoded by its own geometry, by the threshold that the detector has at that time, and on the
    device on which its outputs lie.

    outputs: of several images of `size` (height, width), which decode to `lanes`. The detector is left on the second device.
    """
    _by_its_own_geometry(detector, outputs, geometries, lanes, size)
    _by_the_threshold_of_now(detector, outputs, geometries, lanes)
    _on_another_device(detector, outputs, geometries)


def check_lanes(lanes: Sequence[Sequence[Lane]], detector: Detector) -> None:
    """What `decode` promises of every lane."""
    threshold = detector.configuration.recipe.confidence_threshold
    for lane in (lane for image in lanes for lane in image):
        fault = fault_of(lane)
        if fault is None and lane.score is not None and lane.score < threshold:
            fault = f"has score {lane.score}, below the threshold {threshold}"
        if fault is not None:
            raise Unmet(f"decode gives a lane that {fault}")


def _by_its_own_geometry(
    detector: Detector,
    outputs: Any,
    geometries: Sequence[Geometry],
    lanes: Sequence[Sequence[Lane]],
    size: tuple[int, int],
) -> None:
    half = detector.geometry_of((size[0] // 2, size[1] // 2))
    inner = range(1, len(geometries) - 1)
    mixed = decoded(detector, outputs, [half, *(geometries[place] for place in inner), half])
    for place in inner:
        if not _same_lanes(lanes[place], mixed[place]):
            raise Unmet(
                "decode gives other lanes of an image where those beside it have another size; use its own geometry"
            )


def _by_the_threshold_of_now(
    detector: Detector, outputs: Any, geometries: Sequence[Geometry], lanes: Sequence[Sequence[Lane]]
) -> None:
    lowest = min((lane.score or 0.0 for image in lanes for lane in image), default=1.0)
    if lowest > 1 - CERTAIN:
        return
    own, detector.meta = detector.meta, with_confidence_threshold(detector.meta, (lowest + 1) / 2)
    try:
        check_lanes(decoded(detector, outputs, geometries), detector)
    except Unmet as error:
        raise Unmet(
            f"{error}; it was set after __init__: read configuration.recipe.confidence_threshold in decode"
        ) from error
    finally:
        detector.meta = own


def _same_lanes(first: Sequence[Lane], second: Sequence[Lane]) -> bool:
    """Whether two decodings gave the same lanes, but for rounding."""
    return len(first) == len(second) and all(
        len(a) == len(b) and np.allclose(a.points, b.points, atol=1e-2) for a, b in zip(first, second, strict=True)
    )


def _on_another_device(detector: Detector, outputs: Any, geometries: Sequence[Geometry]) -> None:
    with torch.no_grad(), second_device():
        detector.to(SECOND_DEVICE)
        there = pytree.tree_map_only(Tensor, lambda output: output.to(SECOND_DEVICE), outputs)
        try:
            check_lanes(decoded(detector, there, geometries), detector)
        except Unmet:
            raise
        except Exception as error:
            raise Unmet(f"decode, on another device than the host's: {told(error)}") from error
