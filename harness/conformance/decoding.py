"""What `decode` promises: sound lanes, whatever lies beside an image, whatever threshold is set, on whatever device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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

SAME_SCORE = 1e-4
"""Two scores nearer than this are the same but for rounding."""

ELSEWHERE = 0.1
"""Lanes whose middles are further apart than this share of the network's input don't lie in one place."""


def check_decoding(
    detector: Detector,
    outputs: Any,
    geometries: Sequence[Geometry],
    lanes: Sequence[Sequence[Lane]],
    size: tuple[int, int],
) -> None:
    """Raise Unmet unless each image is decoded by its outputs alone, whatever was decoded before, by its own geometry, by the threshold
    that the detector has at that time, and on the device on which its outputs lie.

    outputs: of several images of `size` (height, width), which decode to `lanes`, also a second time (`check_again`). The detector is
    left on the second device.
    """
    _by_outputs_alone(detector, outputs, geometries, lanes, size)
    _by_its_own_geometry(detector, outputs, geometries, lanes, size)
    _by_the_threshold_of_now(detector, outputs, geometries, lanes)
    _on_another_device(detector, outputs, geometries)


def check_lanes(lanes: Sequence[Sequence[Lane]], detector: Detector) -> None:
    """Raise Unmet unless every lane is what `decode` promises."""
    if fault := fault_in(lanes, detector):
        raise Unmet(fault)


def fault_in(lanes: Sequence[Sequence[Lane]], detector: Detector) -> str | None:
    """What is wrong with the first lane that isn't what `decode` promises; None where all are."""
    threshold = detector.configuration.recipe.confidence_threshold
    for lane in (lane for image in lanes for lane in image):
        fault = fault_of(lane)
        if fault is None and lane.score is not None and lane.score < threshold:
            fault = f"has score {lane.score}, below the threshold {threshold}"
        if fault is not None:
            return f"decode gives a lane that {fault}"
    return None


def check_again(
    detector: Detector, outputs: Any, geometries: Sequence[Geometry], lanes: Sequence[Sequence[Lane]]
) -> None:
    """Raise Unmet unless outputs that decoded to `lanes` do so again."""
    if not _give(detector, outputs, geometries, lanes):
        raise Unmet(
            "decode gives other lanes of the same outputs a second time: it draws random numbers or keeps something between calls"
        )


def _by_its_own_geometry(
    detector: Detector,
    outputs: Any,
    geometries: Sequence[Geometry],
    lanes: Sequence[Sequence[Lane]],
    size: tuple[int, int],
) -> None:
    half = detector.geometry_of((size[0] // 2, size[1] // 2))
    for halved in ({0, len(geometries) - 1}, set(range(1, len(geometries) - 1))):
        mixed = [half if place in halved else geometry for place, geometry in enumerate(geometries)]
        found = decoded(detector, own_copy(outputs), mixed)
        for place, geometry in enumerate(mixed):
            if place not in halved and not _same_lanes(lanes[place], found[place]):
                raise Unmet(
                    "decode gives other lanes of an image where those beside it have another size; use its own geometry"
                )
            if place in halved and _apart(lanes[place], geometries[place], found[place], geometry):
                raise Unmet(
                    "decode gives lanes of an image of half the size that don't lie where they lie in the whole one; map them by "
                    "the geometry that it has in this call"
                )


def _by_outputs_alone(
    detector: Detector,
    outputs: Any,
    geometries: Sequence[Geometry],
    lanes: Sequence[Sequence[Lane]],
    size: tuple[int, int],
) -> None:
    # What comes in between: other lanes, scores and sizes. Whether these outputs mean anything is of no account.
    others = pytree.tree_map_only(
        Tensor, lambda output: 0.9 * output.flip(0) if output.is_floating_point() and output.ndim else output, outputs
    )
    with suppress(Exception):
        decoded(detector, others, [detector.geometry_of((size[0] // 2, size[1] // 2))] * len(geometries))
    if not _give(detector, outputs, geometries, lanes):
        raise Unmet(
            "decode gives other lanes of the same outputs after it decoded others: it keeps something between calls"
        )


def _give(detector: Detector, outputs: Any, geometries: Sequence[Geometry], lanes: Sequence[Sequence[Lane]]) -> bool:
    """Whether outputs decode to `lanes`."""
    found = decoded(detector, own_copy(outputs), geometries)
    return all(_same_lanes(*pair) for pair in zip(lanes, found, strict=True))


def own_copy(outputs: Any) -> Any:
    """Outputs in memory of their own: an adapter may change those that it decodes."""
    return pytree.tree_map_only(Tensor, lambda output: output.detach().clone(), outputs)


def _by_the_threshold_of_now(
    detector: Detector, outputs: Any, geometries: Sequence[Geometry], lanes: Sequence[Sequence[Lane]]
) -> None:
    lowest = min((lane.score or 0.0 for image in lanes for lane in image), default=1.0)
    if lowest > 1 - CERTAIN:
        return
    own, detector.meta = detector.meta, with_confidence_threshold(detector.meta, (lowest + 1) / 2)
    try:
        check_lanes(decoded(detector, own_copy(outputs), geometries), detector)
    except Unmet as error:
        raise Unmet(
            f"{error}; it was set after __init__: read configuration.recipe.confidence_threshold in decode"
        ) from error
    finally:
        detector.meta = own


def _same_lanes(first: Sequence[Lane], second: Sequence[Lane]) -> bool:
    """Whether two decodings gave the same lanes, but for rounding."""
    return len(first) == len(second) and all(
        len(a) == len(b)
        and np.allclose(a.points, b.points, atol=1e-2)
        and abs((a.score or 0.0) - (b.score or 0.0)) < SAME_SCORE
        for a, b in zip(first, second, strict=True)
    )


def _apart(first: Sequence[Lane], geometry: Geometry, second: Sequence[Lane], other: Geometry) -> bool:
    """Whether lanes of two sizes of an image lie elsewhere in its network pixels. How many points they have, and so where they end, may
    follow the size.
    """
    reach = ELSEWHERE * np.array(geometry.network[::-1])
    return len(first) == len(second) and any(
        (
            np.abs(np.median(geometry.to_network(a.points), axis=0) - np.median(other.to_network(b.points), axis=0))
            > reach
        ).any()
        for a, b in zip(first, second, strict=True)
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
