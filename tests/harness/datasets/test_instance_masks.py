from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from harness.datasets.culane import CULane
from harness.datasets.images import read_image
from harness.datasets.instance_masks import find_masks, mask_lanes, write_culane_labels
from harness.errors import InputError
from harness.lanes import Part

SIZE = (360, 640)


def two_lanes() -> np.ndarray:
    """Value 20: x = 100 + y / 2 on rows 40 to 359; value 70: column 500 on rows 200 to 359; both 5 px wide."""
    mask = np.zeros(SIZE, np.uint8)
    for row in range(40, 360):
        mask[row, 100 + row // 2 - 2 : 100 + row // 2 + 3] = 20
    mask[200:, 498:503] = 70
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two images with masks, a binary mask beside, and an image without any."""
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    for name in ("a", "b", "alone"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), cv2.GaussianBlur(noise, (0, 0), 5))
    cv2.imwrite(str(tmp_path / "gt_instance_a.png"), two_lanes())
    cv2.imwrite(str(tmp_path / "gt_instance_b.png"), np.zeros(SIZE, np.uint8))
    cv2.imwrite(str(tmp_path / "gt_binary_a.png"), 255 * (two_lanes() > 0).astype(np.uint8))
    return tmp_path


def test_a_lane_is_the_mean_column_of_a_value_on_every_eighth_row():
    first, second = mask_lanes(two_lanes())
    assert first.points[:, 1].tolist() == list(range(352, 39, -8))
    assert first.points[:, 0].tolist() == [100 + row // 2 for row in range(352, 39, -8)]
    assert second.points.tolist() == [[500.0, row] for row in range(352, 199, -8)]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_values_of_a_single_row_are_no_lane_and_empty_masks_have_none(kind):
    mask = np.zeros((40, 60), kind)
    assert mask_lanes(mask) == []
    mask[8, 10:14] = 3
    assert mask_lanes(mask) == []


def test_what_is_no_mask_of_instances_is_refused():
    with pytest.raises(ValueError, match="value 1 marks several places in most of its rows"):
        mask_lanes((two_lanes() > 0).astype(np.uint8) * (np.arange(360) >= 200)[:, None].astype(np.uint8))
    with pytest.raises(ValueError, match="255 values, more than a road has lanes"):
        mask_lanes(np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8))


def test_twenty_values_are_lanes_and_one_in_two_places_of_half_its_rows_too():
    mask = np.zeros((80, 100), np.uint8)
    mask[:, ::5] = np.arange(1, 21)
    assert len(mask_lanes(mask)) == 20
    # As where a value reaches the left border and is seen beside it.
    twice = np.zeros((80, 100), np.uint8)
    twice[:, :3] = twice[:40, 50:53] = 1
    assert len(mask_lanes(twice)) == 1
    twice[40, 50:53] = 1
    with pytest.raises(ValueError, match="several places in most of its rows"):
        mask_lanes(twice)


def test_what_is_written_is_a_dataset_of_stretched_images_and_labels(folder, tmp_path):
    written = write_culane_labels(find_masks(folder), tmp_path / "out")
    dataset = CULane(tmp_path / "out")
    assert dataset.image_size == (590, 1640)
    first, second = dataset.frames("test")
    assert (first.id, second.id) == ("images/a.png", "images/b.png")
    assert [len(lanes) for lanes in written] == [2, 0]
    assert dataset.lanes(second) == []
    found = dataset.lanes(first)
    for lane, expected in zip(found, mask_lanes(two_lanes()), strict=True):
        x, y = (expected.points + 0.5).T
        scaled = np.stack([x * 1640 / 640, y * 590 / 360], axis=1) - 0.5
        assert lane.points == pytest.approx(scaled, abs=1 / 16)
    shown, original = read_image(first.image), read_image(folder / "a.png")
    back = cv2.resize(shown, SIZE[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - original).mean() < 3


def test_a_part_is_cut_out_of_image_and_mask_alike(folder, tmp_path):
    write_culane_labels(find_masks(folder)[:1], tmp_path / "out", size=(200, 300), part=Part(300, 200, 80, 100))
    dataset = CULane(tmp_path / "out")
    (frame,) = dataset.frames("test")
    assert np.array_equal(read_image(frame.image), read_image(folder / "a.png")[100:300, 80:380])
    (lane,) = dataset.lanes(frame)
    assert lane.points.tolist() == [[20 + (row + 100) // 2, row] for row in range(192, -1, -8)]


def test_masks_are_found_where_the_pattern_says(folder):
    assert [image.name for image, _ in find_masks(folder)] == ["a.png", "b.png"]
    (folder / "masks").mkdir()
    (folder / "gt_instance_a.png").rename(folder / "masks" / "a.png")
    ((image, mask),) = find_masks(folder, "masks/{name}.png")
    assert (image.name, mask) == ("a.png", folder / "masks" / "a.png")


def test_bad_input_is_named_and_leaves_nothing_behind(folder, tmp_path):
    out = tmp_path / "sub" / "out"
    with pytest.raises(InputError, match=r"no image here has a mask called x_\{name\}\.png"):
        find_masks(folder, "x_{name}.png")
    with pytest.raises(InputError, match=r"has no \{name\}"):
        find_masks(folder, "mask.png")
    with pytest.raises(InputError, match="no such folder"):
        find_masks(folder / "nowhere")
    with pytest.raises(InputError, match=r"a\.png: 640x360 pixels, too small for the crop 640x361\+0\+0"):
        write_culane_labels(find_masks(folder), out, part=Part(640, 361, 0, 0))
    with pytest.raises(InputError, match=r"gt_binary_a\.png: value 255 marks several places"):
        write_culane_labels([(folder / "a.png", folder / "gt_binary_a.png")], out, part=Part(640, 160, 0, 200))
    with pytest.raises(InputError, match=r"b\.png: has channels of colour"):
        write_culane_labels([(folder / "a.png", folder / "b.png")], out)
    cv2.imwrite(str(folder / "gt_instance_b.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"gt_instance_b\.png: is 9x9, not 640x360"):
        write_culane_labels(find_masks(folder), out)
    mask = folder / "gt_instance_a.png"
    mask.write_bytes(mask.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"gt_instance_a\.png: truncated PNG"):
        write_culane_labels(find_masks(folder), out)
    assert not out.parent.exists()
    assert not list(out.parent.parent.glob(".*"))
    out.mkdir(parents=True)
    with pytest.raises(InputError, match="exists already"):
        write_culane_labels([], out)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", os.fsdecode(b"n\xe4chste")])
def test_a_name_that_no_list_can_hold_is_refused_before_anything_is_written(folder, name):
    for start in ("", "gt_instance_"):
        (folder / f"{start}a.png").rename(folder / f"{start}{name}.png")
    with pytest.raises(InputError, match="a list of images can't hold this name; rename the file"):
        write_culane_labels(find_masks(folder), folder / "out")
    assert not (folder / "out").exists()


def test_a_folder_whose_name_is_not_utf_8_is_a_folder_like_others(folder):
    out = folder / os.fsdecode(b"Stra\xdfe")
    assert len(write_culane_labels(find_masks(folder), out)) == len(CULane(out).frames("test"))
