from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectors.parts.self_attention import AttentivePyramid, SelfAttention

GRID = (3, 5)


def attention(seed: int = 0, share: float = 0.7) -> SelfAttention:
    torch.manual_seed(seed)
    layer = SelfAttention(6, 8, GRID).eval()
    nn.init.constant_(layer.share, share)
    return layer


def test_places_are_those_of_vaswani_counted_from_one() -> None:
    found = attention().get_buffer("positions")[0]
    assert found.shape == (8, *GRID)
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            for axis, place in enumerate((y + 1, x + 1)):
                for index in range(4):
                    angle = place / 10000 ** (2 * (index // 2) / 4)
                    expected = math.cos(angle) if index % 2 else math.sin(angle)
                    assert float(found[4 * axis + index, y, x]) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_every_place_gathers_what_resembles_it() -> None:
    layer, features = attention(), torch.randn(2, 6, *GRID)
    placed = layer.before(features) + layer.get_buffer("positions")
    gathered = torch.zeros_like(placed)
    cells = [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]
    query, key, value = layer.query(placed), layer.key(placed), layer.value(placed)
    for image in range(2):
        for y, x in cells:
            scores = torch.stack([(query[image, :, y, x] * key[image, :, v, u]).sum() for v, u in cells])
            for weight, (v, u) in zip(scores.softmax(0), cells, strict=True):
                gathered[image, :, y, x] += weight * value[image, :, v, u]
    torch.testing.assert_close(layer(features), layer.after(0.7 * gathered + placed))


@torch.no_grad()
def test_at_first_nothing_is_gathered() -> None:
    torch.manual_seed(0)
    layer, features = SelfAttention(6, 8, GRID).eval(), torch.randn(1, 6, *GRID)
    placed = layer.before(features) + layer.get_buffer("positions")
    torch.testing.assert_close(layer(features), layer.after(placed))


@torch.no_grad()
def test_a_pyramid_gives_the_levels_that_are_asked_for_with_coarser_ones_added() -> None:
    torch.manual_seed(0)
    pyramid = AttentivePyramid((4, 5, 6), 7, 8, GRID, (0, 1)).eval()
    features = [torch.randn(2, 4, 12, 20), torch.randn(2, 5, 6, 10), torch.randn(2, 6, *GRID)]
    coarse = pyramid.lateral[2](pyramid.attention(features[2]))
    middle = pyramid.lateral[1](features[1]) + F.interpolate(coarse, scale_factor=2.0)
    fine = pyramid.lateral[0](features[0]) + F.interpolate(middle, scale_factor=2.0)
    found = pyramid(features)
    torch.testing.assert_close(found[0], pyramid.output["0"](fine))
    torch.testing.assert_close(found[1], pyramid.output["1"](middle))
    assert list(pyramid.output) == ["0", "1"]
