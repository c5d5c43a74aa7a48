"""How frames are shown: corrupted as a whole and alike for every detector, and cropped by the horizon on other datasets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.meta import InputSize
from harness.datasets.base import Frame
from harness.datasets.corruptions import corrupted
from harness.datasets.horizons import horizon_of
from harness.datasets.images import read_image
from harness.inference.showing import crop_by_horizon, transferred_geometry, view_of_corrupted
from harness.lanes import plain_geometry


class Like:
    """As much of a dataset as geometry needs."""

    def __init__(self, form: str, image_size: tuple[int, int]) -> None:
        self.form = form
        self.image_size = image_size


CULANE, TUSIMPLE, LLAMAS = Like("culane", (590, 1640)), Like("tusimple", (720, 1280)), Like("llamas", (717, 1276))
CLRNET = InputSize(frame=(590, 1640), crop=(270, 0, 590, 1640), network=(320, 800))
UFLDV2 = InputSize(frame=(590, 1640), crop=(236, 0, 590, 1640), network=(320, 1600))
WHOLE = InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(288, 800))


@pytest.mark.parametrize("size", [CLRNET, UFLDV2, WHOLE])
def test_on_frames_like_its_own_a_detector_sees_its_own_crop(size: InputSize) -> None:
    made = transferred_geometry(size, CULANE, CULANE)((590, 1640))  # type: ignore[arg-type]
    plain = plain_geometry((590, 1640), size.crop, size.network)
    assert (made.crop, made.network) == (plain.crop, plain.network)
    assert (made.matrix == plain.matrix).all()


@pytest.mark.parametrize(("size", "tested", "crop"), [
    # Worked by hand. CLRNet on CULane: horizon at row 268.4, 1.6 rows above a crop of 320, so s = -.0049; on TuSimple
    # (238 + .0049 * 720) / 1.0049.
    (CLRNET, TUSIMPLE, (240, 0, 720, 1280)),
    # UFLDv2: s = (268.4 - 236) / 354 = .0916; (238 - .0916 * 720) / .9084 = 189.4, and on LLAMAS (312 - .0916 * 717) / .9084 = 271.2.
    (UFLDV2, TUSIMPLE, (189, 0, 720, 1280)),
    (UFLDV2, LLAMAS, (271, 0, 717, 1276)),
    # All of a CULane frame, whose horizon is at .455: TuSimple's, at .331, would have to begin above the frame.
    (WHOLE, TUSIMPLE, (0, 0, 720, 1280)),
])  # fmt: skip
def test_the_crop_of_another_dataset_has_its_horizon_where_it_was_in_training(
    size: InputSize, tested: Like, crop: tuple[int, ...]
) -> None:
    made = transferred_geometry(size, CULANE, tested)(tested.image_size)  # type: ignore[arg-type]
    assert made.crop == crop
    assert made.network == size.network
    assert made.original == tested.image_size


@settings(max_examples=200, deadline=None)
@given(
    st.integers(200, 1200), st.integers(200, 1200), st.floats(0.2, 0.6), st.floats(0.2, 0.6), st.floats(0.0, 0.7),
    st.floats(0.8, 1.0),
)  # fmt: skip
def test_horizons_meet_wherever_the_frame_reaches_that_far_up(
    height: int, other: int, horizon: float, other_horizon: float, top: float, bottom: float
) -> None:
    crop = (round(top * height), 10, round(bottom * height), 500)
    made = crop_by_horizon(crop, (height, 600), horizon, (other, 1200), other_horizon)
    assert 0 <= made[0] < made[2] <= other
    assert (made[1], made[3]) == (20, 1000)
    share = (horizon * height - crop[0]) / (crop[2] - crop[0])
    there = (other_horizon * other - made[0]) / (made[2] - made[0])
    if made[0] == 0:
        assert there <= share + 1.5 / (made[2] - made[0])
    elif made[0] < made[2] - 1:
        # Rounding the top by half a pixel moves the share by at most this.
        assert there == pytest.approx(share, abs=(0.5 * (1 + abs(1 - share)) + 0.5) / (made[2] - made[0]))


def test_lanes_come_back_in_pixels_of_the_tested_frame() -> None:
    geometry = transferred_geometry(UFLDV2, CULANE, TUSIMPLE)((720, 1280))  # type: ignore[arg-type]
    lane = np.array([[300.0, 700.0], [610.0, 260.0]])
    assert geometry.to_original(geometry.to_network(lane)) == pytest.approx(lane)
    # The outer edges of crop and network meet.
    assert geometry.to_network([-0.5, 188.5]) == pytest.approx([-0.5, -0.5])
    assert geometry.to_network([1279.5, 719.5]) == pytest.approx([1599.5, 319.5])


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    path = tmp_path_factory.mktemp("frames") / "1.png"
    rng = np.random.default_rng(1)
    cv2.imwrite(str(path), cv2.GaussianBlur(rng.integers(0, 255, (200, 400, 3), np.uint8), (0, 0), 2))
    return Frame("a/1.png", path, None, "a")


@pytest.mark.parametrize("name", ["fog", "rain", "noise"])
def test_a_detector_sees_its_crop_of_the_whole_corrupted_frame(frame: Frame, name: str) -> None:
    """Whatever its crop: the same pixels of the same weather."""
    expected = corrupted(read_image(frame.image), name, 4, key="a/1.png", horizon=horizon_of("culane", (200, 400)))
    for crop in ((0, 0, 200, 400), (80, 40, 200, 360)):
        top, left, bottom, right = crop

        def geometry_of(original: tuple[int, int], crop: tuple[int, int, int, int] = crop) -> object:
            return plain_geometry(original, crop, (crop[2] - crop[0], crop[3] - crop[1]))

        view = view_of_corrupted([frame], geometry_of, corruption=name, severity=4, form="culane")  # type: ignore[arg-type]
        pixels, geometry = view(0)
        assert (pixels.transpose(1, 2, 0) == expected[top:bottom, left:right]).all()
        assert geometry.original == (200, 400)


def test_the_weather_is_of_the_image_and_not_of_the_place_where_it_lies(frame: Frame, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(frame.image.read_bytes())

    def seen(one: Frame) -> np.ndarray:
        def geometry_of(original: tuple[int, int]) -> object:
            return plain_geometry(original, (0, 0, 200, 400), (100, 200))

        view = view_of_corrupted([one], geometry_of, corruption="rain", severity=5, form="culane")  # type: ignore[arg-type]
        return view(0)[0]

    assert (seen(frame) == seen(Frame("a/1.png", moved, None, "a"))).all()
    assert (seen(frame) != seen(Frame("a/2.png", moved, None, "a"))).any()
