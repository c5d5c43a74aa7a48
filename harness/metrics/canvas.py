"""What lanes are painted on when CULane's metric compares them, and what the metric is called there."""

from __future__ import annotations

IMAGE_SIZE = (590, 1640)
"""Height and width of CULane's images in pixels."""

LANE_WIDTH = 30
"""Width in pixels that lanes are painted with on images of that size (XingangPan/SCNN, tools/lane_evaluation/run.sh)."""


def metric_on(metric: str, image_size: tuple[int, int], lane_width: int) -> str:
    """A metric's name on images of a size (height, width): it says so wherever that isn't what CULane itself is scored with."""
    if (image_size, lane_width) == (IMAGE_SIZE, LANE_WIDTH):
        return metric
    height, width = image_size
    return f"{metric} ({width}x{height}, lanes {lane_width} px wide)"
