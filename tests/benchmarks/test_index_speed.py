"""How long it takes to index a dataset's labels, cold and cached, on generated trees of any size.

`LABELS=133235 pytest ...` builds a tree of CULane's own size (its three lists in its own proportions; no images) and `LLAMAS_LABELS`
a tree of marker files. Cold means that the label files were put out of the page cache first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.base import Dataset, open_dataset

LABELS = int(os.environ.get("LABELS", "6000"))
LLAMAS_LABELS = int(os.environ.get("LLAMAS_LABELS", "150"))
CULANE_SIZES = {"train": 88_880, "val": 9_675, "test": 34_680}
FRAMES_PER_CLIP = 90
TEXTS = 2000


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lane_texts(count: int) -> list[bytes]:
    """Texts like CULane's own: up to four lanes, a point every ten rows from the bottom up, six digits."""
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(count):
        rows = []
        for _ in range(generator.integers(0, 5)):
            y = np.arange(590, 10 * generator.integers(25, 42) - 1, -10)
            near, slope, bend = generator.uniform((-100, -4, -0.004), (1700, 4, 0.004))
            x = near + slope * (590 - y) + bend * (590 - y) ** 2
            rows.append(" ".join(f"{a:.6g} {b}" for a, b in zip(x, y, strict=True)) + " \n")
        texts.append("".join(rows).encode())
    return texts


def culane_tree(root: Path, labels: int) -> Path:
    """A tree of label files and lists in CULane's proportions."""
    texts = lane_texts(TEXTS)
    (root / "list").mkdir(parents=True)
    number = 0
    for split, size in CULANE_SIZES.items():
        names = []
        for _ in range(round(labels * size / sum(CULANE_SIZES.values()))):
            clip = f"driver_{number // FRAMES_PER_CLIP // 300}_30frame/{number // FRAMES_PER_CLIP:06d}.MP4"
            if number % FRAMES_PER_CLIP == 0 or not names:
                (root / clip).mkdir(parents=True, exist_ok=True)
            names.append(f"/{clip}/{30 * (number % FRAMES_PER_CLIP):05d}")
            (root / f"{names[-1][1:]}.lines.txt").write_bytes(texts[number % TEXTS])
            number += 1
        (root / f"list/{split}.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    return root


def marker_text(generator: np.random.Generator, markers: int) -> str:
    """A label of four dashed lanes on a flat road, as many markers a lane as asked for; about 300 bytes a marker."""
    lanes = []
    for lane, offset in (("l1", -5.4), ("l0", -1.8), ("r0", 1.8), ("r1", 5.4)):
        shift = offset + generator.uniform(-0.3, 0.3)
        found = []
        for number, z in enumerate(np.geomspace(6, 150, markers)):
            ends = [(638 + 997 * shift / depth, 317 + 1500 / depth, depth) for depth in (z, z * 1.02)]
            marker = {"lane_marker_id": f"{lane}_{number}"}
            for key, (x, y, depth) in zip(("start", "end"), ends, strict=True):
                marker[f"pixel_{key}"] = {"x": str(round(x)), "y": str(min(716, round(y)))}
                marker[f"world_{key}"] = {"x": f"{shift:.6f}", "y": "1.500000", "z": f"{depth:.6f}"}
            found.append(marker)
        lanes.append({"lane_id": lane, "markers": found})
    return json.dumps(
        {"image_name": "x", "projection_matrix": [[997, 0, 638], [0, 997, 358], [0, 0, 1]], "lanes": lanes}
    )


def llamas_tree(root: Path, labels: int, markers: int = 80) -> Path:
    """A tree of marker files of about 100 kB, as LLAMAS has."""
    generator = np.random.default_rng(0)
    texts = [marker_text(generator, markers) for _ in range(20)]
    for number in range(labels):
        clip = root / "labels/train" / f"images-{number // 1000}"
        clip.mkdir(parents=True, exist_ok=True)
        (clip / f"{number:07d}.json").write_text(texts[number % len(texts)])
    return root


def forget(root: Path) -> None:
    """Put the files of a tree out of the page cache, so that reading them reads the disk."""
    os.sync()
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@pytest.fixture(scope="module")
def culane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return culane_tree(tmp_path_factory.mktemp("culane") / "tree", LABELS)


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llamas_tree(tmp_path_factory.mktemp("llamas") / "tree", LLAMAS_LABELS)


def index_all(form: str, root: Path, *, rehash: bool = False) -> Dataset:
    dataset = open_dataset(form, root, rehash=rehash)
    for split in dataset.splits():
        dataset.labels(split)
    return dataset


def test_culane_cold(benchmark, culane: Path) -> None:
    benchmark.extra_info["labels"] = LABELS
    benchmark.pedantic(lambda: index_all("culane", culane, rehash=True), setup=lambda: forget(culane), rounds=1)


def test_culane_cached(benchmark, culane: Path) -> None:
    benchmark.extra_info["labels"] = LABELS
    index_all("culane", culane)
    benchmark.pedantic(lambda: index_all("culane", culane), rounds=3)


def test_llamas_cold(benchmark, llamas: Path) -> None:
    benchmark.extra_info["labels"] = LLAMAS_LABELS
    benchmark.pedantic(lambda: index_all("llamas", llamas, rehash=True), setup=lambda: forget(llamas), rounds=1)
