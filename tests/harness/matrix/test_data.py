"""What is looked at of a dataset before anything runs: images of two splits, recordings of two, splits that show nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.registry import TABLE, detector_meta
from harness.cli.main import main
from harness.datasets.base import open_dataset
from harness.errors import InputError
from harness.matrix.data import FEWEST_CLIPS, MOST_LANES, DataNeed, Reads, data_needs, examined
from harness.matrix.plan import make_plan
from harness.report.statistics import CLIPS_FOR_AN_INTERVAL
from harness.suite import cells_of, load_suite

SUITE = """
title: Roads
datasets:
  roads: {form: culane, image_size: [36, 64]}
detectors:
  ufldv2_micro:
methods:
  baseline:
"""
CLIPS = 10


@pytest.fixture
def roads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten recordings of one frame a split, which the suite of `needed` knows as `roads`."""
    root = tmp_path / "roads"
    (root / "list").mkdir(parents=True)
    for split in ("train", "val", "test"):
        for clip in range(CLIPS):
            image = root / f"{split}_{clip}/0.jpg"
            image.parent.mkdir()
            assert cv2.imwrite(str(image), np.zeros((36, 64, 3), np.uint8))
            image.with_suffix(".lines.txt").write_text("10 30 20 10\n")
        listed(root, split, *(f"{split}_{clip}/0.jpg" for clip in range(CLIPS)))
    (tmp_path / "roads.yaml").write_text(SUITE)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def listed(root: Path, split: str, *images: str) -> None:
    (root / "list" / f"{split}.txt").write_text("".join(f"{image}\n" for image in images))


def needed(root: Path, more: str = "") -> DataNeed:
    suite = root.parent / "roads.yaml"
    suite.write_text(SUITE + more)
    loaded = load_suite(str(suite))
    (need,) = data_needs(loaded, cells_of(loaded), root.parent / "results")
    return need


def test_sound_data_is_there_and_nothing_is_said_of_it(roads: Path) -> None:
    need = needed(roads)
    assert (need.missing, need.warnings) == (False, ())
    assert need.images == {"train": CLIPS, "test": CLIPS}


def one_list(root: Path) -> None:
    shutil.copy(root / "list/test.txt", root / "list/train.txt")


def link(root: Path) -> None:
    (root / "train_3/0.jpg").unlink()
    (root / "train_3/0.jpg").symlink_to(root / "test_0/0.jpg")


def second_name(root: Path) -> None:
    (root / "train_3/0.jpg").unlink()
    os.link(root / "test_0/0.jpg", root / "train_3/0.jpg")


def linked_folder(root: Path) -> None:
    shutil.rmtree(root / "train_3")
    (root / "train_3").symlink_to(root / "test_0")


@pytest.mark.parametrize(
    ("leak", "count"),
    [
        (one_list, "10 of the 10 images of split test are"),
        *((kind, "this image is") for kind in (link, second_name, linked_folder)),
    ],
)
def test_images_that_are_trained_on_and_scored_are_refused_by_whatever_name(
    roads: Path, leak: Callable[[Path], None], count: str
) -> None:
    leak(roads)
    need = needed(roads)
    assert need.missing
    assert f"test_0/0.jpg: {count} in split train too" in need.detail
    assert "take them off one of the two lists" in need.detail


def test_an_equal_picture_of_another_recording_is_no_leak(roads: Path) -> None:
    """All pictures of this folder are equal, byte by byte."""
    for image in roads.glob("*/0.jpg"):
        os.utime(image, ns=(10**9, 10**9))
    assert not needed(roads).missing


def test_images_that_are_chosen_on_and_scored_are_refused_only_where_something_is_chosen(roads: Path) -> None:
    listed(roads, "val", "val_0/0.jpg", "test_1/0.jpg")
    assert not needed(roads).missing
    need = needed(roads, "training: {confidence: val-best}\n")
    assert need.missing
    assert "test_1/0.jpg: this image is in split val too" in need.detail


@pytest.mark.parametrize(
    ("reads", "pairs"),
    [
        (Reads({"train"}, set(), {"test"}), [("train", "test")]),
        (Reads({"train"}, {"val"}, {"test"}), [("train", "test"), ("train", "val"), ("val", "test")]),
        (Reads({"train"}, {"val"}, {"val"}), [("train", "val")]),
        (Reads({"train"}, set(), {"train", "test"}), [("train", "test")]),
        (Reads(set(), set(), {"val", "test"}), []),
    ],
)
def test_what_is_learnt_from_is_kept_apart_from_what_comes_later(reads: Reads, pairs: list[tuple[str, str]]) -> None:
    assert reads.kept_apart == pairs


def test_recordings_in_both_splits_are_a_warning(roads: Path) -> None:
    for number in range(2):
        image = roads / f"train_{number}/1.jpg"
        shutil.copy(roads / "train_0/0.jpg", image)
        image.with_suffix(".lines.txt").write_text("10 30 20 10\n")
    listed(roads, "test", *(f"test_{clip}/0.jpg" for clip in range(CLIPS)), "train_0/1.jpg", "train_1/1.jpg")
    need = needed(roads)
    assert not need.missing
    (line,) = need.warnings
    assert "roads: frames of 2 recordings (clips) are in both splits train and test, the first is train_0/1.jpg" in line


@pytest.mark.filterwarnings("ignore:.*fewer than two points")
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("text", ["", "10 30\n", "\n"])
def test_a_split_without_a_lane_is_refused(roads: Path, split: str, text: str) -> None:
    for label in roads.glob(f"{split}_*/0.lines.txt"):
        label.write_text(text)
    need = needed(roads)
    assert need.missing
    assert f"no label of split {split} has a lane of two points" in need.detail
    label.write_text("10 30 20 10\n")
    assert not needed(roads).missing


def test_a_test_split_of_too_few_clips_for_an_interval_is_told(roads: Path) -> None:
    assert FEWEST_CLIPS == CLIPS_FOR_AN_INTERVAL
    listed(roads, "test", *(f"test_{clip}/0.jpg" for clip in range(CLIPS - 1)))
    (line,) = needed(roads).warnings
    assert "roads: the images of split test are of 9 clips, and below 10 there is no interval" in line
    listed(roads, "test", "test_0/0.jpg")
    (line,) = needed(roads).warnings
    assert "of one clip" in line


def test_more_lanes_than_detectors_find_are_told_of_splits_that_are_learnt_from_and_scored(roads: Path) -> None:
    lanes = "".join(f"{x} 30 {x + 5} 10\n" for x in (5, 15, 25, 35, 45, 55))
    label = roads / "test_3/0.lines.txt"
    label.write_text(lanes[: lanes.index("45")] + "45 30\n")
    assert needed(roads).warnings == (), "a lane of one point isn't found by anybody"
    label.write_text(lanes)
    (line,) = needed(roads).warnings
    assert line.startswith("roads: 1 of the 10 images of split test have more than 4 lanes, up to 6: ")
    (roads / "train_0/0.lines.txt").write_text(lanes)
    assert [" split train " in line for line in needed(roads).warnings] == [False, True]


def test_as_many_lanes_as_are_told_of_are_what_detectors_are_published_with() -> None:
    for form, most in MOST_LANES.items():
        for name in TABLE:
            configuration = detector_meta(name).configurations.get(form)
            if configuration is not None and "max_lanes" in configuration.architecture:
                assert configuration.architecture["max_lanes"] == most, (name, form)


def test_warnings_are_told_by_plan_and_by_its_json(
    roads: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    listed(roads, "test", "test_0/0.jpg")
    words = ["plan", str(tmp_path / "roads.yaml"), "--results", str(tmp_path / "results")]
    assert main(words) == 0
    assert "warning: roads: the images of split test are of one clip" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert "are of one clip" in capsys.readouterr().out


def bad_label(root: Path) -> None:
    (root / "val_1/0.lines.txt").write_text("1,2,3\n")


def empty_list(root: Path) -> None:
    (root / "list/val.txt").write_text("")


@pytest.mark.parametrize(("fault", "file"), [(bad_label, "val_1/0.lines.txt:1"), (empty_list, "list/val.txt")])
def test_a_fault_in_a_split_that_no_cell_reads_is_told_and_nothing_is_run(
    roads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Callable[[Path], None], file: str
) -> None:
    """Labels of all splits are what a dataset is known by, so that nobody can say where its cells stand."""
    fault(roads)
    suite = load_suite(str(tmp_path / "roads.yaml"))
    assert file in make_plan(suite, tmp_path / "results").problems["roads"]
    words = [str(tmp_path / "roads.yaml"), "--results", str(tmp_path / "results")]
    assert main(["bench", *words]) == 2
    said = capsys.readouterr().err
    assert "nothing was run: data missing: roads: " in said
    assert file in said
    assert main(["plan", *words]) == 0
    assert file in capsys.readouterr().out


def test_private_labels_are_not_asked_for(trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trees.write_llamas(tmp_path / "llamas", {"train": 2, "valid": 2})
    for image in (tmp_path / "llamas/color_images/valid").rglob("*.png"):
        other = Path(str(image).replace("/valid/", "/test/"))
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, other)
    dataset = open_dataset("llamas", tmp_path / "llamas")
    assert not dataset.has_labels("test")
    examined(dataset, Reads({"train"}, set(), {"test"}))


@pytest.mark.parametrize("form", ["tusimple", "llamas"])
def test_odd_images_of_other_forms_are_refused_too(
    trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    getattr(trees, f"write_{form}")(tmp_path / form, {"train": 2, "test" if form == "tusimple" else "valid": 4})
    dataset = open_dataset(form, tmp_path / form)
    reads = Reads({"train"}, set(), {"test" if form == "tusimple" else "val"})
    examined(dataset, reads)
    odd = dataset.frames("train")[1].image
    assert cv2.imwrite(str(odd), np.zeros((360, 640, 3), np.uint8))
    with pytest.raises(InputError, match=f"{odd.name}: 640 x 360 pixels.*1 has 640 x 360, of"):
        examined(dataset, reads)
