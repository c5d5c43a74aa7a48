"""What stands beside and behind the road: crowns, groves, the horizon and grey skies."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest

from harness.rendered import foliage, rasterizer, sampling, textures, tusimple_form, wayside
from harness.rendered.clip import Clip
from harness.rendered.frame import aim, draw, prepare
from harness.rendered.sampling import sample_scene
from harness.rendered.scene import Plant, Scene

CROWNED = [kind for kind in range(foliage.PLANT_KINDS) if kind not in (foliage.BARE, foliage.PALM)]


def highway(seed: int, scenario: str = "normal") -> Scene:
    return tusimple_form.scene_of(Clip("train", 0, "clip", scenario, seed, 1), 0.3)


def leaves(kind: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """(leafy texels, their light from above and from the left) of a plant."""
    picture = foliage.plant_picture(kind)
    return (picture[..., 0] > 250) & (picture[..., 3] < 5), picture[..., 1:3].astype(np.float64)


@pytest.mark.parametrize("kind", CROWNED)
def test_crowns_are_lit_on_top_and_on_the_left_and_nearly_black_inside(kind: int) -> None:
    leafy, light = leaves(kind)
    rows, cols = np.nonzero(leafy)
    high, left = rows < np.median(rows), cols < np.median(cols)
    above, beside = light[leafy].T
    # Brush is cut by the ground above its darker half.
    assert kind == foliage.BRUSH or above[high].mean() > 1.15 * above[~high].mean()
    assert beside[left].mean() > 1.15 * beside[~left].mean()
    assert np.quantile(above, 0.05) < 0.35 * above.mean()
    assert np.quantile(above, 0.95) > 1.6 * above.mean()


@pytest.mark.parametrize("kind", CROWNED)
def test_crowns_are_dense_with_a_broken_outline(kind: int) -> None:
    leafy, _ = leaves(kind)
    rows, cols = np.nonzero(leafy)
    box = leafy[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    outline = np.count_nonzero(box[:, 1:] != box[:, :-1]) + np.count_nonzero(box[1:] != box[:-1])
    assert box.mean() > 0.3
    assert outline > 2 * sum(2 * side for side in box.shape)
    assert not foliage.plant_picture(kind)[:, [0, -1], 0].any()


def test_dense_foliage_hides_what_is_behind_it_and_loose_foliage_lets_it_through() -> None:
    def board(depth: float, light: float) -> list[float]:
        return [150.0, 295.0, 290.0, 1.0 / depth, 11.0, 0.0, *(6 * [light]), 0.0, 0.0, 0.0]

    def drawn(boards: list[list[float]], stale: float = 0.5) -> npt.NDArray[np.float32]:
        image, inverse_depth = np.full((300, 300, 3), stale, np.float32), np.zeros((300, 300), np.float32)
        plants = np.array(boards, np.float32), textures.plants(), textures.plant_spans(), textures.noise_tile()
        rasterizer.draw_dense_plants(image, inverse_depth, *plants)
        dense = inverse_depth > 0
        image[~dense] = 0.9
        rasterizer.draw_loose_plants(image, inverse_depth, *plants)
        return np.where(dense[..., None], image, -1.0)

    both, near = drawn([board(40.0, 50.0), board(20.0, 0.1)]), drawn([board(20.0, 0.1)])
    covered = near[..., 0] >= 0
    assert covered.mean() > 0.2
    assert np.array_equal(both[covered], near[covered])
    assert near[covered].max() < 0.9
    assert np.array_equal(drawn([board(20.0, 0.1)], stale=7.0), near)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_empty_plain_meets_the_horizon_of_a_highway(seed: int) -> None:
    scene = highway(seed)
    shot = aim(scene, 0, width=640, height=360)
    plain = replace(scene, backdrop=(), skyline=np.full_like(scene.skyline, -1.0))
    horizon = int(shot.view.center_y + shot.view.focal * np.tan(-np.arcsin(shot.view.rotation[1, 2])))
    rows = slice(max(horizon - 6, 0), horizon)
    stands = np.any(draw(prepare(scene), shot)[rows] != draw(prepare(plain), shot)[rows], axis=(0, 2))
    assert stands.mean() > 0.5


def test_what_stands_behind_the_roadside_moves_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(own: np.random.Generator, *_: object) -> tuple[Plant, ...]:
        own.random(100)
        return ()

    for scenario in ("normal", "cross", "night"):
        usual = sample_scene(scenario, 0.5, 5, 3)
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "backdrop", other)
            patch.setattr(sampling, "varied", lambda own, style, plants: (other(own), plants)[1])
            changed = sample_scene(scenario, 0.5, 5, 3)
        own = {"plants", "backdrop", "weather", "skyline", "skyline_color", "shape"}
        for field in fields(Scene):
            if field.name not in own:
                assert getattr(usual, field.name) == getattr(changed, field.name), field.name
        assert np.array_equal(usual.shape.curvatures, changed.shape.curvatures)
        assert [(p.kind, p.leaf) for p in usual.plants] == [(p.kind, p.leaf) for p in changed.plants]


def test_grey_skies_get_clouds_darker_than_the_sky_and_other_weather_stays() -> None:
    grey = 0
    for seed in range(12):
        weather = highway(seed).weather
        own = np.random.default_rng(seed)
        covered = wayside.overcast(own, weather)
        if weather.night or max(weather.key) > 0.5:
            assert covered == weather
        else:
            grey += 1
            assert max(covered.cloud_color) < max(covered.zenith) <= max(covered.horizon)
            assert (
                replace(covered, cloud=weather.cloud, cloud_color=weather.cloud_color, zenith=weather.zenith) == weather
            )
    assert 0 < grey < 12
