"""What is odd about labels: where points are far out, for which image size labels were made, which splits are empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.datasets.doctor.labels import double_lanes, label_findings
from harness.datasets.index import LabelIndex, index_of
from tests.harness.datasets.doctor.trees import CLIP, HEIGHT, LABEL, NAMES, WIDTH, first_label, kinds

LANE = np.array([[40, 159], [60, 120], [80, 90]], np.float32)


def told(index: LabelIndex) -> list[tuple[str, str, str]]:
    names = [f"{frame}.lines.txt" for frame in range(len(index))]
    return [(one.kind, one.file, one.what) for one in label_findings(index, names, (HEIGHT, WIDTH))]


@pytest.mark.parametrize(
    ("near", "far"),
    [((-319, 100), (-321, 100)), ((639, 100), (641, 100)), ((60, -159), (60, -161)), ((60, 319), (60, 321))],
)
def test_a_point_is_far_out_a_whole_image_beside_the_image(near: tuple[int, int], far: tuple[int, int]) -> None:
    for point, expected in ((near, []), (far, [("far-out", "400.lines.txt")])):
        lane = np.array([[60, 120], point], np.float32)
        found = told(index_of([*[[LANE]] * 400, [lane]]))
        assert [(kind, file) for kind, file, _ in found] == expected


@pytest.mark.parametrize(
    ("across", "down", "right"),
    [(1.0, 1.0, True), (4.0, 1.0, True), (4.6, 1.0, False), (1.0, 0.65, True), (1.0, 0.55, False), (1.0, 1.2, False)],
)
def test_labels_are_of_another_size_where_most_end_beside_the_image_or_high_up_in_it(
    across: float, down: float, right: bool
) -> None:
    found = told(index_of([[LANE * np.float32([across, down])]] * 10))
    assert [kind for kind, _, _ in found] == ([] if right else ["label-size"])


@pytest.mark.parametrize(
    ("ys", "kind"),
    [
        ((159, 60, 5), []),
        ((135, 60, 5), ["label-axes"]),
        ((137, 60, 5), []),
        ((135, 60, 17), []),
        ((50, 20, 5), ["label-axes"]),
        ((46, 20, 5), ["label-size"]),
    ],
)
def test_labels_are_upside_down_where_they_reach_the_top_and_not_the_bottom(
    ys: tuple[int, ...], kind: list[str]
) -> None:
    lane = np.array([[40, ys[0]], [160, ys[1]], [300, ys[2]]], np.float32)
    assert [one for one, _, _ in told(index_of([[lane]] * 100))] == kind


def test_lanes_that_leave_the_image_sideways_are_of_its_size_and_far_points_are_still_told() -> None:
    leaving = np.array([[40, 159], [60, 120], [80, 100], [900, 90]], np.float32)
    assert [kind for kind, _, _ in told(index_of([[leaving]] * 10))] == ["far-out"]
    leaving[3, 0] = 360
    assert told(index_of([[leaving]] * 10)) == []


def test_a_lane_is_double_in_one_label_and_not_in_two() -> None:
    names = ["0.lines.txt", "1.lines.txt"]
    other = LANE + np.float32([[0, 0], [1, 0], [0, 0]])
    assert double_lanes(index_of([[LANE, other, LANE[:1], LANE[:1]], [LANE]]), names) == []
    (finding,) = double_lanes(index_of([[LANE], [LANE, other, LANE]]), names)
    assert (finding.file, finding.what) == ("1.lines.txt", "1 labels hold 1 lanes twice")


def test_a_file_of_several_short_lanes_is_named_once() -> None:
    found = told(index_of([[LANE], [LANE[:1], LANE[:0]], [LANE, LANE[:1]]]))
    ((kind, file, what),) = found
    assert (kind, file) == ("short-lane", "1.lines.txt")
    assert what == "2 labels hold 3 lanes of fewer than two points: 1.lines.txt, 2.lines.txt"


def test_a_split_is_empty_where_more_than_half_of_its_labels_have_nothing_to_train_on(culane: Path) -> None:
    for name in (NAMES[0], NAMES[4]):  # one of three to train on, one of two to test on
        (culane / f"{name}.lines.txt").write_text("")
    assert kinds(culane) == []
    (culane / f"{CLIP}/00001.lines.txt").write_text("100 100\n")
    assert kinds(culane) == [("note", "short-lane"), ("warning", "empty-labels")]
    first_label(LABEL)(culane)
    assert kinds(culane) == [("note", "short-lane")]
