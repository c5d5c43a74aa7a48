"""Archived labels of every form: laid out again, they are scored to the same counts bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harness.datasets.base import open_dataset
from harness.errors import InputError
from harness.lanes import Lane
from harness.publishing.labels import labels_name, laid_out, pack_labels, stays_inside, unpack_labels
from harness.rendered.dataset import render_dataset
from harness.rendered.spec import RenderSpec
from harness.scoring import SCORINGS

Root = Callable[[ModuleType, Path], Path]


def rendered(trees: ModuleType, folder: Path) -> Path:
    """CULane's form with scenarios, at a size of its own."""
    split = {"frames": 4, "frames_per_clip": 2}
    render_dataset(RenderSpec(seed=3, width=410, height=148, splits={"test": split}), folder / "roads", workers=1)
    return folder / "roads"


def tusimple(trees: ModuleType, folder: Path) -> Path:
    trees.write_tusimple(folder, {"test": 4})
    return folder


def llamas(trees: ModuleType, folder: Path) -> Path:
    trees.write_llamas(folder, {"valid": 4})
    return folder


@pytest.mark.parametrize(
    ("form", "split", "root"), [("culane", "test", rendered), ("tusimple", "test", tusimple), ("llamas", "val", llamas)]
)
def test_labels_from_the_archive_score_as_the_dataset_does(
    trees: ModuleType, tmp_path: Path, form: str, split: str, root: Root
) -> None:
    size = (148, 410) if form == "culane" else None
    dataset = open_dataset(form, root(trees, tmp_path / "data"), name="roads", image_size=size)
    path = tmp_path / labels_name("roads", split, "e" * 64)
    pack_labels(path, dataset, split, "e" * 64)
    first = path.read_bytes()
    pack_labels(path, dataset, split, "e" * 64)
    assert path.read_bytes() == first
    (tmp_path / "again").mkdir()
    again = laid_out(unpack_labels(path), tmp_path / "again")
    assert not list((tmp_path / "again").rglob("*.jpg"))
    frames = dataset.frames(split)
    shifted = [[Lane(lane.points + np.float32([3, 0])) for lane in dataset.lanes(frame)] for frame in frames]
    counted = []
    for number, one in enumerate((dataset, again)):
        place = tmp_path / f"predictions-{number}"
        place.mkdir()
        one.write_predictions(place, one.frames(split), one.archived(one.frames(split), shifted))
        counts, _ = SCORINGS[form].scorer(one, split, place, progress=lambda done: None, workers=1)
        counted.append(counts)
    assert counted[0].labels.sum() > 0
    for field in fields(counted[0]):
        assert np.array_equal(getattr(counted[0], field.name), getattr(counted[1], field.name)), field.name


def test_private_labels_are_not_there_to_be_archived(trees: ModuleType, tmp_path: Path) -> None:
    trees.write_llamas(tmp_path, {"valid": 2, "test": 2})
    with pytest.raises(InputError, match="private"):
        open_dataset("llamas", tmp_path).scored_files("test")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b"])
def test_names_that_could_leave_a_folder_are_known(name: str) -> None:
    assert not stays_inside(name)
    assert stays_inside("driver_0/clip.MP4/00000.lines.txt")
