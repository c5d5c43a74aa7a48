"""Small datasets that the doctor's tests look at, and what they do to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.doctor.examine import examine

CLIP, VAL_CLIP, TEST_CLIP, NIGHT_CLIP = "roads/0001", "roads/0002", "roads/0003", "roads/0004"
NAMES = tuple(f"{clip}/{number:05d}" for number, clip in enumerate((CLIP, CLIP, CLIP, VAL_CLIP, TEST_CLIP, NIGHT_CLIP)))
"""The six images of the tree in CULane's layout, without their ending."""
WIDTH, HEIGHT = 320, 160
LABEL = "40 159 60 120 80 90\n280 159 250 120 220 90\n"


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """An image that is unlike those of other names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), 90, np.uint8)
    image[:8] = np.random.default_rng([*str(path).encode()]).integers(0, 255, (8, size[1], 3), np.uint8)
    cv2.imwrite(str(path), image)


def line(name: str, lanes: list[list[int]], rows: list[int]) -> str:
    return json.dumps({"raw_file": name, "lanes": lanes, "h_samples": rows}) + "\n"


def marker_label() -> str:
    markers = [
        {
            "lane_marker_id": str(number),
            "pixel_start": {"x": str(600 - 4 * y), "y": str(700 - 40 * y)},
            "pixel_end": {"x": str(600 - 4 * y - 1), "y": str(690 - 40 * y)},
            "world_start": {"x": "1", "y": "1", "z": str(5 + y)},
            "world_end": {"x": "1", "y": "1", "z": str(6 + y)},
        }
        for number, y in enumerate(range(8))
    ]
    return json.dumps({"image_name": "x", "projection_matrix": [], "lanes": [{"lane_id": "l0", "markers": markers}]})


def kinds(root: Path, **options) -> list[tuple[str, str]]:
    return [(finding.severity, finding.kind) for finding in examine(root, **options).findings]


def findings(root: Path, kind: str) -> list[tuple[str, str, str, str]]:
    return [(one.severity, one.file, one.what, one.fix) for one in examine(root).findings if one.kind == kind]


def rendered(root: Path, height: int, width: int, **splits: int) -> Path:
    spec = {"height": height, "width": width, "splits": {name: {"frames": count} for name, count in splits.items()}}
    (root / "rendering.json").write_text(json.dumps({"dataset_key": "k", "spec": spec}))
    return root


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def first_label(text: str) -> Callable[[Path], None]:
    return edit(f"{CLIP}/00000.lines.txt", lambda _: text)


def in_lists(change: Callable[[str], str]) -> Callable[[Path], None]:
    """Call the images otherwise in all lists."""

    def inflict(root: Path) -> None:
        for path in (root / "list").rglob("*.txt"):
            path.write_text("".join(change(name.lstrip("/")) + "\n" for name in path.read_text().splitlines()))

    return inflict


def empty_train(root: Path) -> None:
    for number in (0, 1):
        (root / f"{CLIP}/{number:05d}.lines.txt").write_text("")
