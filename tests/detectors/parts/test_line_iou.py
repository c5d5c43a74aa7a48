from __future__ import annotations

import importlib.util
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from detectors.parts.line_iou import LONGEST_STEP, lane_iou, lane_iou_of_ranges, lane_radii, line_iou
from tests.checkouts import checkout_of

FRAME = (320.0, 1640.0)
NOWHERE = -1e5


def lanes(seed: int, count: int, rows: int = 12) -> Tensor:
    """Slanted, bent x (count, rows) as shares of a width, some leaving the image at the bottom or at the top."""
    generator = torch.Generator().manual_seed(seed)
    start, slope, bend = (torch.randn(count, 1, generator=generator) for _ in range(3))
    up = torch.linspace(0, 1, rows)
    return 0.5 + 0.3 * start + 0.6 * slope * up + 0.2 * bend * up**2


def labels(seed: int, count: int, rows: int = 12) -> Tensor:
    """The same, without points below and above some row."""
    xs = lanes(seed, count, rows)
    generator = torch.Generator().manual_seed(seed + 1000)
    first = torch.randint(0, 4, (count, 1), generator=generator)
    last = torch.randint(5, rows + 1, (count, 1), generator=generator)
    row = torch.arange(rows)
    return torch.where((row >= first) & (row < last), xs, NOWHERE)


def radii_of(predicted: Tensor, labelled: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """As the paper has them: a prediction's of its own angles."""
    return (
        lane_radii(predicted, radius=radius, frame=FRAME),
        lane_radii(labelled, radius=radius, frame=FRAME, longest_step=LONGEST_STEP),
    )


def half_widths(xs: list[float], radius: float, frame: tuple[float, float], longest_step: float) -> list[float]:
    """The rule of `lane_radii`, one row after the other: the secant of the lane's angle to the vertical, times the radius."""
    strip = frame[0] / (len(xs) - 1)
    widths = []
    for row in range(len(xs)):
        middle = min(max(row, 1), len(xs) - 2)
        step = (xs[middle + 1] - xs[middle - 1]) * frame[1]
        angle = 0.0 if abs(step) > longest_step else math.atan2(step, 2 * strip)
        widths.append(radius / math.cos(angle))
    return widths


def band_iou(
    predicted: list[float],
    labelled: list[float],
    predicted_widths: list[float],
    labelled_widths: list[float],
    width: float,
    covered: list[bool] | None = None,
) -> float:
    """The rule of all measures, one row after the other; `covered` only where predictions have a range."""
    overlap = union = 0.0
    for row, (x, label, radius, label_radius) in enumerate(
        zip(predicted, labelled, predicted_widths, labelled_widths, strict=True)
    ):
        there = 0 <= label < width
        here = covered is None or (covered[row] and 0 <= x < width)
        if here and there:
            overlap += min(x + radius, label + label_radius) - max(x - radius, label - label_radius)
            union += max(x + radius, label + label_radius) - min(x - radius, label - label_radius)
        elif covered is not None and (here or there):
            union += 2 * (radius if here else label_radius)
    return overlap / union if union else 0.0


def test_bands_that_coincide_touch_or_lie_apart() -> None:
    label = torch.full((4,), 50.0)
    for shift, expected in ((0.0, 1.0), (10.0, 1 / 3), (20.0, 0.0), (40.0, -1 / 3)):
        iou = line_iou(label + shift, label, radius=10, width=100)
        assert float(iou) == pytest.approx(expected, abs=1e-6)


def test_only_rows_count_on_which_the_label_is_in_the_image() -> None:
    label = torch.tensor([NOWHERE, 0.0, 99.0, 100.0])
    predicted = torch.tensor([500.0, 10.0, 99.0, -300.0])
    assert float(line_iou(predicted, label, radius=10, width=100)) == pytest.approx((10 + 20) / (30 + 20))
    assert float(line_iou(predicted, torch.full((4,), NOWHERE), radius=10, width=100)) == 0


def test_aligned_and_pairwise_are_the_same_measure() -> None:
    predicted, labelled = lanes(0, 6), labels(1, 4)
    radii = radii_of(predicted[:, None], labelled[None], 0.01)
    pairs = lane_iou(predicted[:, None], labelled[None], *radii)
    assert pairs.shape == (6, 4)
    assert torch.allclose(pairs.diagonal(), lane_iou(predicted[:4], labelled, *radii_of(predicted[:4], labelled, 0.01)))
    covered = torch.ones(6, 1, 12, dtype=torch.bool)
    pairs = lane_iou_of_ranges(predicted[:, None], labelled[None], *radii, covered)
    assert pairs.shape == (6, 4)


def test_a_band_is_as_wide_across_a_slanted_lane_as_across_an_upright_one() -> None:
    # 45 degrees in the original image: a row further up is a row further right.
    rows, (height, width) = 11, FRAME
    slanted = torch.arange(rows) * height / (rows - 1) / width
    assert torch.allclose(lane_radii(slanted, radius=0.02, frame=FRAME), torch.tensor(0.02 * math.sqrt(2)))
    assert torch.allclose(lane_radii(torch.full((rows,), 0.4), radius=0.02, frame=FRAME), torch.tensor(0.02))


@pytest.mark.parametrize("seed", range(3))
def test_measures_follow_their_rules_row_by_row(seed: int) -> None:
    predicted, labelled = lanes(seed, 7).double(), labels(seed + 50, 5).double()
    row = torch.arange(12)
    covered = (row >= seed) & (row < torch.arange(5, 12)[:, None])
    line = line_iou(predicted[:, None], labelled, radius=0.02, width=1.0)
    radii = radii_of(predicted[:, None], labelled, 0.02)
    lane = lane_iou(predicted[:, None], labelled, *radii)
    ranged = lane_iou_of_ranges(predicted[:, None], labelled, *radii, covered[:, None])
    for p, xs in enumerate(predicted.tolist()):
        widths = half_widths(xs, 0.02, FRAME, math.inf)
        for m, label in enumerate(labelled.tolist()):
            label_widths = half_widths(label, 0.02, FRAME, 1e4)
            straight = [0.02] * 12
            assert float(line[p, m]) == pytest.approx(band_iou(xs, label, straight, straight, 1.0), abs=1e-6)
            assert float(lane[p, m]) == pytest.approx(band_iou(xs, label, widths, label_widths, 1.0), abs=1e-6)
            expected = band_iou(xs, label, widths, label_widths, 1.0, covered[p].tolist())
            assert float(ranged[p, m]) == pytest.approx(expected, abs=1e-6)


def test_gradients_pull_a_lane_towards_its_label_and_are_finite() -> None:
    for measure in (
        lambda x, t: line_iou(x, t, radius=0.02, width=1.0),
        lambda x, t: lane_iou(x, t, *radii_of(x, t, 0.02)),
    ):
        label = torch.tensor([[NOWHERE, 0.5, 0.5, 0.5]])
        predicted = torch.tensor([[0.1, 0.6, 0.6, 0.4]], requires_grad=True)
        (1 - measure(predicted, label)).sum().backward()
        assert predicted.grad is not None
        assert predicted.grad.sign().tolist() == [[0.0, 1.0, 1.0, -1.0]]
        nothing = torch.full((1, 4), NOWHERE)
        predicted.grad = None
        (1 - measure(predicted, nothing)).sum().backward()
        assert torch.equal(predicted.grad, torch.zeros(1, 4))


def upstream_module(repository: str, path: str) -> ModuleType:
    """One file of an upstream checkout that needs nothing but torch."""
    specification = importlib.util.spec_from_file_location("upstream_line_iou", checkout_of(repository) / path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_line_iou_is_upstreams() -> None:
    theirs = upstream_module("CLRNet", "clrnet/models/losses/lineiou_loss.py").line_iou
    predicted, labelled = lanes(3, 30, 72) * 799, labels(4, 5, 72) * 800
    ours = line_iou(predicted[:, None], labelled, radius=15, width=800)
    assert torch.allclose(ours, theirs(predicted, labelled, 800, aligned=False), atol=1e-5)
    aligned = line_iou(predicted[:5], labelled, radius=15, width=800)
    assert torch.allclose(aligned, theirs(predicted[:5], labelled, 800), atol=1e-5)


def test_sums_over_clrernets_own_example_are_the_ones_its_tests_state(clrernet_example: dict[str, Tensor]) -> None:
    # hirotomusiker/CLRerNet, tests/test_core/test_match_costs.py and tests/test_models/test_losses.py, which state these numbers.
    predicted, labelled = clrernet_example["pred"], clrernet_example["target"]
    line = line_iou(predicted[:, None], labelled, radius=15 / 800, width=1.0)
    assert float(line.sum()) == pytest.approx(-366.4133, rel=1e-5)
    radii = radii_of(predicted[:, None], labelled, 7.5 / 800)
    lane = lane_iou(predicted[:, None], labelled, *radii)
    assert float(lane.sum()) == pytest.approx(-342.6832, rel=1e-5)
    assert lane.argmax(dim=0).tolist() == [155, 37, 19]
    strips = predicted.shape[-1] - 1
    first, last = ((clrernet_example[name].reshape(-1) * strips).long()[:, None, None] for name in ("start", "end"))
    row = torch.arange(strips + 1)
    ranged = lane_iou_of_ranges(predicted[:, None], labelled, *radii, (row >= first) & (row < last))
    assert float(ranged.sum()) == pytest.approx(-288.7381, rel=1e-5)
    assert ranged.argmax(dim=0).tolist() == [155, 37, 23]
    aligned = predicted[: len(labelled)]
    loss = (1 - lane_iou(aligned, labelled, *radii_of(aligned, labelled, 7.5 / 800))).mean()
    assert float(loss) == pytest.approx(1.51706361770, rel=1e-5)
    loss = (1 - line_iou(aligned, labelled, radius=15 / 800, width=1.0)).mean()
    assert float(loss) == pytest.approx(1.63517200946, rel=1e-5)


@pytest.fixture
def clrernet_example() -> dict[str, Tensor]:
    with np.load(checkout_of("CLRerNet") / "tests" / "data" / "test_iou_data.npz") as arrays:
        return {name: torch.tensor(arrays[name], dtype=torch.float32) for name in arrays.files}
