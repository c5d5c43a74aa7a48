"""Each layer tells the same from the different, and nothing passes for want of something to compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detectors.upstream.reference import Difference
from harness.parity import layers
from harness.parity.layers import gradient_layer, image_layer, judged, lanes_layer, loss_layers, raw_layers, worst_loss

KNOWN = {"raw x": Difference("On purpose.", within=0.5), "raw y": Difference("On purpose, without a bound.")}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [
        ("raw x", 0.05, "agrees"),
        ("raw x", 0.4, "documented"),
        ("raw x", 0.6, "differs"),
        ("raw x", float("nan"), "differs"),
        ("raw y", 1e9, "documented"),
        ("raw z", 0.11, "differs"),
        ("raw z", float("nan"), "differs"),
    ],
)
def test_a_documented_difference_has_its_own_bound(name: str, value: float, outcome: str) -> None:
    assert judged(name, value, 0.1, "relative", "", KNOWN).outcome == outcome


def image(mean: float) -> torch.Tensor:
    """An image whose channels differ, in grey levels around `mean`."""
    return (mean + 20.0 * noise(1, 3, 8, 8) + torch.tensor([0.0, 30.0, 60.0]).view(1, 3, 1, 1)).round()


def test_images_are_compared_in_grey_levels() -> None:
    theirs, grey = image(100.0), torch.full((1, 3, 1, 1), 1 / 57.0)
    ours = theirs.clone()
    ours[..., :4] += 2.0
    found = image_layer(theirs / 57.0, ours / 57.0, ours.flip(1) / 57.0, grey, {})
    assert found.value == pytest.approx(1.0, abs=1e-4)
    assert found.outcome == "differs"
    assert "50 % of values differ by more than one level, the largest by 2" in found.detail
    assert image_layer(theirs, theirs, theirs.flip(1), torch.ones(()), {}).outcome == "agrees"


def test_reversed_channels_are_no_documented_difference() -> None:
    theirs = image(100.0)
    known = {"image": Difference("Another filter.", within=1e3)}
    found = image_layer(theirs, theirs.flip(1), theirs, torch.ones(()), known)
    assert found.outcome == "differs"
    assert "order of channels" in found.detail


def test_raw_outputs_are_measured_against_their_largest_magnitude() -> None:
    theirs = noise(4, 5)
    theirs[0, 0] = 50.0
    still = {"x": theirs}
    (found,) = raw_layers({"x": theirs}, {"x": theirs + 5e-4}, lambda: [still], {})
    assert found.value == pytest.approx(1e-5, rel=1e-3)
    assert found.outcome == "agrees"
    (found,) = raw_layers({"x": theirs}, {"x": theirs + 0.05}, lambda: [still], {})
    assert found.outcome == "differs"


def test_raw_outputs_may_be_as_far_as_upstreams_own_move_by_rounding() -> None:
    theirs = noise(4, 5)
    theirs[0, 0] = 50.0
    ours, moved, broken = {"x": theirs + 0.01}, {"x": theirs + 0.004}, {"x": theirs * float("nan")}
    (found,) = raw_layers({"x": theirs}, ours, lambda: [moved, {"x": theirs}], {})
    assert (found.outcome, found.tolerance) == ("agrees", pytest.approx(3 * 0.004 / 50, rel=1e-3))
    (found,) = raw_layers({"x": theirs}, {"x": theirs + 0.02}, lambda: [moved, {"x": theirs}], {})
    assert found.outcome == "differs"
    (found,) = raw_layers({"x": theirs}, ours, lambda: [broken], {})
    assert found.outcome == "differs"


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ({"x": noise(2, 3)}, {"x": noise(3, 2)}, "2x3 upstream, 3x2 ours"),
        ({"x": noise(2, 3)}, {}, "only upstream has x"),
        ({}, {"x": noise(2, 3)}, "only ours has x"),
        ({"x": torch.zeros(2, 3)}, {"x": torch.zeros(2, 3)}, "constant"),
        ({"x": torch.full((2,), float("nan"))}, {"x": torch.full((2,), float("nan"))}, "not finite"),
        ({"x": noise(2, 3)}, {"x": noise(2, 3) * float("nan")}, ""),
    ],
)
def test_what_says_nothing_does_not_agree(
    theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor], said: str
) -> None:
    (found,) = raw_layers(theirs, ours, lambda: [theirs], {"raw x": Difference("On purpose.", within=1.0)})
    assert found.outcome == "differs"
    assert said in found.detail


def lane(x: float) -> np.ndarray:
    return np.stack([np.full(5, x), np.arange(5.0) * 20], axis=1)


def test_lanes_have_to_be_there_and_have_counterparts() -> None:
    assert lanes_layer("lanes", [[lane(3.0)]], [[lane(3.05)]], {}).outcome == "agrees"
    assert lanes_layer("lanes", [[lane(3.0)]], [[lane(3.2)]], {}).outcome == "differs"
    known = {"lanes": Difference("On purpose.", within=1e9)}
    assert lanes_layer("lanes", [[lane(3.0)]], [[lane(3.2)]], known).outcome == "documented"
    assert lanes_layer("lanes", [[lane(3.0), lane(9.0)]], [[lane(3.0)]], known).outcome == "differs"
    assert lanes_layer("lanes", [[]], [[]], known).outcome == "differs"


def test_every_loss_term_is_compared_by_itself() -> None:
    theirs = {"a": torch.tensor(2.0), "b": torch.tensor(1e-3), "c": torch.tensor(0.0)}
    ours = {"a": torch.tensor(2.0001), "b": torch.tensor(1.1e-3), "d": torch.tensor(1.0)}
    found = {layer.name: layer for layer in loss_layers(theirs, ours, lambda: [theirs], {})}
    assert [layer.outcome for layer in found.values()] == ["agrees", "differs", "differs", "differs"]
    assert found["loss b"].value == pytest.approx(1 / 11, rel=1e-3)
    assert found["loss d"].detail == "only ours has d"


def test_the_worst_term_stands_for_a_set_of_labels() -> None:
    theirs = {"a": torch.tensor(2.0), "b": torch.tensor(0.0)}
    found = worst_loss("no lane", theirs, {"a": torch.tensor(2.0), "b": torch.tensor(0.0)}, lambda: [theirs], {})
    assert (found.name, found.outcome, found.value) == ("losses, no lane", "agrees", 0.0)
    found = worst_loss("no lane", theirs, {"a": torch.tensor(1.0), "b": torch.tensor(0.0)}, lambda: [theirs], {})
    assert found.value == pytest.approx(0.5)
    assert found.detail.endswith("furthest: a")
    found = worst_loss(
        "no lane", theirs, {"a": torch.tensor(float("nan")), "b": torch.tensor(0.0)}, lambda: [theirs], {}
    )
    assert found.outcome == "differs"
    assert worst_loss("no lane", theirs, {"a": torch.tensor(2.0)}, lambda: [theirs], {}).outcome == "differs"


def test_no_documented_difference_excuses_a_loss_of_ours_that_is_no_number() -> None:
    known = {"losses, no lane": Difference("Upstream's mean over no lanes isn't a number. Ours is 0 there.")}
    theirs, zero = {"a": torch.tensor(float("nan"))}, {"a": torch.tensor(0.0)}
    assert worst_loss("no lane", theirs, zero, lambda: [theirs], known).outcome == "documented"
    found = worst_loss("no lane", theirs, theirs, lambda: [theirs], known)
    assert (found.outcome, found.detail) == ("differs", "ours isn't finite: a")


def test_gradients_are_compared_with_how_far_upstreams_own_moves() -> None:
    theirs, step = noise(8, 3, 7, 7), noise(8, 3, 7, 7, seed=1)
    step = 0.02 * theirs.norm() * step / step.norm()
    assert gradient_layer(theirs, theirs + step, lambda: [theirs + step / 2], {}).outcome == "agrees"
    assert gradient_layer(theirs, theirs + step, lambda: [theirs + step / 10], {}).outcome == "differs"
    assert gradient_layer(theirs, theirs * 1.005, lambda: [theirs], {}).outcome == "agrees"
    assert gradient_layer(torch.zeros(3), torch.zeros(3), lambda: [torch.zeros(3)], {}).outcome == "differs"
    assert gradient_layer(theirs, theirs[:4], lambda: [theirs], {}).outcome == "differs"
    assert layers.GRADIENT < 0.02


def test_a_loss_may_be_as_far_as_upstreams_own_moves_by_rounding() -> None:
    theirs, ours = {"a": torch.tensor(1.0)}, {"a": torch.tensor(1.0004)}
    still, moved = {"a": torch.tensor(1.0)}, {"a": torch.tensor(0.9995)}
    assert loss_layers(theirs, ours, lambda: [still], {})[0].outcome == "differs"
    assert loss_layers(theirs, ours, lambda: [still, moved, still], {})[0].outcome == "agrees"
    assert worst_loss("one lane", theirs, ours, lambda: [still], {}).outcome == "differs"
    assert worst_loss("one lane", theirs, ours, lambda: [moved, still], {}).outcome == "agrees"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_upstream_excuses_no_difference(broken: float) -> None:
    finite, odd = {"a": torch.tensor(1.0)}, {"a": torch.tensor(broken)}
    for theirs, ours, moved in ((odd, finite, odd), (odd, odd, odd), (finite, {"a": torch.tensor(1.1)}, odd)):
        assert loss_layers(theirs, ours, lambda moved=moved: [moved], {})[0].outcome == "differs"
        assert worst_loss("one lane", theirs, ours, lambda moved=moved: [moved], {}).outcome == "differs"
    gradient = noise(8, 3, 7, 7)
    assert (
        gradient_layer(gradient, 1.5 * gradient, lambda: [torch.full_like(gradient, broken)], {}).outcome == "differs"
    )


def test_the_largest_of_several_disturbances_counts_and_is_asked_for_only_where_it_matters() -> None:
    gradient = noise(8, 3, 7, 7)
    draws = [gradient, 1.01 * gradient, gradient]
    assert gradient_layer(gradient, 1.02 * gradient, lambda: draws, {}).outcome == "agrees"
    assert gradient_layer(gradient, 1.02 * gradient, lambda: draws[:1], {}).outcome == "differs"
    theirs, ours = {"a": torch.tensor(1.0)}, {"a": torch.tensor(1.00001)}

    def unasked() -> list:
        raise AssertionError

    assert gradient_layer(gradient, 1.002 * gradient, unasked, {}).outcome == "agrees"
    assert loss_layers(theirs, ours, unasked, {})[0].outcome == "agrees"
    assert worst_loss("no lane", theirs, ours, unasked, {}).outcome == "agrees"


def test_a_documented_difference_excuses_the_terms_that_it_is_about_and_no_others() -> None:
    nothing, one, other = (torch.tensor(value) for value in (float("nan"), 1.0, 1.1))
    known = {"losses, no lane": Difference("Means over no lanes.", terms=("far", "near"))}
    theirs = {"far": nothing, "near": one, "lane": one}
    for lane, outcome in ((one, "documented"), (other, "differs")):
        ours = {"far": torch.tensor(0.0), "near": one, "lane": lane}
        found = worst_loss("no lane", theirs, ours, lambda: [theirs], known)
        assert found.outcome == outcome
        assert found.detail.endswith("furthest: far" if outcome == "documented" else "furthest: lane")
    known = {"losses, no lane": Difference("Bounded.", within=0.05, terms=("near",))}
    theirs = {"near": one, "lane": one}
    assert (
        worst_loss("no lane", theirs, {"near": one * 1.04, "lane": one}, lambda: [theirs], known).outcome
        == "documented"
    )
    assert worst_loss("no lane", theirs, {"near": other, "lane": one}, lambda: [theirs], known).outcome == "differs"
