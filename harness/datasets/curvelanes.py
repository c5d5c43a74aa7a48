"""CurveLanes as it unpacks: read, to be converted into a form that is trained on and scored.

Format: https://github.com/SoulmateB/CurveLanes. Images are of several sizes; the labels of the test part aren't public.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.datasets.base import Frame, read_bytes
from harness.datasets.culane import read_list
from harness.datasets.index import LabelIndex, index_of
from harness.datasets.lines import COORDINATE_LIMIT
from harness.errors import InputError
from harness.lanes import Points

SPLITS = {"train": "train", "val": "valid"}
"""Split -> its folder, with a list <folder>.txt, images/ and labels/<name>.lines.json."""


def read_lanes(path: str) -> list[Points]:
    """The lanes of a label file as (N, 2) points in its order. Raises InputError with the file and lane on damage."""
    try:
        lanes = json.loads(read_bytes(path))["Lines"]
        found = []
        for number, lane in enumerate(lanes, start=1):
            points = np.array([(float(point["x"]), float(point["y"])) for point in lane]).reshape(-1, 2)
            if not (np.abs(points) <= COORDINATE_LIMIT).all():
                raise ValueError(f"lane {number} has a point further out than any image")
            found.append(points.astype(np.float32))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path}: not lanes of CurveLanes ({reason}); restore it from the dataset's source") from None
    return found


class CurveLanes:
    """The training and validation parts of CurveLanes."""

    form = "curvelanes"

    def __init__(self, root: Path) -> None:
        """Open the folder; InputError if it has neither part."""
        self.root = root.resolve()
        self._frames: dict[str, tuple[Frame, ...]] = {}
        if not self.splits():
            raise InputError(
                f"{self.root} isn't CurveLanes: no train/train.txt or valid/valid.txt; name the folder of both"
            )

    def splits(self) -> tuple[str, ...]:
        """The parts that have a list."""
        return tuple(split for split, part in SPLITS.items() if (self.root / part / f"{part}.txt").is_file())

    def has_labels(self, split: str) -> bool:
        """Always: the test part isn't read."""
        return True

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The images of a split in the order of its list, of which only the file names count. Raises InputError as `read_list`."""
        if split not in self._frames:
            part = SPLITS[split]
            names = [name.rpartition("/")[2] for name in read_list(self.root / part / f"{part}.txt")]
            # Which images are of one recording isn't known: each is a clip by itself, and a clip is a folder in CULane's layout.
            self._frames[split] = tuple(
                Frame(f"{part}/{Path(name).stem}/{name}", self.root / part / "images" / name, None, name)
                for name in names
            )
        return self._frames[split]

    def labels(self, split: str) -> LabelIndex:
        """All labels of a split, one row a frame."""
        folder = self.root / SPLITS[split] / "labels"
        names = [frame.image.stem for frame in self.frames(split)]
        return index_of(read_lanes(f"{folder}/{name}.lines.json") for name in names)
