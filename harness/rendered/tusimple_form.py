"""The TuSimple form: clips of 20 frames of which the 20th is labelled, and label files of JSON lines.

Camera, road and labels are calibrated on the real labels (docs/rendered.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.datasets.rendering import SCENARIOS_FILE
from harness.datasets.tusimple import write_labels
from harness.files.stored import write_json
from harness.lanes import Lane
from harness.rendered.clip import Clip
from harness.rendered.frame import Shot, aim, draw, labelled_curves, prepare
from harness.rendered.highway import Recording, sample_highway, sample_road
from harness.rendered.pictures import write_jpeg
from harness.rendered.scene import Scene
from harness.rendered.spec import RenderSpec

CLIP_FRAMES = 20
ROWS = tuple(range(160, 720, 10))
"""The h_samples of the test labels."""
FEWEST_ROWS = 3

RECORDING = Recording(
    horizon=(238 / 720 - 0.36, 8.5 / 720),
    focal=(0.74, 0.86),
    height=(1.634, 0.012),
    offset=(-0.11, 0.04),
    place=(0.0, 0.32),
    yaw=(-0.015, 0.017),
    distortion=0.03,
    reach=(138.0, 0.5),
    fallen_short=0.55,
    frame_seconds=0.05,
    bend=1 / 5000,
    curve_radius=(140.0, 700.0),
    curved=0.14,
)

LABELLED: dict[str, dict[int, float]] = {
    "train": {3: 0.11, 4: 0.82, 5: 0.07},
    "val": {3: 0.11, 4: 0.82, 5: 0.07},
    "test": {3: 0.63, 4: 0.17, 5: 0.20},
}
"""Shares of the number of lanes a frame in the real labels, by split; 0.2 % of the real test frames have two."""

LABEL_FILES = {
    "0313": "label_data_0313.json",
    "0601": "label_data_0601.json",
    "0531": "label_data_0531.json",
    "test": "test_label.json",
}
"""By day of recording; test frames of any day are in one file."""


def day(split: str, number: int) -> str:
    """The key of `LABEL_FILES` under which a clip is labelled: of the real training frames about one in eight is of 0601."""
    return {"train": "0601" if number % 8 == 1 else "0313", "val": "0531", "test": "test"}[split]


def folder(split: str, number: int, digest: str) -> str:
    """Where a clip lies."""
    return f"clips/{'0530' if split == 'test' else day(split, number)}/{number:04d}_{digest[:4]}"


def labelled_image(clip: Clip) -> str:
    """The one image of a clip that is labelled, relative to the root."""
    return f"{clip.folder}/{CLIP_FRAMES}.jpg"


def scene_of(clip: Clip, difficulty: float) -> Scene:
    """The world of a clip."""
    return sample_highway(RECORDING, LABELLED[clip.split], clip.scenario, difficulty, clip.seed, CLIP_FRAMES)


def road_of(clip: Clip, difficulty: float) -> Scene:
    """The world of a clip without what stands behind its roadside, which is as much as labels take."""
    return sample_road(RECORDING, LABELLED[clip.split], clip.scenario, difficulty, clip.seed, CLIP_FRAMES)[0]


def labels(scene: Scene, shot: Shot) -> list[Lane]:
    """The lanes from left to right at `ROWS`, in whole pixels like the real labels, kept behind vehicles."""
    lanes = []
    rows = np.array(ROWS[::-1], np.float64)
    for _, curve in labelled_curves(scene, shot):
        there = rows[(rows <= curve.row[0]) & (rows >= curve.row[-1])]
        columns = np.round(np.interp(-there, -curve.row, curve.column))
        outside = np.flatnonzero((columns < 0) | (columns > shot.width - 1))
        # The longest stretch within the image: no label has a hole.
        ends = np.concatenate([[-1], outside, [len(there)]])
        longest = int(np.argmax(np.diff(ends)))
        seen = slice(int(ends[longest]) + 1, int(ends[longest + 1]))
        if seen.stop - seen.start >= FEWEST_ROWS:
            lanes.append(Lane(np.stack([columns[seen], there[seen]], axis=1).astype(np.float32)))
    return lanes


def clip_labels(clip: Clip, spec: RenderSpec) -> list[Lane]:
    """The labels of a clip's last frame, without drawing anything."""
    scene = road_of(clip, spec.difficulty)
    return labels(scene, aim(scene, CLIP_FRAMES - 1, width=spec.width, height=spec.height))


def label_clip(clip: Clip, spec: RenderSpec, root: Path) -> list[Lane]:
    """The labels of a clip; `finish` writes them."""
    return clip_labels(clip, spec)


def render_clip(clip: Clip, spec: RenderSpec, root: Path) -> list[Lane]:
    """Write a clip's last frame under `root`, and those before it if they are asked for; returns the labels."""
    scene = scene_of(clip, spec.difficulty)
    stage = prepare(scene)
    (root / clip.folder).mkdir(parents=True)
    for number in range(0 if spec.unlabelled_frames else CLIP_FRAMES - 1, CLIP_FRAMES):
        shot = aim(scene, number, width=spec.width, height=spec.height)
        write_jpeg(root / clip.folder / f"{number + 1}.jpg", draw(stage, shot))
    return labels(scene, shot)


def finish(splits: list[str], clips: list[Clip], lanes: dict[str, list[Lane]], root: Path) -> None:
    """Write the label files, from the labels of each clip's folder, and the scenarios, which are those of all splits."""
    for name, file in LABEL_FILES.items():
        mine = [clip for clip in clips if clip.split in splits and day(clip.split, clip.number) == name]
        if mine:
            write_labels(root / file, [(labelled_image(clip), lanes[clip.folder], ROWS) for clip in mine])
    write_json(root / SCENARIOS_FILE, {labelled_image(clip): clip.scenario for clip in clips})
