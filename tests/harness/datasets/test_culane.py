"""Reading CULane's layout: the real lists, faked trees, hostile input, identity."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.datasets.base import open_dataset
from harness.datasets.culane import CULane, read_list
from harness.datasets.lines import label_name, write_lines_file
from harness.datasets.sizes import check_sizes
from harness.lanes import Lane
from tests.harness.datasets.refusals import refusal

LABEL = "100.5 590 120 580 140 570\n900 590 880.25 570\n"
CLIP = "driver_1_30frame/0001.MP4"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two training images, one for validation, three for test in two scenarios; no image files."""
    root = tmp_path / "tree"
    (root / "list/test_split").mkdir(parents=True)
    (root / CLIP).mkdir(parents=True)
    (root / "list/train_gt.txt").write_text(
        "".join(f"/{CLIP}/{n}.jpg /laneseg_label_w16/{CLIP}/{n}.png 0 1 1 0\n" for n in ("00000", "00030"))
    )
    (root / "list/val.txt").write_text(f"/{CLIP}/00060.jpg\r\n\r\n")
    (root / "list/test.txt").write_text("".join(f"/{CLIP}/{n}.jpg\n" for n in ("00120", "00090", "00150")))
    (root / "list/test_split/test0_normal.txt").write_text(f"{CLIP}/00150.jpg\n{CLIP}/00090.jpg")
    (root / "list/test_split/test8_night.txt").write_text(f"{CLIP}/00120.jpg\n")
    for number in range(0, 180, 30):
        (root / CLIP / f"{number:05d}.lines.txt").write_text(LABEL)
    (root / CLIP / "00090.lines.txt").write_text("")
    return root


def test_the_real_lists_have_their_known_counts(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "list").symlink_to(shared / "real/culane/list")
    dataset = open_dataset("culane", tmp_path)
    frames = dataset.frames("test")
    assert dataset.splits() == ("test",)
    assert len(frames) == 34_680
    counts = {
        "normal": 9621,
        "crowd": 8113,
        "night": 7029,
        "noline": 4067,
        "cross": 3122,
        "shadow": 930,
        "arrow": 890,
        "hlight": 486,
        "curve": 422,
    }
    assert {scenario: sum(frame.scenario == scenario for frame in frames) for scenario in counts} == counts
    assert sum(counts.values()) == len(frames)
    listed = (shared / "real/culane/list/test.txt").read_text().split()
    assert ["/" + frame.id for frame in frames] == listed
    assert frames[0].clip == "driver_100_30frame/05251517_0433.MP4"
    assert frames[0].image == tmp_path.resolve() / "driver_100_30frame/05251517_0433.MP4/00000.jpg"


def test_lists_of_either_kind_are_read_in_their_order(tree: Path) -> None:
    dataset = CULane(tree)
    assert dataset.splits() == ("train", "val", "test")
    assert [frame.id for frame in dataset.frames("train")] == [f"{CLIP}/00000.jpg", f"{CLIP}/00030.jpg"]
    assert [frame.id for frame in dataset.frames("val")] == [f"{CLIP}/00060.jpg"]
    assert [(frame.id[-9:], frame.scenario) for frame in dataset.frames("test")] == [
        ("00120.jpg", "night"),
        ("00090.jpg", "normal"),
        ("00150.jpg", "normal"),
    ]
    assert {frame.clip for frame in dataset.frames("test")} == {CLIP}
    assert dataset.frames("train")[0].scenario is None


def test_without_split_lists_no_frame_has_a_scenario(tree: Path) -> None:
    for path in (tree / "list/test_split").iterdir():
        path.unlink()
    (tree / "list/test_split").rmdir()
    assert {frame.scenario for frame in CULane(tree).frames("test")} == {None}


def test_lanes_come_near_to_far_whichever_split_is_open(tree: Path) -> None:
    (tree / CLIP / "00060.lines.txt").write_text("140 570 120 580 100.5 590\n")
    train, val = CULane(tree).frames("train")[1], CULane(tree).frames("val")[0]
    dataset = CULane(tree)
    assert [lane.points.tolist() for lane in dataset.lanes(train)] == [
        [[100.5, 590], [120, 580], [140, 570]],
        [[900, 590], [880.25, 570]],
    ]
    assert dataset.lanes(val)[0].points.tolist() == [[100.5, 590], [120, 580], [140, 570]]
    assert dataset.lanes(dataset.frames("test")[1]) == []
    dataset.lanes(train)[0].points[:] = 0
    assert dataset.lanes(train)[0].points[0, 0] == 100.5


def test_training_depends_on_no_other_split(tree: Path) -> None:
    (tree / CLIP / "00150.lines.txt").write_text("broken")
    (tree / "list/val.txt").write_text("")
    dataset = CULane(tree)
    assert len(dataset.lanes(dataset.frames("train")[0])) == 2
    assert "00150.lines.txt:1: value 1 is 'broken'" in refusal(dataset.lanes, dataset.frames("test")[0])


def test_written_lanes_are_read_back(tree: Path) -> None:
    lanes = [Lane([[583.279, 590.0], [590.06, 580.0]]), Lane([[-20.0, 400.0], [5.5, 300.0]])]
    write_lines_file(tree / CLIP / "00000.lines.txt", lanes)
    dataset = CULane(tree)
    got = dataset.lanes(dataset.frames("train")[0])
    assert [lane.points.tolist() for lane in got] == [[[583.25, 590.0], [590.0, 580.0]], [[-20.0, 400.0], [5.5, 300.0]]]


def test_label_names_follow_the_official_rule() -> None:
    assert label_name("a.MP4/00000.jpg") == "a.MP4/00000.lines.txt"
    assert label_name("a/b.c.png") == "a/b.c.lines.txt"


def test_image_size_is_given_or_read_from_the_first_image(tree: Path) -> None:
    assert CULane(tree, image_size=(590, 1640)).image_size == (590, 1640)
    assert "00000.jpg is missing" in refusal(lambda: CULane(tree).image_size)
    cv2.imwrite(str(tree / CLIP / "00000.jpg"), np.zeros((295, 820, 3), np.uint8))
    assert CULane(tree).image_size == (295, 820)


def test_images_of_another_height_or_width_are_refused_and_missing_ones_passed_over(tree: Path) -> None:
    dataset = CULane(tree, image_size=(59, 164))
    frames = dataset.frames("train")
    cv2.imwrite(str(frames[0].image), np.zeros((59, 164, 3), np.uint8))
    check_sizes(dataset, frames)
    for height, width in ((59, 165), (60, 164)):
        cv2.imwrite(str(frames[1].image), np.zeros((height, width, 3), np.uint8))
        assert f"00030.jpg: {width} x {height} pixels" in refusal(check_sizes, dataset, frames)


def test_of_two_lists_of_a_split_the_first_name_is_read(tree: Path) -> None:
    (tree / "list/val_gt.txt").write_text(f"/{CLIP}/00090.jpg /mask.png 1 1 1 1\n")
    assert [frame.id for frame in CULane(tree).frames("val")] == [f"{CLIP}/00060.jpg"]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        (
            "test_split/test8_night.txt",
            f"{CLIP}/00120.jpg\n{CLIP}/00090.jpg\n",
            ["test8_night.txt", f"{CLIP}/00090.jpg", "also in test0_normal.txt"],
        ),
        ("test_split/test8_night.txt", "", ["test.txt", f"{CLIP}/00120.jpg", "in no file of"]),
        (
            "test_split/test8_night.txt",
            f"{CLIP}/00120.jpg\n{CLIP}/9.jpg\n",
            ["test8_night.txt", f"{CLIP}/9.jpg", "isn't in"],
        ),
        ("test.txt", f"{CLIP}/1.jpg\n{CLIP}/2.jpg\n/{CLIP}/1.jpg\n", ["test.txt:3:", f"{CLIP}/1.jpg", "line 1"]),
        ("test.txt", "a/../../b.jpg\n", ["test.txt:1:", "isn't a path inside"]),
        ("test.txt", "\na/b\n", ["test.txt:2:", "no extension"]),
        ("test.txt", "a/b\x00.jpg\n", ["test.txt:1:", "isn't a path inside"]),
        ("test.txt", "d/1.jpg\nd/./0.jpg\n", ["test.txt:2:", "'d/./0.jpg' has a part that is empty or '.'"]),
        ("test.txt", "d/1.jpg\nd//0.jpg\n", ["test.txt:2:", "'d//0.jpg' has a part that is empty or '.'"]),
        ("test.txt", "\n\n", ["test.txt", "no image is listed"]),
        ("test.txt", "\n" + "d/1.jpg " * 600 + "\n", ["test.txt:2:", "longer than a path may be", "one image a line"]),
        ("test.txt", "x" * 260 + ".jpg\n", ["test.txt:1:", "longer than a path may be"]),
        ("test.txt", f"{CLIP}/00090.lines.txt\n", ["test.txt:1:", "is a label", "name its image"]),
    ],
)
def test_damaged_lists_are_refused_with_file_and_image(
    tree: Path, file: str, content: str, expected: list[str]
) -> None:
    (tree / "list" / file).write_text(content)
    message = refusal(CULane(tree).frames, "test")
    for part in expected:
        assert part in message


@pytest.mark.parametrize("scenario", ["wet-road", "wet road"])
def test_a_scenarios_list_of_a_name_that_isnt_read_is_named_with_the_rule(tree: Path, scenario: str) -> None:
    lists = tree / "list/test_split"
    (lists / "test8_night.txt").rename(lists / f"test8_{scenario}.txt")
    message = refusal(CULane(tree).frames, "test")
    for part in (f"{CLIP}/00120.jpg is in no file of", f"rename test8_{scenario}.txt", "letters, digits and _"):
        assert part in message


def test_crossings_with_lanes_are_warned_of_and_others_arent(tree: Path) -> None:
    lists = tree / "list/test_split"
    (lists / "test8_night.txt").rename(lists / "test7_cross.txt")
    for text, told in (("", 0), (LABEL, 1)):
        (tree / CLIP / "00120.lines.txt").write_text(text)
        dataset = CULane(tree)
        dataset.frames("test")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            dataset.labels("test")
        assert [str(one.message).partition(": ")[2][:45] for one in said] == [
            "1 images of scenario cross have lanes, but of"
        ] * told


def test_a_list_that_is_no_text_is_refused(tree: Path) -> None:
    (tree / "list/val.txt").write_bytes(b"a.jpg\n\xff\xfe\n")
    assert "val.txt:2: not UTF-8" in refusal(CULane(tree).frames, "val")


def test_a_byte_order_mark_isnt_part_of_the_first_image(tree: Path) -> None:
    (tree / "list/val.txt").write_bytes(b"\xef\xbb\xbf/a/b.jpg\n")
    assert read_list(tree / "list/val.txt") == ["a/b.jpg"]


def test_a_path_with_spaces_is_one_image(tree: Path) -> None:
    (tree / "list/val.txt").write_text("my drive/0 1.jpg\n")
    assert read_list(tree / "list/val.txt") == ["my drive/0 1.jpg"]


def test_a_missing_or_damaged_label_is_refused_with_its_path(tree: Path) -> None:
    label = tree / CLIP / "00030.lines.txt"
    label.write_text("1 2 3 4\n1 2 3\n")
    assert f"{label}:2: 3 numbers, an odd count" in refusal(CULane(tree).labels, "train")
    label.unlink()
    assert f"{label} is missing" in refusal(CULane(tree).labels, "train")
    label.mkdir()
    assert f"{label} can't be read" in refusal(CULane(tree).labels, "train")


def test_blank_lines_and_lanes_of_one_point_are_kept_out_of_training_and_counted(tree: Path) -> None:
    key = CULane(tree).content_key()
    (tree / CLIP / "00000.lines.txt").write_text(LABEL + "\n700 500\n")
    dataset = CULane(tree)
    frame = dataset.frames("train")[0]
    with pytest.warns(UserWarning, match="2 lanes of split train have fewer than two points"):
        assert [len(lane) for lane in dataset.lanes(frame)] == [3, 2]
    assert len(dataset.labels("train").lanes(0)) == 4
    with pytest.warns(UserWarning, match="fewer than two"):
        assert CULane(tree).content_key() != key  # they are scored


def test_folders_and_splits_that_arent_there_are_refused(tree: Path, tmp_path: Path) -> None:
    assert "has no folder list/" in refusal(CULane, tmp_path / "nowhere")
    (tree / "list/val.txt").unlink()
    assert "no val.txt or val_gt.txt" in refusal(CULane(tree).frames, "val")
    assert "did you mean 'train'?" in refusal(CULane(tree).frames, "trian")
    assert "unknown dataset format 'culan'; did you mean 'culane'?" in refusal(open_dataset, "culan", tree)
    (tmp_path / "empty/list").mkdir(parents=True)
    assert "has none of the lists" in refusal(CULane(tmp_path / "empty").splits)


def test_a_frame_of_another_dataset_is_refused(tree: Path) -> None:
    from dataclasses import replace

    frame = CULane(tree).frames("train")[0]
    assert "other.jpg is on no list" in refusal(CULane(tree).lanes, replace(frame, id="other.jpg"))


def test_the_content_key_follows_content_only(tree: Path, tmp_path: Path) -> None:
    key = CULane(tree).content_key()
    moved = tmp_path / "elsewhere"
    tree.rename(moved)
    (moved / "list/train.txt").write_text(f"{CLIP}/00000.jpg\n{CLIP}/00030.jpg")
    (moved / CLIP / "00000.lines.txt").write_text(
        LABEL.replace(" ", "\t").replace("590", "590.000").replace("\n", "\r\n")
    )
    assert CULane(moved).content_key() == key
    (moved / CLIP / "00000.lines.txt").write_text(LABEL.replace("120", "121"))
    assert CULane(moved).content_key() != key
    (moved / CLIP / "00000.lines.txt").write_text(LABEL)
    assert CULane(moved).content_key() == key
    (moved / "list/test_split/test8_night.txt").rename(moved / "list/test_split/test6_curve.txt")
    assert CULane(moved).content_key() != key


def test_lanes_moved_from_one_image_to_the_next_change_the_content_key(tree: Path) -> None:
    first, second = LABEL.splitlines(keepends=True)
    labels = [tree / CLIP / name for name in ("00000.lines.txt", "00030.lines.txt")]
    labels[0].write_text(LABEL)
    labels[1].write_text("")
    key = CULane(tree).content_key()
    labels[0].write_text(first)
    labels[1].write_text(second)
    assert CULane(tree).content_key() != key


def test_rendered_data_is_known_by_its_key(tree: Path) -> None:
    (tree / "rendering.json").write_text(json.dumps({"dataset_key": "abc", "more": 1}))
    assert CULane(tree).content_key() == "abc"
    for broken in ("{", "[]", '{"dataset_key": 5}', "{}"):
        (tree / "rendering.json").write_text(broken)
        assert "rendering.json" in refusal(CULane(tree).content_key)
