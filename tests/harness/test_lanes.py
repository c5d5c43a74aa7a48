"""Lane and Geometry: coordinates, archiving, order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.lanes import (
    Geometry,
    Lane,
    Part,
    apply_matrix,
    archived,
    archived_points,
    near_to_far,
    plain_geometry,
    resize_matrix,
)

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
coordinates = st.floats(-5000, 5000, allow_nan=False)
clouds = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=20)


@st.composite
def crops(draw: st.DrawFn) -> tuple[int, int, int, int]:
    top, left = draw(st.integers(-50, 800)), draw(st.integers(-50, 800))
    height, width = draw(sizes)
    return top, left, top + height, left + width


@given(crop=crops(), network=sizes, points=clouds)
def test_to_network_and_back_returns_the_point(crop, network, points) -> None:
    geometry = plain_geometry((590, 1640), crop, network)
    back = geometry.to_original(geometry.to_network(points))
    np.testing.assert_allclose(back, points, atol=1e-6)


@given(crop=crops(), network=sizes)
def test_resize_maps_outer_edges_onto_outer_edges(crop, network) -> None:
    top, left, bottom, right = crop
    height, width = network
    corners = [[left - 0.5, top - 0.5], [right - 0.5, bottom - 0.5]]
    mapped = apply_matrix(resize_matrix(crop, network), corners)
    np.testing.assert_allclose(mapped, [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=1e-7)


def test_resize_in_closed_form() -> None:
    # CULane's usual crop of the upper 270 rows, 1640x320 onto 800x320: x' = (x + .5) * 800/1640 - .5, y' = y - 270.
    matrix = resize_matrix((270, 0, 590, 1640), (320, 800))
    np.testing.assert_allclose(
        apply_matrix(matrix, [[0, 270], [1639, 589]]), [[0.5 * 800 / 1640 - 0.5, 0], [1639.5 * 800 / 1640 - 0.5, 319]]
    )
    np.testing.assert_allclose(resize_matrix((0, 0, 590, 1640), (590, 1640)), np.eye(3))


@pytest.mark.parametrize("crop", [(10, 0, 10, 100), (0, 10, 100, 10), (0, 10, 100, 9)])
def test_resize_refuses_an_empty_crop(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="empty"):
        resize_matrix(crop, (320, 800))


@pytest.mark.parametrize("tilt", [(0.01, 0.02), (0.01, 0.0), (0.0, 0.02)])
def test_apply_matrix_divides_by_the_homogeneous_coordinate(tilt: tuple[float, float]) -> None:
    matrix = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0], [*tilt, 1.0]])
    x, y = 10.0, 20.0
    depth = tilt[0] * x + tilt[1] * y + 1
    np.testing.assert_allclose(apply_matrix(matrix, [x, y]), [(2 * x + 1) / depth, (3 * y - 1) / depth])
    np.testing.assert_allclose(apply_matrix(np.diag([2.0, 4.0, 2.0]), [[3.0, 5.0]]), [[3.0, 10.0]])


@given(points=clouds, angle=st.floats(-0.5, 0.5), tilt=st.floats(-1e-5, 1e-5))
def test_an_augmented_geometry_is_inverted(points, angle, tilt) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle), 30.0], [np.sin(angle), np.cos(angle), -20.0], [tilt, 0.0, 1.0]])
    geometry = Geometry((590, 1640), (0, 0, 590, 1640), (320, 800), turn @ resize_matrix((0, 0, 590, 1640), (320, 800)))
    np.testing.assert_allclose(geometry.to_original(geometry.to_network(points)), points, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "fits"),
    [
        (Part(width=200, height=100, left=0, top=0), True),
        (Part(width=150, height=60, left=50, top=40), True),
        (Part(width=150, height=61, left=50, top=40), False),
        (Part(width=151, height=60, left=50, top=40), False),
        (Part(width=1, height=1, left=199, top=99), True),
        (Part(width=0, height=60, left=50, top=40), False),
        (Part(width=150, height=0, left=50, top=40), False),
    ],
)
def test_a_part_fits_where_all_its_edges_lie_in_the_picture(part: Part, fits: bool) -> None:
    assert part.fits((100, 200)) == fits


@given(crop=crops(), network=sizes, left=st.integers(0, 900), top=st.integers(0, 900), points=clouds)
def test_a_part_of_a_picture_is_shown_as_a_frame_that_begins_at_its_corner(crop, network, left, top, points) -> None:
    inside = plain_geometry((590, 1640), crop, network)
    whole = Part(1640, 590, left, top).geometry(inside, (1500, 2600))
    np.testing.assert_allclose(whole.to_network(np.add(points, (left, top))), inside.to_network(points), atol=1e-6)
    assert (whole.original, whole.network) == ((1500, 2600), network)
    assert whole.crop == (crop[0] + top, crop[1] + left, crop[2] + top, crop[3] + left)


def test_apply_matrix_keeps_the_shape() -> None:
    assert apply_matrix(np.eye(3), np.zeros((4, 5, 2))).shape == (4, 5, 2)
    assert apply_matrix(np.eye(3), np.zeros((0, 2))).shape == (0, 2)


@given(points=clouds)
def test_archived_points_are_eighths_within_the_limit_and_stay(points) -> None:
    once = archived_points(points)
    assert (once * 8 == np.round(once * 8)).all()
    assert np.abs(once).max() <= 4000
    assert (np.abs(once - np.clip(points, -4000, 4000)) <= 1 / 16).all()
    assert (archived_points(once) == once).all()
    assert (once.astype(np.float32) == once).all()


def test_archived_rounds_half_to_even_and_clips() -> None:
    got = archived_points([[1 / 16, 3 / 16], [-4001.0, 1e9]])
    assert got.tolist() == [[0.0, 0.25], [-4000.0, 4000.0]]
    (lane,) = archived([Lane(np.array([[0.06, 0.07]]), score=0.5)])
    assert lane.points.tolist() == [[0.0, 0.125]]
    assert lane.score == 0.5


def test_archived_lanes_leave_out_points_that_repeat_the_one_before() -> None:
    found = archived(
        [
            Lane([[800, 580], [800.03, 580.02], [810, 480], [810, 480], [810.01, 480], [800, 580]], 0.5),
            Lane([[8, 9], [8.01, 9], [8, 9.02]], 0.25),
            Lane([[8, 9], [8.01, 9]]),
            Lane([[8, 9]]),
            Lane([]),
            Lane([[800, 580], [800, 480], [700, 480]]),
        ]
    )
    assert [lane.points.tolist() for lane in found] == [
        [[800, 580], [810, 480], [800, 580]], [[8, 9], [8, 9]], [[8, 9], [8, 9]], [[8, 9]], [],
        [[800, 580], [800, 480], [700, 480]],
    ]  # fmt: skip
    assert [lane.score for lane in found] == [0.5, 0.25, None, None, None, None]


def test_near_to_far_turns_only_lanes_that_run_downwards() -> None:
    upwards = [[5.0, 500.0], [6.0, 400.0]]
    assert near_to_far(upwards).tolist() == upwards
    assert near_to_far(upwards[::-1]).tolist() == upwards
    level = [[5.0, 400.0], [6.0, 500.0], [7.0, 400.0]]
    assert near_to_far(level).tolist() == level
    assert near_to_far([]).shape == (0, 2)


def test_a_lane_carries_anything_as_float32_pairs() -> None:
    assert Lane([]).points.shape == (0, 2)
    lane = Lane([[1, 2], [3, 4], [5, 6]])
    assert lane.points.dtype == np.float32
    assert len(lane) == 3
