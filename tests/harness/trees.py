"""Small trees in the forms of TuSimple and LLAMAS: straight lanes drawn with OpenCV, and labels that say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.datasets.tusimple import write_labels
from harness.lanes import Lane

ROWS = list(range(160, 720, 10))
FIRST_TIME = 1492626047222176976
SECOND = 10**9
RECORDINGS = ("images-2014-12-22-12-35-10_mapping_280S_ramps", "images-2014-12-22-13-22-35_mapping_280N_3rd_lane")


def lanes(number: int, size: tuple[int, int]) -> list[Lane]:
    """Four straight lanes towards a vanishing point, a little different in every frame; near to far, left to right."""
    height, width = size
    rng = np.random.default_rng(number)
    vanishing = np.array([0.5 * width + rng.uniform(-60, 60), 0.35 * height])
    shift = rng.uniform(-60, 60)
    bottoms = [np.array([share * width + shift, height - 1]) for share in (0.05, 0.35, 0.65, 0.95)]
    shares = np.linspace(0, 0.9, 10)[:, None]
    return [Lane((bottom + shares * (vanishing - bottom)).astype(np.float32)) for bottom in bottoms]


def picture(path: Path, found: list[Lane], size: tuple[int, int]) -> None:
    """White lanes on grey."""
    image = np.full((*size, 3), 90, np.uint8)
    for lane in found:
        cv2.polylines(image, [np.round(lane.points).astype(np.int32)], False, (255, 255, 255), 12, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_tusimple(root: Path, frames: dict[str, int], size: tuple[int, int] = (720, 1280)) -> None:
    """label_data_*.json, test_label.json and clips/; two frames stand 10 s apart, then come 50 s without any."""
    files = {"train": "label_data_0313.json", "val": "label_data_0531.json", "test": "test_label.json"}
    number = 0
    for split, count in frames.items():
        labelled = []
        for index in range(count):
            time = FIRST_TIME + (number // 2 * 60 + number % 2 * 10) * SECOND
            name = f"clips/{['0530', '0531'][index % 2]}/{time}/20.jpg"
            found = lanes(number, size)
            picture(root / name, found, size)
            labelled.append((name, found, ROWS))
            number += 1
        write_labels(root / files[split], labelled)
    if "train" in frames:
        write_labels(root / "label_data_0601.json", [train_frame(root, number, size)])


def train_frame(root: Path, number: int, size: tuple[int, int]) -> tuple[str, list[Lane], list[int]]:
    """One more training frame, for train has two label files."""
    name, found = f"clips/0601/{number}/20.jpg", lanes(number, size)
    picture(root / name, found, size)
    return name, found, ROWS


def write_llamas(root: Path, frames: dict[str, int], size: tuple[int, int] = (717, 1276)) -> None:
    """labels/ and color_images/ of train, valid and test (images alone), in two recordings."""
    number = 0
    for split, count in frames.items():
        for index in range(count):
            name = f"{RECORDINGS[2 * index // count]}/14192872{index:02d}_0942030000"
            found = lanes(number, size)
            picture(root / f"color_images/{split}/{name}_color_rect.png", found, size)
            if split != "test":
                path = root / f"labels/{split}/{name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(llamas_label(name, found)))
            number += 1


def llamas_label(name: str, found: list[Lane]) -> dict[str, Any]:
    """Dashes of 20 rows every 40 rows along each lane; values are texts, as in the real labels."""
    named = zip(("l1", "l0", "r0", "r1"), found, strict=True)
    return {
        "image_name": name.rpartition("/")[2],
        "projection_matrix": np.eye(3).tolist(),
        "lanes": [{"lane_id": lane_id, "markers": markers(lane)} for lane_id, lane in named],
    }


def markers(lane: Lane) -> list[dict[str, Any]]:
    """The dashes of one lane, from near to far."""
    near, far = lane.points[0].astype(float), lane.points[-1].astype(float)
    dashes = []
    for index, y in enumerate(range(700, 330, -40)):
        ends = {}
        for end, row in (("start", y), ("end", y - 20)):
            x = near[0] + (far[0] - near[0]) * (row - near[1]) / (far[1] - near[1])
            ends[f"pixel_{end}"] = {"x": str(round(x)), "y": str(row)}
            ends[f"world_{end}"] = {"x": "0.0", "y": "1.5", "z": str(4.0 + 4 * index + (3 if end == "end" else 0))}
        dashes.append({"lane_marker_id": str(index), **ends})
    return dashes
