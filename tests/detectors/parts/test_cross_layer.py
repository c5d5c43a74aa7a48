from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detectors.parts.cross_layer import CrossLayerRefinement, MaskDecoder, PerPrior, initial_priors
from detectors.parts.pyramid import FeaturePyramid

NETWORK = (64, 160)
SIZES = [(2, 5), (4, 10), (8, 20)]


def refinement(seed: int = 0) -> CrossLayerRefinement:
    torch.manual_seed(seed)
    return CrossLayerRefinement(NETWORK, SIZES, priors=32, rows=12, samples=6, channels=8, inner=4, grid=(2, 5)).eval()


def pyramid(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 8, *size, generator=generator) for size in reversed(SIZES)]


def test_priors_start_on_the_edges_as_published() -> None:
    # Upstream's 192: y from the bottom, x and angle, in shares.
    priors = initial_priors(192)
    assert priors[:4].tolist() == [
        pytest.approx(row) for row in ([0, 0, 0.16], [0, 0, 0.32], [0.5 / 11, 0, 0.16], [0.5 / 11, 0, 0.32])
    ]
    assert priors[23].tolist() == pytest.approx([0.5, 0, 0.32])
    assert priors[24:29].tolist() == [
        pytest.approx([0, place / 37, angle]) for place, angle in ((1, 0.2), (1, 0.4), (1, 0.6), (1, 0.8), (2, 0.2))
    ]
    assert priors[167].tolist() == pytest.approx([0, 36 / 37, 0.8])
    assert priors[168].tolist() == pytest.approx([0, 1, 0.68])
    assert priors[191].tolist() == pytest.approx([0.5, 1, 0.84])


def test_a_line_rises_at_its_angle_from_where_it_starts() -> None:
    head = refinement()
    start = torch.tensor([[0.25, 0.5, 0.25], [0.0, 0.1, 0.5], [0.5, 0.9, 0.75]])
    lines = head.line(start).numpy() * (NETWORK[1] - 1)
    height = np.arange(12) / 11 * NETWORK[0]
    np.testing.assert_allclose(lines[0], 0.5 * 159 + height - 16, atol=0.02)
    np.testing.assert_allclose(lines[1], np.full(12, 0.1 * 159), atol=0.02)
    np.testing.assert_allclose(lines[2], 0.9 * 159 - (height - 32), atol=0.02)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_maps_are_read_bilinearly_along_priors_and_are_zero_outside(level: int) -> None:
    head = refinement()
    height, width = SIZES[level]
    features = torch.randn(2, 8, height, width, dtype=torch.float64)
    places = torch.rand(2, 32, 6, dtype=torch.float64) * 1.6 - 0.3
    head.double()
    found = head._read(level, features, places)
    depths = 1 - head.sampled.double() / 11
    grid = torch.stack([places, depths.expand(2, 32, 6)], dim=-1) * 2 - 1
    expected = F.grid_sample(features, grid, align_corners=True)
    torch.testing.assert_close(found, expected.transpose(2, 3), atol=1e-6, rtol=1e-6)


def test_reading_has_the_gradient_of_bilinear_sampling() -> None:
    head = refinement()
    features = torch.randn(1, 8, 4, 10, requires_grad=True)
    places = torch.rand(1, 32, 6).requires_grad_()
    weights = torch.randn(1, 8, 6, 32)
    ours = torch.autograd.grad((head._read(1, features, places) * weights).sum(), (features, places))
    depths = 1 - head.sampled.float() / 11
    grid = torch.stack([places, depths.expand(1, 32, 6)], dim=-1) * 2 - 1
    sampled = F.grid_sample(features, grid, align_corners=True).transpose(2, 3)
    theirs = torch.autograd.grad((sampled * weights).sum(), (features, places))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_stage_starts_from_the_line_before_it_and_teaches_it_nothing() -> None:
    head = refinement()
    maps = [m.requires_grad_() for m in pyramid()]
    with torch.no_grad():
        head.changes.bias[:3] = torch.tensor([0.02, 0.03, 0.01])
    lanes = head(maps)
    assert lanes.shape == (2, 3, 32, 18)
    for stage in range(3):
        start = head.priors + (stage + 1) * torch.tensor([0.02, 0.03, 0.01])
        torch.testing.assert_close(lanes[:, stage, :, 2:5], start.expand(2, -1, -1), atol=0.02, rtol=0)
    coarsest = torch.autograd.grad(lanes[:, 2, :, 2:5].sum(), maps, allow_unused=True)
    # The features along a prior reach later stages, the line itself doesn't.
    (priors,) = torch.autograd.grad(head(pyramid())[:, 1, :, 2].sum(), [head.priors], allow_unused=True)
    assert all(gradient is not None for gradient in coarsest)
    assert priors is None or float(priors.abs().max()) < 0.1


def test_priors_have_scales_of_their_own() -> None:
    torch.manual_seed(0)
    module, tokens = PerPrior(5), torch.randn(2, 5, 3)
    expected = F.conv1d(tokens, module.weight, module.bias, groups=5)
    torch.testing.assert_close(module(tokens), expected)


def test_attention_has_no_say_at_first() -> None:
    head = refinement()
    before = head(pyramid())
    with torch.no_grad():
        head.gathering.value.weight.normal_()
        head.gathering.key.conv.weight.normal_()
    assert torch.equal(head(pyramid()), before)


def test_features_without_a_place_in_the_image_leave_outputs_finite() -> None:
    head = refinement()
    with torch.no_grad():
        head.priors[:, 2] = -1e-5 / math.pi  # level: the tangent is zero
    assert torch.isfinite(head(pyramid())[..., :6]).all()


def test_masks_are_those_of_the_joined_maps() -> None:
    torch.manual_seed(0)
    decoder, maps = MaskDecoder(3, 8, 5).eval(), pyramid()
    enlarged = [F.interpolate(m, size=(8, 20), mode="bilinear") for m in reversed(maps)]
    torch.testing.assert_close(decoder(maps), decoder.conv(torch.cat(enlarged, dim=1)), atol=1e-5, rtol=1e-5)


def test_a_finer_map_of_the_pyramid_knows_the_coarser_ones() -> None:
    torch.manual_seed(0)
    neck = FeaturePyramid([3, 4], 2)
    fine, coarse = torch.randn(1, 3, 4, 6), torch.randn(1, 4, 2, 3)
    below = neck.lateral[1](coarse)
    expected = neck.output[0](neck.lateral[0](fine) + below.repeat_interleave(2, 2).repeat_interleave(2, 3))
    found = neck([fine, coarse])
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], neck.output[1](below))
