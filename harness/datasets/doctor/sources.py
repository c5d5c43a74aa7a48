"""Known sizes of the public datasets, and which archive each part of them comes in."""

from __future__ import annotations

IMAGE_SIZES = {"culane": (590, 1640), "tusimple": (720, 1280), "llamas": (717, 1276)}
"""Form -> (height, width) of the public dataset's images."""

IMAGES = {
    "culane": {"train": 88_880, "val": 9_675, "test": 34_680},
    "tusimple": {"train": 3_268, "val": 358, "test": 2_782},
    "llamas": {"train": 58_269, "val": 20_844, "test": 20_929},
}
"""Form -> split -> images (voldemortX/pytorch-auto-drive, docs/DATASET.md)."""

SCENARIOS = {
    "normal": 9_621,
    "crowd": 8_113,
    "hlight": 486,
    "shadow": 930,
    "noline": 4_067,
    "arrow": 890,
    "curve": 422,
    "cross": 3_122,
    "night": 7_029,
}
"""CULane's test images a scenario: the lengths of its list/test_split files."""

CULANE_PAGE = "https://xingangpan.github.io/projects/CULane.html"
TUSIMPLE_PAGE = "https://github.com/TuSimple/tusimple-benchmark/issues/3"
LLAMAS_PAGE = "https://unsupervised-llamas.com/llamas/"
CURVELANES_PAGE = "https://github.com/SoulmateB/CurveLanes"

CULANE_DRIVERS = {
    "driver_23_30frame": "train and val",
    "driver_161_90frame": "train and val",
    "driver_182_30frame": "train and val",
    "driver_37_30frame": "test",
    "driver_100_30frame": "test",
    "driver_193_90frame": "test",
}
"""CULane's folders of images, each in an archive of its name (+ .tar.gz), and the splits that they serve."""

CULANE_MASKS = "laneseg_label_w16"

TUSIMPLE_DAYS = ("0313-1", "0313-2", "0530", "0531", "0601")
"""TuSimple's folders in clips/."""

LLAMAS_ARCHIVES = {"labels": "labels.zip", "color_images": "color_images.zip"}

ARCHIVE_SUFFIXES = (".tar.gz", ".tar.gzt", ".tgz", ".zip", ".rar", ".tar")
"""How unopened archives end; `.tar.gzt` is a misprint of widespread instructions for CULane's driver_193_90frame.tar.gz."""

RENDER_AGAIN = "render the dataset again, as its rendering.json says: samiro-bench data render"
"""Where what is missing of rendered data comes from."""


def culane_source(folder: str) -> str:
    """Where a missing folder of CULane comes from."""
    if folder in CULANE_DRIVERS:
        return f"unpack {folder}.tar.gz from {CULANE_PAGE} into the root"
    return f"restore the folder {folder}; CULane's own come from {CULANE_PAGE}"
