"""Corruptions of test images: as bad as their severity says, the same wherever they are made, and never moving a pixel."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from harness.datasets import corruptions
from harness.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from harness.datasets.horizons import horizon_of
from harness.datasets.images import Image, read_image
from harness.suite.schema import CorruptionPart

HORIZON = 0.45


def road(height: int = 295, width: int = 820) -> Image:
    """A road with three lines to a vanishing point, under a bright sky, rough everywhere."""
    rng = np.random.default_rng(5)
    picture = np.full((height, width, 3), (150, 175, 205), np.float32)
    line = round(HORIZON * height)
    picture[line:] = (95, 93, 90)
    picture[line - 30 : line, : width // 3] = (60, 75, 50)
    picture += cv2.GaussianBlur(rng.normal(0, 1, picture.shape).astype(np.float32), (0, 0), 1.5) * 18
    for x in (-200, 200, 600):
        cv2.line(picture, (width // 2, line), (width // 2 + x, height), (235, 235, 230), 6, cv2.LINE_AA)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


ROAD = road()


def shown(name: str, severity: int, image: Image = ROAD, key: str = "a/1.jpg") -> Image:
    return corrupted(image, name, severity, key=key, horizon=HORIZON)


def test_suites_know_every_corruption() -> None:
    names = CorruptionPart.model_json_schema()["properties"]["name"]["enum"]
    assert sorted(names) == sorted(CORRUPTIONS)
    assert CorruptionPart(name="fog").severities == SEVERITIES


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_worse_severity_changes_an_image_more(name: str) -> None:
    kept = ROAD.copy()
    images = [shown(name, severity) for severity in SEVERITIES]
    assert all(image.shape == ROAD.shape and image.dtype == np.uint8 for image in images)
    assert (kept == ROAD).all()
    changes = [float(np.abs(image.astype(int) - ROAD).mean()) for image in images]
    assert changes == sorted(changes)
    assert changes[0] > 0.5
    assert changes[-1] > 1.5 * changes[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_real_frames_change_more_with_severity_and_keep_their_near_lanes(name: str, shared: Path) -> None:
    picture = cv2.resize(read_image(shared / "real/images/tusimple/0.jpg"), (640, 360), interpolation=cv2.INTER_AREA)
    horizon = horizon_of("tusimple", (360, 640))
    images = [corrupted(picture, name, severity, key="0.jpg", horizon=horizon) for severity in SEVERITIES]
    changes = [float(np.abs(image.astype(int) - picture).mean()) for image in images]
    assert changes == sorted(changes)
    # The broad white line at the right, between rows 270 and 300: nowhere is it lost against the road beside it.
    bright = picture[270:300].mean(axis=2)
    lines, beside = bright > 190, (bright > 60) & (bright < 130)
    assert min(lines.sum(), beside.sum()) > 200
    worst = images[-1][270:300].mean(axis=2)
    assert worst[lines].mean() - worst[beside].mean() > 15


def test_severities_and_corruptions_that_there_are_not_are_refused() -> None:
    with pytest.raises(KeyError):
        shown("frogs", 1)
    for severity in (0, 6, -1):
        with pytest.raises(IndexError):
            shown("fog", severity)


CODE = """
import cv2, hashlib, sys
import numpy as np
from harness.datasets.corruptions import CORRUPTIONS, corrupted
cv2.setNumThreads(int(sys.argv[1]))
np.random.seed(3)
image = np.load(sys.argv[2])
for name in reversed(CORRUPTIONS):
    for severity in (5, 2):
        data = corrupted(image, name, severity, key="a/1.jpg", horizon=0.45).tobytes()
        print(name, severity, hashlib.sha256(data).hexdigest())
"""


def test_another_process_with_other_threads_makes_the_same_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "road.npy", ROAD)
    said = subprocess.run(
        [sys.executable, "-c", CODE, "1", str(tmp_path / "road.npy")], text=True, capture_output=True, check=True
    )
    lines = [line.split() for line in said.stdout.splitlines()]
    assert len(lines) == 2 * len(CORRUPTIONS)
    for name, severity, digest in lines:
        assert digest == hashlib.sha256(shown(name, int(severity)).tobytes()).hexdigest(), name


@pytest.mark.parametrize("name", ["fog", "rain", "blur", "low_light", "noise"])
def test_images_have_weather_of_their_own(name: str) -> None:
    one, same, other = shown(name, 3), shown(name, 3), shown(name, 3, key="a/2.jpg")
    assert (one == same).all()
    assert (one != other).mean() > 0.05


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_corruption_moves_the_image(name: str) -> None:
    """Labels stay true: against a shifted frame the shift is found, against the frame itself none is."""
    window = cv2.createHanningWindow((ROAD.shape[1], ROAD.shape[0]), cv2.CV_64F)

    def grey(image: Image) -> np.ndarray:
        return cv2.GaussianBlur(image.mean(axis=2), (0, 0), 2)

    reference = grey(ROAD)
    for moved in (0.0, 3.0):
        frame = np.roll(ROAD, int(moved), axis=1)
        (right, down), _ = cv2.phaseCorrelate(reference, grey(shown(name, 2, frame)), window)
        assert abs(right - moved) < 0.5, (name, right)
        assert abs(down) < 0.5, (name, down)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_the_smallest_images_can_be_corrupted(name: str, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    for severity in SEVERITIES:
        for horizon in (0.0, 0.5, 1.0):
            assert corrupted(image, name, severity, key="x", horizon=horizon).shape == image.shape


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(CORRUPTIONS)), st.sampled_from(SEVERITIES), st.integers(1, 40), st.integers(1, 60),
    st.floats(0.0, 1.0), st.sampled_from([0, 128, 255]),
)  # fmt: skip
def test_any_image_can_be_corrupted(
    name: str, severity: int, height: int, width: int, horizon: float, value: int
) -> None:
    image = np.full((height, width, 3), value, np.uint8)
    made = corrupted(image, name, severity, key="x", horizon=horizon)
    assert made.shape == image.shape
    assert made.dtype == np.uint8


def test_fog_leaves_five_percent_of_a_contrast_at_its_visibility() -> None:
    """The definition of the meteorological optical range, and its square root at half of it."""
    light = np.zeros((2, 4, 3), np.float32)
    light[:, ::2] = 0.4
    for metres, left in ((0.0, 1.0), (40.0, 0.05**0.5), (80.0, 0.05)):
        misty = corruptions.misty(light, np.full((2, 1), metres, np.float32), 80.0)
        assert misty[:, 0] - misty[:, 1] == pytest.approx(0.4 * left, rel=1e-5)


def test_the_road_is_as_far_away_as_a_pinhole_camera_says() -> None:
    metres = corruptions.distances((720, 1280), 0.35)[:, 0]
    below = 720 - 1 - 0.35 * 720
    assert metres[-1] == pytest.approx(1.5 * 0.9 * 1280 / below, rel=0.01)
    assert metres[252] == pytest.approx(corruptions.FARTHEST)
    assert (np.diff(metres[:252]) > 0).all()
    assert (np.diff(metres[253:]) < 0).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_low_light_has_the_noise_of_its_photons(severity: int) -> None:
    """Poisson: the variance of a count is its mean, to which the electronics add theirs."""
    grey = np.full((300, 300, 3), 200, np.uint8)
    value = corrupted(grey, "low_light", severity, key="x", horizon=HORIZON).astype(np.float64) / 255.0
    electrons = value**2.2 * 4000.0
    expected = (200 / 255) ** 2.2 * (0.40, 0.22, 0.12, 0.07, 0.045)[severity - 1] * 4000.0
    assert electrons.mean() == pytest.approx(expected, rel=0.02)
    assert electrons.var() == pytest.approx(expected + 6.0**2, rel=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_standard_deviation(severity: int) -> None:
    grey = np.full((300, 300, 3), 128, np.uint8)
    made = corrupted(grey, "noise", severity, key="x", horizon=HORIZON).astype(np.float64)
    assert made.std() == pytest.approx(255 * (0.03, 0.055, 0.085, 0.12, 0.16)[severity - 1], rel=0.02)
    assert made.mean() == pytest.approx(128, abs=0.5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_compression_is_what_another_encoder_makes_of_that_quality(severity: int) -> None:
    """Pillow's JPEG at the same quality and with halved colours."""
    buffer = io.BytesIO()
    quality = (30, 18, 12, 8, 5)[severity - 1]
    Pictures.fromarray(ROAD).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    reference = np.asarray(Pictures.open(buffer)).astype(int)
    assert np.abs(shown("compression", severity).astype(int) - reference).mean() < 0.5


@pytest.mark.parametrize("radius", [0.4, 1.0, 3.3, 9.2])
def test_a_point_out_of_focus_is_a_disc(radius: float) -> None:
    kernel = corruptions.disc(radius)
    assert kernel.sum() == pytest.approx(1.0)
    assert (kernel == kernel[::-1]).all()
    assert (kernel == kernel.T).all()
    # Of a uniform disc the mean squared distance from the centre is r^2 / 2; the pixels' own size adds 1/6.
    reach = len(kernel) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    if radius > 2:
        assert (kernel * (rows**2 + columns**2)).sum() == pytest.approx(radius**2 / 2 + 1 / 6, rel=0.05)


@pytest.mark.parametrize("length", [0.5, 5.0, 17.0, 34.4])
@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2])
def test_a_point_in_motion_is_a_streak_about_its_place(length: float, angle: float) -> None:
    kernel = corruptions.sweep(length, angle)
    reach = len(kernel) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.sum() == pytest.approx(1.0)
    assert (kernel * rows).sum() == pytest.approx(0.0, abs=1e-6)
    assert (kernel * columns).sum() == pytest.approx(0.0, abs=1e-6)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    # Variance of a uniform distribution over the length, plus that of a pixel.
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12 + 1 / 12, rel=0.15, abs=0.25)


def test_worse_rain_has_the_same_streaks_and_more() -> None:
    light, heavy = (
        corruptions.streaks((295, 820), share, corruptions.drawing("rain", "a/1.jpg")) for share in (0.25, 1.0)
    )
    assert (light <= heavy + 1e-6).all()
    assert 0 < (light > 0.05).mean() < (heavy > 0.05).mean() < 0.3


def test_a_wet_road_mirrors_what_stands_above_it_the_more_the_farther() -> None:
    light = np.full((80, 40, 3), 0.1, np.float32)
    light[:40] = 0.7
    wet = corruptions.mirrored(light, 0.3, 0.5)
    assert np.array_equal(wet[:40], light[:40])
    # Of the sky's light .3 at the horizon, a quarter of that in the lowest row.
    share = np.linspace(0.3, 0.3 / 4, 40)
    assert wet[40:, 20, 1] == pytest.approx(0.1 * (1 - share) + 0.7 * share, abs=1e-5)


def test_a_drop_on_the_windscreen_shows_the_scene_upside_down() -> None:
    light = np.full((295, 820, 3), 0.1, np.float32)
    light[:147] = 0.7
    change = corruptions.through_drops(light, 1.0, corruptions.drawing("rain", "a/1.jpg")) - light
    assert change[:100].min() < -0.1
    assert change[:100].max() < 1e-6
    assert change[200:].max() > 0.1
    assert change[200:].min() > -1e-6


@pytest.mark.parametrize(
    ("part", "nothing"),
    [
        ("overcast", lambda light, share: light),
        ("mirrored", lambda light, share, horizon: light),
        ("misty", lambda light, metres, visibility: light),
        ("streaks", lambda size, share, generator: np.zeros(size, np.float32)),
        ("through_drops", lambda light, share, generator: light),
    ],
)
def test_every_part_of_rain_is_seen(monkeypatch: pytest.MonkeyPatch, part: str, nothing: Any) -> None:
    whole = corrupted(ROAD, "rain", 5, key="x", horizon=HORIZON).astype(float)
    monkeypatch.setattr(corruptions, part, nothing)
    without = corrupted(ROAD, "rain", 5, key="x", horizon=HORIZON).astype(float)
    assert np.abs(whole - without).mean() > 0.5


def test_the_horizon_lies_where_each_form_has_it() -> None:
    assert horizon_of("tusimple", (720, 1280)) * 720 == pytest.approx(238)
    assert horizon_of("llamas", (717, 1276)) * 717 == pytest.approx(312)
    assert horizon_of("culane", (590, 1640)) == pytest.approx(0.455, abs=1e-3)
    assert horizon_of("culane", (720, 1280)) == pytest.approx(0.36, abs=1e-2)


def test_the_horizon_of_culanes_layout_lies_between_those_of_wide_and_of_narrow_frames() -> None:
    for width, share in ((1000, 0.36), (1780, 0.36), (2280, 0.4075), (2030, 0.38375), (2780, 0.455), (4000, 0.455)):
        assert horizon_of("culane", (1000, width)) == pytest.approx(share, abs=1e-9)
    with pytest.raises(KeyError):
        horizon_of("curvelanes", (720, 1280))
