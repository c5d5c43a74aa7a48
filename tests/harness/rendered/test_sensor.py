"""What the camera makes of a drawn frame: outlines, tone, colour and noise."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.rendered.frame import aim, draw, prepare, tone_curve
from harness.rendered.look import DASHBOARD, MACHINE_VISION, sample_look
from harness.rendered.sampling import sample_scene
from harness.rendered.sensor import add_noise, expose, smooth_edges

SIZE = 64


def slanted(rise: float) -> tuple[np.ndarray, np.ndarray]:
    """A white triangle's edge of a slope over black, drawn without any smoothing: image and inverse depth."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    inside = y > 20.3 + rise * x
    return np.repeat(np.uint8(240) * inside[..., None], 3, axis=2), np.where(inside, 0.1, 0.0).astype(np.float32)


def smoothed(image: np.ndarray, solid: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    out = image.copy()
    smooth_edges(image, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), solid, solid if shown is None else shown, out)
    return out


@pytest.mark.parametrize("rise", [0.13, 0.29, 0.45])
def test_a_slanted_outline_is_nearer_to_what_a_lens_would_see(rise: float) -> None:
    image, solid = slanted(rise)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    cover = 240 * np.clip(0.5 + (y - 20.3 - rise * x), 0, 1)
    inner = slice(4, -4)
    before = np.abs(image[inner, inner, 1] - cover[inner, inner]).sum()
    after = np.abs(smoothed(image, solid)[inner, inner, 1] - cover[inner, inner]).sum()
    assert after < 0.7 * before


def test_the_ground_stays_as_it_was_drawn() -> None:
    """Paint is drawn with its own smooth edges, and labels lie on them."""
    image, solid = slanted(0.3)
    np.testing.assert_array_equal(smoothed(image, np.zeros_like(solid), np.full_like(solid, 0.2)), image)


def test_what_lies_behind_plants_stays_as_it_was_drawn() -> None:
    image, solid = slanted(0.3)
    plant = np.where(solid > 0, np.float32(0.5), np.float32(0.0))
    changed = (smoothed(image, solid, plant) != image).any(axis=2)
    assert not changed[solid > 0].any()


def test_noise_is_stronger_in_the_dark() -> None:
    generator = np.random.default_rng(0)
    grain = np.clip(128 + 32 * generator.standard_normal((SIZE, 3 * SIZE)), 0, 255).astype(np.uint8)
    spread = []
    for grey in (30, 220):
        image = np.full((SIZE, SIZE, 3), grey, np.uint8)
        out = np.empty_like(image)
        add_noise(image, grain, 0, 0, np.int32(40), out)
        spread.append(out.std())
    assert spread[0] > 1.5 * spread[1] > 0


def test_sharpening_leaves_halos_beside_an_edge_and_none_without_it() -> None:
    scene = sample_scene("normal", 0.5, 1, 1)
    step = np.full((SIZE, SIZE, 3), 100, np.uint8)
    step[:, SIZE // 2 :] = 160
    far = np.zeros((SIZE, SIZE), np.float32)

    def brightest(sharpening: float) -> int:
        look = replace(scene.look, saturation=1.0, tint=(1.0, 1.0, 1.0), sharpening=sharpening)
        camera = replace(scene.camera, noise=0.0)
        return int(expose(step.copy(), far, far, camera, look, (0, 0))[8:-8, 8:-8].max())

    assert brightest(0.0) == 160
    assert brightest(0.8) > 165


def test_contrast_keeps_the_level_and_darkens_what_lies_below() -> None:
    soft, hard = tone_curve(1.2, 0.08), tone_curve(1.8, 0.08)

    def at(light: float) -> int:
        return round(np.sqrt(light) / 2.0 * (len(soft) - 1))

    assert abs(int(soft[at(0.08)]) - int(hard[at(0.08)])) <= 1
    assert hard[at(0.01)] < 0.6 * soft[at(0.01)]


REAL_DAYS = {1: 30, 5: 39, 25: 71, 50: 102, 75: 146, 95: 194, 99: 216}
"""Luminance of four of CurveLanes' day frames by percentile, the mean over them: docs/rendered.md."""


def test_streets_by_day_have_the_tone_of_real_ones() -> None:
    found = []
    for seed in range(24):
        scenario = ("normal", "crowd", "shadow", "arrow", "curve", "noline")[seed % 6]
        scene = sample_scene(scenario, 0.5, 900 + seed, 1)
        image = draw(prepare(scene), aim(scene, 0, width=410, height=148))
        found.append(np.percentile(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), list(REAL_DAYS)))
    # A flat rendering had shadows of 60 to 70, one with too much contrast 19, and mid tones of 70.
    np.testing.assert_allclose(np.mean(found, axis=0), list(REAL_DAYS.values()), atol=15)
    assert abs(np.mean(found, axis=0)[3] - REAL_DAYS[50]) < 10


def test_the_windscreen_mirrors_light_near_the_bottom_alone() -> None:
    scene = sample_scene("normal", 0.5, 2, 1)
    clear, mirroring = (
        draw(prepare(changed), aim(changed, 0, width=410, height=148)).astype(np.int32)
        for changed in (replace(scene, look=replace(scene.look, reflection=share)) for share in (0.0, 0.1))
    )
    np.testing.assert_array_equal(clear[:80], mirroring[:80])
    assert mirroring[-10:].mean() > clear[-10:].mean() + 5


def test_looks_are_a_clips_own_and_lie_within_those_of_the_dataset() -> None:
    for kit in (DASHBOARD, MACHINE_VISION):
        looks = [sample_look(kit, seed) for seed in range(30)]
        assert looks == [sample_look(kit, seed) for seed in range(30)]
        assert len({look.contrast for look in looks}) == 30
        assert all(kit.level[0] <= look.level <= kit.level[1] for look in looks)
        assert {look.reflection > 0 for look in looks} == {True, False}
