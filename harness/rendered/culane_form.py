"""The CULane form: an image and a `.lines.txt` a frame, masks of training frames, lists by split and scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.datasets.lines import write_lines_file
from harness.files.stored import write_text
from harness.lanes import Lane
from harness.rendered.clip import Clip
from harness.rendered.frame import aim, culane_lanes, prepare, render_frame
from harness.rendered.pictures import write_jpeg, write_png
from harness.rendered.sampling import sample_scene, sample_street
from harness.rendered.spec import SCENARIOS, RenderSpec

CLIPS_PER_DRIVER = 20
FRAME_STEP = 30
"""CULane keeps every 30th frame of its recordings and names the files so."""
MASK_FOLDER = "laneseg_label_w16"
MASK_WIDTH = 16
"""CULane's lane masks are 16 px wide at 590 rows."""

Flags = list[list[int]]
"""Each frame's four existence flags."""


def folder(split: str, number: int, digest: str) -> str:
    """Where a clip lies."""
    return f"driver_{split}_{number // CLIPS_PER_DRIVER:02d}/{number:04d}_{digest[:4]}.MP4"


def images(clip: Clip) -> list[str]:
    """The images of a clip, relative to the root."""
    return [f"{clip.folder}/{FRAME_STEP * number:05d}.jpg" for number in range(clip.frames)]


def write_label(image: Path, lanes: list[Lane]) -> None:
    """The label beside an image."""
    write_lines_file(image.with_suffix("").with_suffix(".lines.txt"), lanes)


def existing(slots: list[int]) -> list[int]:
    """A frame's four existence flags."""
    return [int(slot in slots) for slot in range(4)]


def label_clip(clip: Clip, spec: RenderSpec, root: Path) -> Flags:
    """Write one clip's labels alone under `root`, without drawing anything."""
    scene, _ = sample_street(clip.scenario, spec.difficulty, clip.seed, clip.frames)
    flags = []
    (root / clip.folder).mkdir(parents=True)
    for number, image in enumerate(images(clip)):
        lanes, slots = culane_lanes(scene, aim(scene, number, width=spec.width, height=spec.height))
        write_label(root / image, lanes)
        flags.append(existing(slots))
    return flags


def render_clip(clip: Clip, spec: RenderSpec, root: Path) -> Flags:
    """Write one clip's images, labels and lane masks under `root`."""
    scene = sample_scene(clip.scenario, spec.difficulty, clip.seed, clip.frames)
    stage = prepare(scene)
    flags = []
    (root / clip.folder).mkdir(parents=True, exist_ok=True)
    masks = clip.split in ("train", "val")
    if masks:
        (root / MASK_FOLDER / clip.folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images(clip)):
        frame = render_frame(stage, number, width=spec.width, height=spec.height)
        path = root / image
        write_jpeg(path, frame.image)
        write_label(path, frame.lanes)
        if masks:
            mask = lane_mask(frame.lanes, frame.slots, (spec.height, spec.width))
            write_png((root / MASK_FOLDER / image).with_suffix(".png"), mask)
        flags.append(existing(frame.slots))
    return flags


def lane_mask(lanes: list[Lane], slots: list[int], size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """CULane's training mask: 0 for background, slot + 1 along each lane."""
    mask = np.zeros(size, np.uint8)
    thickness = max(round(MASK_WIDTH * size[0] / 590), 1)
    for lane, slot in zip(lanes, slots, strict=True):
        points = np.round(lane.points * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, slot + 1, thickness, cv2.LINE_8, 4)
    return mask


def finish(splits: list[str], clips: list[Clip], flags: dict[str, Flags], root: Path) -> None:
    """Write the lists, from the flags of each clip's folder."""
    for split in splits:
        mine = [clip for clip in clips if clip.split == split]
        write_text(root / "list" / f"{split}.txt", "".join(f"/{image}\n" for clip in mine for image in images(clip)))
        if split == "test":
            for number, scenario in enumerate(SCENARIOS):
                listed = [image for clip in mine if clip.scenario == scenario for image in images(clip)]
                # An empty list isn't written: a split without images has no score.
                if listed:
                    write_text(
                        root / "list" / "test_split" / f"test{number}_{scenario}.txt",
                        "".join(f"{image}\n" for image in listed),
                    )
            continue
        rows = []
        for clip in mine:
            for image, exist in zip(images(clip), flags[clip.folder], strict=True):
                rows.append(f"/{image} /{MASK_FOLDER}/{image.removesuffix('.jpg')}.png {' '.join(map(str, exist))}\n")
        write_text(root / "list" / f"{split}_gt.txt", "".join(rows))
