"""The loop of `predict`: every picture of every source through a detector, into the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from detectors.base import Detector
from harness.datasets.drawing import draw_lanes
from harness.datasets.images import Image, write_jpeg
from harness.datasets.videos import Video, written_video
from harness.errors import InputError
from harness.lanes import Part
from harness.prediction.frames import Picture, Viewer, lanes_of
from harness.prediction.outputs import Outputs
from harness.prediction.sources import Source

OVERLAY_QUALITY = 92
"""Of JPEG overlays."""

Show = Callable[[Picture, Image], None]
"""Takes a picture and the same with its lanes drawn."""


@dataclass
class Found:
    """What a source showed: pictures looked at, and the lanes in them."""

    pictures: int = 0
    lanes: int = 0

    def add(self, lanes: int) -> None:
        """Count a picture."""
        self.pictures += 1
        self.lanes += lanes


@dataclass
class Result:
    """What each source showed, in the order in which they were looked at, and all together; what was wrong with sources."""

    of: dict[Source, Found] = field(default_factory=dict)
    total: Found = field(default_factory=Found)
    faults: list[InputError] = field(default_factory=list)

    def add(self, source: Source, lanes: int) -> None:
        """Count a picture of a source."""
        self.of.setdefault(source, Found()).add(lanes)
        self.total.add(lanes)


def predict_sources(
    detector: Detector,
    sources: Sequence[Source],
    outputs: Outputs,
    *,
    device: torch.device,
    batch_size: int = 16,
    every: int = 1,
    part: Part | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Predict images, then videos (every `every`-th frame), and write what `outputs` says; memory holds a batch at most.

    part: what the detector is shown of each picture, by default all of it; lanes are in pixels of the whole picture either way.

    A damaged image or video is passed over, or as much of it kept as can be read, and told in the result. progress: called after
    every picture with (pictures done, pictures known of: a video's frames count from when it is opened). Moves the detector to
    `device`, in eval mode. Raises InputError if the detector itself is broken, OSError if something can't be written.
    """
    detector.to(device).eval()
    result = Result()
    images = [source for source in sources if not source.is_video]
    viewer = Viewer(detector.geometry_of, part)
    known = len(images)

    def follow(pictures: Iterable[Picture | InputError], show: Show | None) -> None:
        found = lanes_of(detector, pictures, device=device, batch_size=batch_size, faults=result.faults)
        for picture, lanes in found:
            write(picture, lanes)
            if show:
                show(picture, draw_lanes(picture.whole(), lanes))
            result.add(picture.source, len(lanes))
            if progress:
                progress(result.total.pictures, known)

    def show_image(picture: Picture, drawn: Image) -> None:
        write_jpeg(outputs.overlay_of(picture.source), drawn, OVERLAY_QUALITY)

    def follow_video(source: Source, video: Video) -> None:
        frames = viewer.frames(source, video, every)
        if not outputs.overlay:
            return follow(frames, None)
        with written_video(outputs.overlay_of(source), video.rate / every) as take:
            follow(frames, lambda _, drawn: take(drawn))

    with outputs.writer() as write:
        follow(viewer.images(images), show_image if outputs.overlay else None)
        for source in (source for source in sources if source.is_video):
            try:
                video = Video(source.path)
            except InputError as fault:
                result.faults.append(fault)
                continue
            known += -(-video.frames // every)
            follow_video(source, video)
    return result
