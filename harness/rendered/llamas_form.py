"""The LLAMAS form: an image and a JSON file of lane markers a frame.

A marker is a painted dash, given by its ends in the world and in the image. A solid line is a chain of markers of a dash's length.
The world is the camera's: x to the right, y down, z ahead, metres, so that `projection_matrix` alone leads from one to the other;
the lens has no distortion, since the real images are rectified.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.llamas import IMAGE_SUFFIX, SPLITS
from harness.datasets.rendering import SCENARIOS_FILE
from harness.files.stored import write_json
from harness.rendered.clip import Clip
from harness.rendered.frame import Shot, aim, draw, labelled_curves, prepare
from harness.rendered.highway import DASH, Recording, sample_highway, sample_road
from harness.rendered.pictures import write_png
from harness.rendered.road import Array, Curve
from harness.rendered.scene import Line, Scene
from harness.rendered.spec import RenderSpec

SHORTEST = 0.3
"""What of a marker is seen is labelled if it is this long, metres."""

RECORDING = Recording(
    horizon=(0.435 - 0.36, 6.0 / 717),
    focal=(0.74, 0.82),
    height=(1.5, 0.03),
    offset=(0.0, 0.04),
    place=(0.0, 0.25),
    yaw=(0.0, 0.008),
    distortion=0.0,
    reach=(110.0, 0.15),
    fallen_short=0.0,
    frame_seconds=0.5,
    bend=1 / 5000,
    curve_radius=(300.0, 900.0),
    curved=0.08,
)

LABELLED = {3: 0.35, 4: 0.65}
"""Shares of the number of lanes a frame, of the four that are evaluated."""


def folder(split: str, number: int, digest: str) -> str:
    """Where a clip's images lie."""
    return f"color_images/{SPLITS[split]}/roads-{split}-{number:04d}_{digest[:4]}"


def names(clip: Clip) -> list[str]:
    """The names of a clip's frames without ending: seconds and nanoseconds, as the real ones."""
    return [f"{1400000000 + 60 * clip.number + n // 2}_{n % 2 * 500000000:010d}" for n in range(clip.frames)]


def images(clip: Clip) -> list[str]:
    """The images of a clip, relative to the root."""
    return [f"{clip.folder}/{name}{IMAGE_SUFFIX}" for name in names(clip)]


def scene_of(clip: Clip, difficulty: float) -> Scene:
    """The world of a clip."""
    return sample_highway(RECORDING, LABELLED, clip.scenario, difficulty, clip.seed, clip.frames)


def road_of(clip: Clip, difficulty: float) -> Scene:
    """The world of a clip without what stands behind its roadside, which is as much as labels take."""
    return sample_road(RECORDING, LABELLED, clip.scenario, difficulty, clip.seed, clip.frames)[0]


def label(scene: Scene, shot: Shot, image_name: str) -> dict[str, Any]:
    """The label of a frame: l1, l0 left of the car, r0, r1 right of it. Values of markers are strings, as in the real files."""
    matrix = [[shot.view.focal, 0.0, shot.view.center_x], [0.0, shot.view.focal, shot.view.center_y], [0.0, 0.0, 1.0]]
    lanes = []
    for index, curve in labelled_curves(scene, shot):
        beside = index - scene.ego_lane
        lane_id = f"r{beside - 1}" if beside > 0 else f"l{-beside}"
        markers = _markers(curve, scene.lines[index], shot, np.array(matrix))
        # The official scripts fail on a lane without a slanted marker.
        if any(marker["pixel_start"]["x"] != marker["pixel_end"]["x"] for marker in markers):
            for number, marker in enumerate(markers):
                marker["lane_marker_id"] = f"{lane_id}_{number}"
            lanes.append({"lane_id": lane_id, "markers": markers})
    return {"image_name": image_name, "projection_matrix": matrix, "lanes": lanes}


def _markers(curve: Curve, line: Line, shot: Shot, matrix: Array) -> list[dict[str, Any]]:
    """The markers of a boundary from near to far, cut where they leave the image."""
    seen = (curve.row <= shot.height - 1) & (curve.column >= 0) & (curve.column <= shot.width - 1)
    first = int(np.argmax(seen))
    after = np.flatnonzero(~seen[first:])
    last = first + int(after[0]) if len(after) else len(seen)
    if not seen.any() or last - first < 2:
        return []
    near, far = float(curve.s[first]), float(curve.s[last - 1])
    period, length = (line.period, line.length) if line.period else (DASH, DASH)
    number = np.floor((near + line.phase) / period) + np.arange(np.ceil((far - near) / period) + 1)
    starts = np.clip(number * period - line.phase, near, far)
    ends = np.clip(number * period - line.phase + length, near, far)
    long = ends - starts >= SHORTEST
    found = []
    for start, end in zip(_world(curve, shot, starts[long]), _world(curve, shot, ends[long]), strict=True):
        marker = {
            f"{kind}_{which}": values
            for which, point in (("start", start), ("end", end))
            for kind, values in (
                ("world", {axis: f"{value:.6f}" for axis, value in zip("xyz", point, strict=True)}),
                ("pixel", {axis: str(value) for axis, value in zip("xy", _pixel(matrix, point), strict=True)}),
            )
        }
        if int(marker["pixel_start"]["y"]) > int(marker["pixel_end"]["y"]):
            found.append({"lane_marker_id": "", **marker})
    return found


def _world(curve: Curve, shot: Shot, s: Array) -> Array:
    """Points of a boundary (N, 3) in the camera's axes: right, down, ahead."""
    local = np.stack([np.interp(s, curve.s, axis) for axis in (curve.x, curve.y, curve.z)], axis=1)
    seen = (local - np.array([shot.view.x, shot.view.y, 0.0])) @ shot.view.rotation.astype(np.float64)
    return np.asarray(seen * np.array([1.0, -1.0, 1.0]))


def _pixel(matrix: Array, point: Array) -> tuple[int, int]:
    x, y, depth = matrix @ point
    return round(x / depth), round(y / depth)


def label_clip(clip: Clip, spec: RenderSpec, root: Path) -> None:
    """Write one clip's labels under `root`, without drawing anything; the test split has none in public."""
    if clip.split == "test":
        return
    scene = road_of(clip, spec.difficulty)
    beside = root / clip.folder.replace("color_images", "labels", 1)
    beside.mkdir(parents=True)
    for number, name in enumerate(names(clip)):
        shot = aim(scene, number, width=spec.width, height=spec.height)
        text = json.dumps(label(scene, shot, name), indent=1, allow_nan=False)
        (beside / f"{name}.json").write_text(f"{text}\n", encoding="ascii")


def render_clip(clip: Clip, spec: RenderSpec, root: Path) -> None:
    """Write one clip's images and, but for the test split, which has none in public, its labels under `root`."""
    scene = scene_of(clip, spec.difficulty)
    stage = prepare(scene)
    (root / clip.folder).mkdir(parents=True)
    for number, image in enumerate(images(clip)):
        shot = aim(scene, number, width=spec.width, height=spec.height)
        write_png(root / image, draw(stage, shot))
    label_clip(clip, spec, root)


def finish(splits: list[str], clips: list[Clip], facts: dict[str, None], root: Path) -> None:
    """Write the scenarios of all splits; LLAMAS has no lists."""
    write_json(root / SCENARIOS_FILE, {image: clip.scenario for clip in clips for image in images(clip)})
