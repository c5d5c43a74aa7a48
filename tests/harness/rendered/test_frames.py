"""Frames against what can be seen in them: paint is found in the image, never in the code that drew it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from harness.datasets.llamas import lane_rows, points_of
from harness.lanes import Lane
from harness.rendered import llamas_form, tusimple_form
from harness.rendered.clip import Clip
from harness.rendered.frame import Frame, Shot, Stage, aim, draw, prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.scene import Scene
from harness.rendered.spec import FORMS, SCENARIOS, Form

WIDTH, HEIGHT = 1640, 590


def bare(scene: Scene) -> Scene:
    """The same road with nothing beside or on it that could be taken for paint or hide it."""
    return replace(
        scene,
        vehicles=(),
        plants=(),
        backdrop=(),
        buildings=(),
        poles=(),
        barriers=(),
        marks=(),
        patches=(),
        cracks=0.0,
        tracks=0.0,
    )


@cache
def stage(scenario: str, difficulty: float, seed: int) -> Stage:
    return prepare(sample_scene(scenario, difficulty, seed, 3))


@cache
def frame(scenario: str, difficulty: float, seed: int, width: int = 820, height: int = 295) -> Frame:
    return render_frame(stage(scenario, difficulty, seed), 0, width=width, height=height)


def ridge(row: npt.NDArray[np.float64], x: float, reach: int) -> tuple[float, float]:
    """(contrast, centre) of the bright stripe nearest to x in a row: contrast over the asphalt in grey levels, centre as the
    brightness-weighted mean of the stripe's columns; contrast 0 if there is none."""
    left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, len(row))
    part = row[left:right]
    if len(part) < reach:
        return 0.0, x
    asphalt = np.median(part)
    bright = np.flatnonzero(part > asphalt + 0.5 * (part.max() - asphalt))
    stripes = np.split(bright, np.flatnonzero(np.diff(bright) > 1) + 1)
    whole = [s for s in stripes if len(s) and s[0] > 0 and s[-1] < len(part) - 1 and len(s) < reach]
    if not whole:
        return 0.0, x
    centers = [left + float(np.average(s, weights=part[s] - asphalt)) for s in whole]
    nearest = int(np.argmin(np.abs(np.array(centers) - x)))
    return float(part[whole[nearest]].max() - asphalt), centers[nearest]


def ridges(image: npt.NDArray[np.uint8], lane: Lane) -> npt.NDArray[np.float64]:
    """(contrast, distance of the stripe from the label) at every label point inside the image."""
    grey = image.astype(np.float64).mean(axis=2)
    height, width = grey.shape
    top = lane.points[-1, 1]
    found = []
    for x, y in lane.points:
        if y <= height - 1 and 0 <= x <= width - 1:
            contrast, center = ridge(grey[int(y)], float(x), int(8 + 0.12 * (y - top) * width / WIDTH))
            found.append((contrast, abs(center - x)))
    return np.array(found).reshape(-1, 2)


@pytest.mark.parametrize("scenario", ["normal", "curve", "shadow"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_centre_of_visible_paint_lies_within_two_pixels_of_the_label(scenario: str, seed: int) -> None:
    scene = bare(sample_scene(scenario, 0.0, seed, 1))
    # The hardest lens and the steepest roll of all difficulties.
    camera = replace(scene.camera, roll=0.02, distortion=-0.1, noise=0.5)
    drawn = render_frame(prepare(replace(scene, camera=camera)), 0, width=WIDTH, height=HEIGHT)
    found = np.concatenate([ridges(drawn.image, lane) for lane in drawn.lanes])
    seen = found[found[:, 0] > 45]
    assert len(seen) >= 15
    assert np.quantile(seen[:, 1], 0.98) < 2.0
    assert np.median(seen[:, 1]) < 0.7


def tusimple_labels(scene: Scene, shot: Shot) -> list[Lane]:
    return tusimple_form.labels(scene, shot)


def llamas_labels(scene: Scene, shot: Shot) -> list[Lane]:
    """What the reader makes of the markers."""
    data = json.dumps(llamas_form.label(scene, shot, "any")).encode()
    return [Lane(points) for points in points_of(lane_rows(data, source="label"))]


HIGHWAYS: dict[str, tuple[Callable[[Clip, float], Scene], Callable[[Scene, Shot], list[Lane]], float]] = {
    "tusimple": (tusimple_form.scene_of, tusimple_labels, -0.05),
    "llamas": (llamas_form.scene_of, llamas_labels, 0.0),
}
"""Form -> its scenes, its labels, and a lens harder than its own."""


@pytest.mark.parametrize("form", HIGHWAYS)
@pytest.mark.parametrize("scenario", ["normal", "curve"])
def test_on_highways_too_the_centre_of_paint_lies_within_two_pixels_of_the_label(form: Form, scenario: str) -> None:
    scene_of, labels_of, distortion = HIGHWAYS[form]
    facts = FORMS[form]
    found = []
    for seed in (1, 2, 3, 4):
        scene = bare(scene_of(Clip("train", 0, "clip", scenario, seed, 1), 0.0))
        scene = replace(scene, camera=replace(scene.camera, roll=0.02, distortion=distortion, noise=0.5))
        shot = aim(scene, 0, width=facts.width, height=facts.height)
        image = draw(prepare(scene), shot)
        lanes = labels_of(scene, shot)
        assert len(lanes) >= 3
        for lane in lanes:
            stripes, points = ridges(image, lane), lane.points.astype(np.float64)
            # Across the lane, not along the row: both forms round to whole pixels, LLAMAS rows too.
            slope = np.median(np.diff(points[:, 0]) / np.diff(points[:, 1]))
            found.append(stripes * [1.0, 1.0 / np.hypot(1.0, slope)])
    seen = np.concatenate(found)
    seen = seen[seen[:, 0] > 45]
    assert len(seen) >= 100
    assert np.quantile(seen[:, 1], 0.98) < 1.5
    assert np.median(seen[:, 1]) < 0.6


@pytest.mark.parametrize("form", HIGHWAYS)
def test_difficulty_wears_the_paint_of_highways_and_bends_them(form: Form) -> None:
    scene_of, labels_of, _ = HIGHWAYS[form]
    facts = FORMS[form]

    def scenes(difficulty: float, scenario: str) -> list[Scene]:
        return [scene_of(Clip("train", 0, "clip", scenario, seed, 1), difficulty) for seed in range(8)]

    def contrast(difficulty: float) -> float:
        values = []
        for scene in scenes(difficulty, "normal")[:4]:
            plain = bare(scene)
            shot = aim(plain, 0, width=facts.width, height=facts.height)
            values.append(paint_contrast(Frame(draw(prepare(plain), shot), labels_of(plain, shot), [])))
        return float(np.mean(values))

    def curvature(difficulty: float) -> float:
        return float(np.mean([np.abs(scene.shape.curvatures).mean() for scene in scenes(difficulty, "curve")]))

    assert contrast(1.0) < 0.85 * contrast(0.0)
    assert curvature(1.0) > 2.0 * curvature(0.0)


def test_labels_go_on_behind_vehicles() -> None:
    scene = sample_scene("crowd", 1.0, 5, 1)
    hidden = render_frame(prepare(scene), 0, width=820, height=295)
    free = render_frame(prepare(bare(scene)), 0, width=820, height=295)
    assert len(hidden.lanes) == len(free.lanes) > 0
    for one, other in zip(hidden.lanes, free.lanes, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
    assert np.mean(hidden.image != free.image) > 0.2


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_lanes_are_at_most_four_run_upwards_on_culane_rows_and_lie_from_left_to_right(scenario: str) -> None:
    for seed in range(4):
        drawn = frame(scenario, 0.5, seed)
        assert len(drawn.lanes) <= 4
        bottoms = []
        for lane in drawn.lanes:
            y = lane.points[:, 1]
            assert len(y) >= 4
            np.testing.assert_allclose(np.diff(y), -5.0, atol=1e-4)
            np.testing.assert_allclose(y % 5.0, 0.0, atol=1e-4)
            inside = (lane.points[:, 0] >= -0.5) & (lane.points[:, 0] <= 819.5)
            assert np.count_nonzero(~inside) <= 2
            bottoms.append(lane.points)
        assert drawn.slots == sorted(set(drawn.slots))
        assert sum(slot < 2 for slot in drawn.slots) <= 2
        for one, other in pairwise(bottoms):
            shared, mine, its = np.intersect1d(one[:, 1], other[:, 1], return_indices=True)
            assert len(shared)
            assert np.all(one[mine, 0] < other[its, 0])


def test_a_junction_has_no_lanes_and_other_scenarios_do() -> None:
    for seed in range(6):
        assert frame("cross", 0.5, seed).lanes == []
        for scenario in ("normal", "noline", "night"):
            assert frame(scenario, 0.5, seed).lanes


def mean_over(scenario: str, measure: object, difficulty: float = 0.5, seeds: range = range(6)) -> float:
    assert callable(measure)
    return float(np.mean([measure(frame(scenario, difficulty, seed)) for seed in seeds]))


def test_nights_are_darker() -> None:
    assert mean_over("night", lambda drawn: drawn.image.mean()) < 0.6 * mean_over(
        "normal", lambda drawn: drawn.image.mean()
    )


def test_dazzling_light_saturates_the_sensor() -> None:
    def saturated(drawn: Frame) -> float:
        return float(np.mean(drawn.image.min(axis=2) > 240))

    assert mean_over("hlight", saturated) > 0.01 + 2 * mean_over("arrow", saturated, seeds=range(3))


def test_shadows_make_the_road_uneven() -> None:
    """The spread of brightness over the lower middle of the frame, where there is hardly anything but asphalt."""

    def uneven(drawn: Frame) -> float:
        road = drawn.image[210:290, 250:570].astype(np.float64).mean(axis=2)
        rows = np.quantile(road.reshape(8, 10, 8, 40).mean(axis=(1, 3)), [0.1, 0.9])
        return float((rows[1] - rows[0]) / road.mean())

    assert mean_over("shadow", uneven) > 1.2 * mean_over("noline", uneven)


def paint_contrast(drawn: Frame) -> float:
    """The 80 % quantile of the stripes' contrast on the labels, relative to the frame's mean brightness."""
    found = [ridges(drawn.image, lane) for lane in drawn.lanes]
    near = np.concatenate([np.where(part[:, 1] < 3.0, part[:, 0], 0.0)[: len(part) * 2 // 3] for part in found])
    return float(np.quantile(near, 0.8) / drawn.image.mean())


def test_a_road_without_lines_has_labels_but_no_paint() -> None:
    assert mean_over("noline", paint_contrast) < 0.5 * mean_over("normal", paint_contrast)


def test_curves_bend() -> None:
    def bend(drawn: Frame) -> float:
        """Largest distance of a lane from its chord over the chord's length."""
        worst = 0.0
        for lane in drawn.lanes:
            points = lane.points.astype(np.float64)
            chord = points[-1] - points[0]
            offsets = points - points[0]
            away = np.abs(chord[0] * offsets[:, 1] - chord[1] * offsets[:, 0]) / np.hypot(*chord)
            worst = max(worst, float(away.max() / np.hypot(*chord)))
        return worst

    assert mean_over("curve", bend) > 1.5 * mean_over("arrow", bend)


def test_difficulty_wears_the_paint() -> None:
    easy = mean_over("normal", paint_contrast, 0.0)
    hard = mean_over("normal", paint_contrast, 1.0)
    assert hard < 0.85 * easy


def test_difficulty_darkens_nights() -> None:
    easy, hard = (mean_over("night", lambda drawn: drawn.image.mean(), value) for value in (0.0, 1.0))
    assert hard < 0.9 * easy


def test_frames_of_a_clip_share_their_scene_and_clips_dont() -> None:
    """The sky hardly changes while the car moves on; another clip has another sky."""
    mine = stage("normal", 0.2, 1)
    first, second = (render_frame(mine, number, width=410, height=148).image.astype(float) for number in (0, 1))
    other = frame("normal", 0.2, 2, 410, 148).image.astype(float)
    sky = np.s_[:30]
    assert np.abs(first[sky] - second[sky]).mean() < 0.6 * np.abs(first[sky] - other[sky]).mean()
    assert np.abs(first - second).mean() > 1.0


@pytest.mark.parametrize("size", [(1640, 590), (820, 295), (1280, 720), (333, 187), (64, 64), (100, 300)])
def test_any_size_works(size: tuple[int, int]) -> None:
    drawn = frame("curve", 1.0, 7, *size)
    assert drawn.image.shape == (size[1], size[0], 3)
    assert drawn.image.std() > 5


def test_a_smaller_frame_has_the_same_lanes_in_its_own_pixels() -> None:
    large, small = frame("normal", 0.3, 2, 1640, 590), frame("normal", 0.3, 2, 820, 295)
    assert len(large.lanes) == len(small.lanes)
    for one, other in zip(large.lanes, small.lanes, strict=True):
        rows, mine, its = np.intersect1d(
            np.round(one.points[:, 1] / 2, 3), np.round(other.points[:, 1], 3), return_indices=True
        )
        assert len(rows) >= 4
        # Pixel centres are integers, so halves map as (x + 0.5) / 2 - 0.5; rows are a quarter pixel apart.
        np.testing.assert_allclose((one.points[mine, 0] + 0.5) / 2 - 0.5, other.points[its, 0], atol=3.0)


def test_rendering_again_gives_the_same_bytes() -> None:
    one = render_frame(prepare(sample_scene("crowd", 0.5, 3, 2)), 1, width=410, height=148)
    two = render_frame(prepare(sample_scene("crowd", 0.5, 3, 2)), 1, width=410, height=148)
    np.testing.assert_array_equal(one.image, two.image)
    for first, second in zip(one.lanes, two.lanes, strict=True):
        np.testing.assert_array_equal(first.points, second.points)
