"""Rendered data in the forms of TuSimple and LLAMAS, through the readers and metrics that real data goes through."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.datasets.base import open_dataset
from harness.datasets.llamas import LLAMAS
from harness.datasets.tusimple import TuSimple
from harness.metrics.llamas_labels import read_label
from harness.rendered import tusimple_form
from harness.rendered.dataset import plan_clips, render_dataset
from harness.rendered.sheet import chosen_frames, write_rendered_sheet
from harness.rendered.spec import RenderSpec, SplitSpec, dataset_key

TUSIMPLE = RenderSpec(
    form="tusimple",
    seed=3,
    splits={"train": SplitSpec(frames=3), "val": SplitSpec(frames=1), "test": SplitSpec(frames=5)},
)
LLAMAS_SPEC = RenderSpec(
    form="llamas",
    seed=3,
    splits={
        "train": SplitSpec(frames=2, frames_per_clip=1, scenarios={"curve": 1.0}),
        "val": SplitSpec(frames=4, frames_per_clip=2),
        "test": SplitSpec(frames=1),
    },
)


@pytest.fixture(scope="module")
def tusimple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tusimple") / "data"
    render_dataset(TUSIMPLE, root, workers=1)
    return root


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("llamas") / "data"
    render_dataset(LLAMAS_SPEC, root, workers=1)
    return root


def test_tusimple_has_the_splits_frames_and_scenarios_that_were_asked_for(tusimple: Path) -> None:
    dataset = open_dataset("tusimple", tusimple)
    assert {split: len(dataset.frames(split)) for split in dataset.splits()} == {"train": 3, "val": 1, "test": 5}
    assert dataset.image_size == (720, 1280)
    assert dataset.content_key() == dataset_key(TUSIMPLE)
    assert {frame.scenario for frame in dataset.frames("test")} == {"normal", "crowd", "hlight", "shadow", "curve"}
    clips = [frame.clip for split in dataset.splits() for frame in dataset.frames(split)]
    assert len(set(clips)) == 9
    for split in dataset.splits():
        for frame in dataset.frames(split):
            assert cv2.imread(str(frame.image)).shape == (720, 1280, 3)


def test_tusimple_lines_are_like_the_real_ones(tusimple: Path) -> None:
    for file in ("label_data_0313.json", "label_data_0601.json", "label_data_0531.json", "test_label.json"):
        for line in (tusimple / file).read_text().splitlines():
            entry = json.loads(line)
            assert set(entry) == {"raw_file", "lanes", "h_samples"}
            assert entry["raw_file"].startswith("clips/")
            assert entry["raw_file"].endswith("/20.jpg")
            assert entry["h_samples"] == list(range(160, 720, 10))
            assert 2 <= len(entry["lanes"]) <= 5
            for lane in entry["lanes"]:
                assert len(lane) == 56
                assert all(type(x) is int and (x == -2 or 0 <= x < 1280) for x in lane)
                there = np.flatnonzero(np.array(lane) >= 0)
                assert len(there) >= 3
                assert np.all(np.diff(there) == 1)


def test_tusimple_lanes_lie_from_left_to_right(tusimple: Path) -> None:
    dataset = TuSimple(tusimple)
    for frame in dataset.frames("test"):
        for one, other in pairwise(dataset.lanes(frame)):
            shared, mine, its = np.intersect1d(one.points[:, 1], other.points[:, 1], return_indices=True)
            assert len(shared)
            assert np.all(one.points[mine, 0] < other.points[its, 0])


def test_tusimple_labels_without_pixels_are_those_that_are_written(tusimple: Path) -> None:
    dataset = TuSimple(tusimple)
    frames = {frame.id: frame for split in dataset.splits() for frame in dataset.frames(split)}
    for clip in plan_clips(TUSIMPLE):
        written = dataset.lanes(frames[tusimple_form.labelled_image(clip)])
        for one, other in zip(tusimple_form.clip_labels(clip, TUSIMPLE), written, strict=True):
            np.testing.assert_array_equal(one.points, other.points)


def test_the_nineteen_frames_before_are_there_if_asked_for_and_change_nothing_else(tmp_path: Path) -> None:
    one = {"val": SplitSpec(frames=1)}
    brief = RenderSpec(form="tusimple", seed=9, splits=one)
    whole = RenderSpec(form="tusimple", seed=9, splits=one, unlabelled_frames=True)
    render_dataset(brief, tmp_path / "brief", workers=1)
    render_dataset(whole, tmp_path / "whole", workers=1)
    pictures = {name: sorted((tmp_path / name).rglob("*.jpg")) for name in ("brief", "whole")}
    assert [path.name for path in pictures["brief"]] == ["20.jpg"]
    assert {path.name for path in pictures["whole"]} == {f"{number}.jpg" for number in range(1, 21)}
    last = next(path for path in pictures["whole"] if path.name == "20.jpg")
    assert last.read_bytes() == pictures["brief"][0].read_bytes()
    labels = [(tmp_path / name / "label_data_0531.json").read_bytes() for name in ("brief", "whole")]
    assert labels[0] == labels[1]
    assert dataset_key(brief) != dataset_key(whole)
    before = next(path for path in pictures["whole"] if path.name == "19.jpg")
    assert hashlib.sha256(before.read_bytes()).digest() != hashlib.sha256(last.read_bytes()).digest()


def test_llamas_has_the_splits_that_were_asked_for_and_no_test_labels(llamas: Path) -> None:
    dataset = open_dataset("llamas", llamas)
    assert {split: len(dataset.frames(split)) for split in dataset.splits()} == {"train": 2, "val": 4, "test": 1}
    assert not dataset.has_labels("test")
    assert dataset.content_key() == dataset_key(LLAMAS_SPEC)
    assert [frame.scenario for frame in dataset.frames("train")] == ["curve", "curve"]
    assert len({frame.clip for frame in dataset.frames("val")}) == 2
    for frame in dataset.frames("val"):
        assert frame.image.name.endswith("_color_rect.png")
        assert cv2.imread(str(frame.image)).shape == (717, 1276, 3)


def markers(label: dict[str, Any]) -> list[dict[str, Any]]:
    return [marker for lane in label["lanes"] for marker in lane["markers"]]


def test_llamas_markers_are_the_projections_of_their_world_coordinates(llamas: Path) -> None:
    count = 0
    for path in sorted((llamas / "labels").rglob("*.json")):
        label = json.loads(path.read_text())
        assert label["image_name"] == path.stem
        matrix = np.array(label["projection_matrix"])
        for marker in markers(label):
            for end in ("start", "end"):
                world, pixel = marker[f"world_{end}"], marker[f"pixel_{end}"]
                assert all(type(value) is str for value in (*world.values(), *pixel.values()))
                x, y, depth = matrix @ [float(world[axis]) for axis in "xyz"]
                # Half a pixel of rounding, and the sixth decimal of the world.
                assert abs(x / depth - int(pixel["x"])) < 0.501
                assert abs(y / depth - int(pixel["y"])) < 0.501
                assert 0 <= int(pixel["x"]) <= 1275
                assert 0 <= int(pixel["y"]) <= 716
                count += 1
    assert count > 100


def test_llamas_markers_are_dashes_of_ten_feet_every_forty_or_a_chain_of_them(llamas: Path) -> None:
    kinds = set()
    for path in (llamas / "labels").rglob("*.json"):
        for lane in json.loads(path.read_text())["lanes"]:
            ends = {
                end: np.array([[float(m[f"world_{end}"][axis]) for axis in "xyz"] for m in lane["markers"]])
                for end in ("start", "end")
            }
            lengths = np.linalg.norm(ends["end"] - ends["start"], axis=1)
            gaps = np.linalg.norm(ends["start"][1:] - ends["end"][:-1], axis=1)
            assert np.all(ends["end"][:, 2] > ends["start"][:, 2])
            # Those at the image's edge and at the end of the label are cut; those less than a row high are left out.
            # Lengths are those on the road's centre line: on the inside of a curve they are less.
            np.testing.assert_allclose(lengths[1:-1], 3.05, rtol=0.04)
            dashed = gaps.min() > 1.0
            missing = (gaps - 9.15) / 12.2 if dashed else gaps / 3.05
            np.testing.assert_allclose(missing[:-1], np.round(missing[:-1]), atol=0.05)
            assert np.mean(np.abs(missing) < 0.5) > 0.5
            kinds.add(dashed)
    assert kinds == {True, False}


def test_llamas_lanes_are_what_the_official_rules_make_of_the_markers(llamas: Path) -> None:
    dataset = LLAMAS(llamas)
    for frame in dataset.frames("val"):
        label = llamas / dataset.label_name(frame)
        names = [lane["lane_id"] for lane in json.loads(label.read_text())["lanes"]]
        assert {"l0", "r0"} <= set(names) <= {"l1", "l0", "r0", "r1"}
        scored = read_label(label)
        lanes = dataset.lanes(frame)
        assert len(scored) == len(lanes) == len(names)
        for one, other in pairwise(lanes):
            shared, mine, its = np.intersect1d(one.points[:, 1], other.points[:, 1], return_indices=True)
            assert len(shared)
            assert np.all(one.points[mine, 0] < other.points[its, 0])


@pytest.mark.parametrize("form", ["tusimple", "llamas"])
def test_a_sheet_shows_every_scenario(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(form)
    spec = {"tusimple": TUSIMPLE, "llamas": LLAMAS_SPEC}[form]
    dataset = open_dataset(form, root)
    frames = chosen_frames(dataset)
    labelled = [frame for split in dataset.splits() if dataset.has_labels(split) for frame in dataset.frames(split)]
    assert {frame.scenario for frame in frames} == {frame.scenario for frame in labelled}
    assert len({frame.clip for frame in frames}) == len(frames)
    write_rendered_sheet(tmp_path / "sheet.jpg", root, spec)
    rows = -(-len(frames) // 3)
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet.shape == (360 * rows, 1920, 3)
    plain = cv2.resize(cv2.imread(str(frames[0].image)), (640, 360), interpolation=cv2.INTER_AREA)
    # Below the caption nothing but the labels differs, and they do.
    differs = np.abs(sheet[40:360, :640].astype(int) - plain[40:360]).max(axis=2) > 60
    assert 0.001 < differs.mean() < 0.1


def test_the_days_of_training_clips_fill_both_label_files() -> None:
    days = [tusimple_form.day("train", number) for number in range(360)]
    assert days[:2] == ["0313", "0601"]
    assert days.count("0601") == 45
