"""The ground: its grain, joints, markers and paint, as they are seen in frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from harness.rendered import tusimple_form
from harness.rendered.clip import Clip
from harness.rendered.frame import aim, draw, prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.scene import Line, Scene
from harness.rendered.spec import FORMS, SCENARIOS, Form

FORM_NAMES: tuple[Form, ...] = ("culane", "tusimple")
DOTTED = 0.3
"""No dash is as short as this, metres; markers are."""


def road(form: Form, seed: int, difficulty: float = 0.3) -> Scene:
    """A road by day with nothing on or beside it, through a camera that adds nothing of its own: no noise, blur, contrast
    or halos."""
    if form == "culane":
        scene = sample_scene("normal", difficulty, seed, 1)
    else:
        scene = highway(seed, difficulty)
    camera = replace(scene.camera, noise=0.0, blur=0.0, roll=0.0)
    look = replace(scene.look, level=0.17, contrast=1.0, sharpening=0.0, reflection=0.0)
    bare = replace(scene, vehicles=(), plants=(), buildings=(), poles=(), barriers=(), marks=(), patches=())
    return replace(bare, camera=camera, look=look)


def highway(seed: int, difficulty: float = 0.3) -> Scene:
    return tusimple_form.scene_of(Clip("train", 0, "clip", "normal", seed, 1), difficulty)


def picture(scene: Scene, form: Form) -> npt.NDArray[np.float64]:
    facts = FORMS[form]
    shot = aim(scene, 0, width=facts.width, height=facts.height)
    return draw(prepare(scene), shot).astype(np.float64).mean(axis=2)


def grain(picture: npt.NDArray[np.float64], share: float) -> float:
    """The contrast of what is finer than some pixels, in the lane's middle at a share of the height."""
    height, width = picture.shape
    row = int(share * height)
    part = picture[row - 24 : row, int(0.42 * width) : int(0.58 * width)]
    fine = part - cv2.GaussianBlur(part, (0, 0), 2.0)
    return float(fine.std() / part.mean())


def is_marker(line: Line) -> bool:
    return 0 < line.length < DOTTED


def is_bright_marker(line: Line) -> bool:
    return is_marker(line) and line.color[2] > 0.3


@pytest.mark.parametrize("form", FORM_NAMES)
def test_grain_is_sharp_near_the_car_and_averages_out_far_from_it(form: Form) -> None:
    scenes = [replace(road(form, seed), cracks=0.0, lines=()) for seed in range(4)]
    pictures = [picture(replace(s, pavement=replace(s.pavement, lines=())), form) for s in scenes]
    near = np.mean([grain(image, 0.98) for image in pictures])
    middle = np.mean([grain(image, 0.75) for image in pictures])
    far = np.mean([grain(image, 0.55) for image in pictures])
    # Real frames have .03 to .1 near the car, noise of the sensor included.
    assert 0.025 < near < 0.1
    assert near > middle > far
    assert near > 1.8 * far


def test_blotches_are_weaker_than_grain_near_the_car() -> None:
    """What is coarser than grain and finer than a lane."""
    for seed in range(4):
        scene = road("tusimple", seed)
        scene = replace(scene, tracks=0.0, cracks=0.0, lines=(), pavement=replace(scene.pavement, lines=()))
        part = picture(scene, "tusimple")[640:700, 500:760]
        coarse = cv2.GaussianBlur(part, (0, 0), 3.0) - cv2.GaussianBlur(part, (0, 0), 15.0)
        fine = part - cv2.GaussianBlur(part, (0, 0), 2.0)
        assert coarse.std() < 0.7 * fine.std()


def test_markers_stand_between_the_dashes_of_highways_and_on_no_street() -> None:
    found = 0
    for seed in range(12):
        scene = highway(seed)
        for marker in filter(is_bright_marker, scene.pavement.lines):
            on = [line for line in scene.lines if abs(line.d - marker.d) < line.width / 2]
            for line in on:
                assert line.period == marker.period
                start = (line.phase - marker.phase) % line.period
                assert line.length < start < line.period - marker.length
            found += bool(on)
        for scenario in SCENARIOS:
            assert not any(map(is_marker, sample_scene(scenario, 0.5, seed, 1).pavement.lines))
    assert found


def test_markers_are_bright_spots_with_a_dark_side() -> None:
    scene = next(s for s in map(lambda seed: road("tusimple", seed), range(20)) if markers_of(s))
    without = replace(scene, pavement=replace(scene.pavement, lines=()))
    change = picture(replace(scene, pavement=replace(scene.pavement, lines=markers_of(scene))), "tusimple") - picture(
        without, "tusimple"
    )
    assert change.max() > 40
    assert change.min() < -15
    assert np.mean(np.abs(change) > 10) < 0.003
    # The bright spots' nearest rows lie over those of their dark sides.
    bottom = int(np.nonzero(change > 40)[0].max())
    column = int(np.argmax(change[bottom]))
    assert change[bottom + 1 : bottom + 12, max(column - 12, 0) : column + 13].min() < -15


def markers_of(scene: Scene) -> tuple[Line, ...]:
    return tuple(filter(is_marker, scene.pavement.lines))


def test_joints_of_concrete_lie_beside_the_painted_lines_and_never_under_them() -> None:
    seen = 0
    for seed in range(24):
        scene = road("tusimple", seed, 0.0)
        inner = [d for d, _ in scene.boundaries[1:-1]]
        joints = tuple(line for line in scene.pavement.lines if not line.period and max(line.color) < 0.05)
        if not scene.pavement.concrete:
            continue
        assert len(joints) == len(inner)
        for joint, d in zip(joints, inner, strict=True):
            widest = max(line.width for line in scene.lines)
            assert widest / 2 + joint.width / 2 < abs(joint.d - d) < 0.35
        if seen < 2:
            plain = replace(scene, pavement=replace(scene.pavement, lines=()))
            jointed = replace(scene, pavement=replace(scene.pavement, lines=joints))
            assert (picture(jointed, "tusimple") - picture(plain, "tusimple")).min() < -30
        seen += 1
    assert seen > 4


def test_slabs_of_concrete_end_in_joints_across_the_road() -> None:
    scene = next(s for s in (road("tusimple", seed) for seed in range(20)) if s.pavement.concrete)
    across = replace(scene, pavement=replace(scene.pavement, lines=(), slabs=(4.5, 0.0, 0.0, 0.03, 0.0)))
    without = replace(scene, pavement=replace(scene.pavement, lines=(), slabs=(0.0, 0.0, 0.0, 0.0, 0.0)))
    change = (picture(across, "tusimple") - picture(without, "tusimple"))[400:700, 560:720].mean(axis=1)
    # 300 rows show less than 8 m of road: one or two joints, thin ones.
    rows = np.flatnonzero(change < -4)
    assert 1 <= np.count_nonzero(np.diff(rows, prepend=-99) > 20) <= 2
    assert len(rows) < 12


@pytest.mark.parametrize("wear", [0.0, 0.06])
def test_ragged_paint_stays_centred_on_its_line(wear: float) -> None:
    """The middle of the right edge line, a solid one, found as the paint of frames with it less those without."""
    scene = road("tusimple", 3, 0.0)
    edge = replace(scene.lines[len(scene.boundaries) - 1], d=scene.ego_d + 1.0, width=0.15, worn=0.1)
    scene = replace(scene, pavement=replace(scene.pavement, lines=(), wear=wear))
    paint = picture(replace(scene, lines=(edge,)), "tusimple") - picture(replace(scene, lines=()), "tusimple")
    sharp = replace(scene, pavement=replace(scene.pavement, wear=0.0))
    exact = picture(replace(sharp, lines=(edge,)), "tusimple") - picture(replace(sharp, lines=()), "tusimple")
    columns = np.arange(paint.shape[1])
    rows = slice(500, 700)
    middle, true = (np.maximum(p[rows], 0.0) @ columns / np.maximum(p[rows], 0.0).sum(axis=1) for p in (paint, exact))
    width, crisp = (np.count_nonzero(p[rows] > 40, axis=1) for p in (paint, exact))
    assert abs(np.mean(middle - true)) < 0.03 * crisp.mean()
    assert np.std(width - crisp) > 1.0 if wear else np.std(width - crisp) == 0.0
    assert abs(width.mean() / crisp.mean() - 1) < 0.1


def test_difficulty_makes_paint_ragged() -> None:
    easy, hard = (np.mean([highway(seed, value).pavement.wear for seed in range(10)]) for value in (0.0, 1.0))
    assert hard > 3 * easy


@pytest.mark.parametrize("scenario", ["normal", "night"])
def test_the_pavement_changes_no_label(scenario: str) -> None:
    scene = sample_scene(scenario, 0.5, 4, 1)
    other = replace(scene, pavement=sample_scene(scenario, 0.5, 5, 1).pavement)
    one, two = (render_frame(prepare(s), 0, width=820, height=295) for s in (scene, other))
    assert np.mean(one.image != two.image) > 0.1
    for mine, its in zip(one.lanes, two.lanes, strict=True):
        np.testing.assert_array_equal(mine.points, its.points)
