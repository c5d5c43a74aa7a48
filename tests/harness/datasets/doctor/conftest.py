from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets.doctor import sources
from tests.harness.datasets.doctor.trees import (
    HEIGHT,
    LABEL,
    NAMES,
    WIDTH,
    line,
    marker_label,
    write_image,
)


@pytest.fixture
def culane(tmp_path: Path) -> Path:
    """Six images in CULane's layout: three of a clip to train, one val, two test of a clip and a scenario each."""
    root = tmp_path / "culane"
    (root / "list/test_split").mkdir(parents=True)
    for name in NAMES:
        write_image(root / f"{name}.jpg")
        (root / f"{name}.lines.txt").write_text(LABEL)
    for split, chosen in {"train": NAMES[:3], "val": NAMES[3:4], "test": NAMES[4:]}.items():
        (root / f"list/{split}.txt").write_text("".join(f"/{name}.jpg\n" for name in chosen))
    (root / "list/test_split/test0_normal.txt").write_text(f"{NAMES[4]}.jpg\n")
    (root / "list/test_split/test8_night.txt").write_text(f"{NAMES[5]}.jpg\n")
    return root


@pytest.fixture
def tusimple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One clip a label file, all in one folder."""
    monkeypatch.setitem(sources.IMAGES, "tusimple", {"train": 2, "val": 1, "test": 1})
    monkeypatch.setitem(sources.IMAGE_SIZES, "tusimple", (HEIGHT, WIDTH))
    root = tmp_path / "tusimple"
    days = {
        "label_data_0313": "0313-1",
        "label_data_0601": "0601",
        "label_data_0531": "0531",
        "test_label": "0530",
    }
    for file, day in days.items():
        name = f"clips/{day}/60/20.jpg"
        write_image(root / name)
        (root / f"{file}.json").write_text(line(name, [[90, 60, 40], [-2, 250, 290]], [80, 120, 158]))
    return root


@pytest.fixture
def llamas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two training frames, one val, one test without a label, as it should be."""
    monkeypatch.setitem(sources.IMAGES, "llamas", {"train": 2, "val": 1, "test": 1})
    root = tmp_path / "llamas"
    for split, numbers in {"train": (1, 2), "valid": (3,), "test": (4,)}.items():
        for number in numbers:
            write_image(root / f"color_images/{split}/images-1/{number}_color_rect.png", (717, 1276))
            if split != "test":
                (root / f"labels/{split}/images-1").mkdir(parents=True, exist_ok=True)
                (root / f"labels/{split}/images-1/{number}.json").write_text(marker_label())
    return root
