from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.parts.deformable import deformable_convolution
from harness.pytorch.torchvision_guard import ensure_torchvision

SETTINGS: dict[str, dict[str, tuple[int, int]]] = {
    "same size": {"padding": (1, 1)},
    "lower": {"padding": (0, 1)},
    "larger": {"padding": (3, 2)},
}


def drawn(
    settings: dict[str, tuple[int, int]], *, groups: int = 1, kernel: tuple[int, int] = (3, 3), reach: float = 3.0
) -> dict[str, Any]:
    """Random arguments for two maps of 4 channels and 6x7 places, with offsets up to `reach`; double precision."""
    generator = torch.Generator().manual_seed(len(str(settings)) + groups)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1

    features, weight = draw(2, 4, 6, 7), draw(5, 4, *kernel)
    rows, columns = F.conv2d(features, weight, **settings).shape[-2:]
    taps = groups * kernel[0] * kernel[1]
    return {
        "features": features,
        "offsets": reach * draw(2, 2 * taps, rows, columns),
        "mask": draw(2, taps, rows, columns),
        "weight": weight,
        "bias": draw(5),
        **settings,
    }


def read_linearly(map_: np.ndarray, y: float, x: float) -> float:
    """A map's value between its places, which are surrounded by zeros."""
    total = 0.0
    for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < map_.shape[0] and 0 <= column < map_.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * map_[row, column]
    return total


def by_definition(arguments: dict[str, Any]) -> np.ndarray:
    """Equation 1 of the second paper, place by place and tap by tap."""
    features, offsets, weight = (arguments[name].numpy() for name in ("features", "offsets", "weight"))
    padding = arguments.get("padding", (0, 0))
    _, channels, down, across = weight.shape
    groups = offsets.shape[1] // (2 * down * across)
    output = np.zeros((len(features), len(weight), *offsets.shape[-2:]))
    for b, o, y, x in np.ndindex(*output.shape):
        total = arguments["bias"][o].item()
        for c, i, j in np.ndindex(channels, down, across):
            tap = (c // (channels // groups)) * down * across + i * across + j
            row = y - padding[0] + i + offsets[b, 2 * tap, y, x]
            column = x - padding[1] + j + offsets[b, 2 * tap + 1, y, x]
            share = 1.0 if arguments["mask"] is None else arguments["mask"][b, tap, y, x].item()
            total += weight[o, c, i, j] * share * read_linearly(features[b, c], row, column)
        output[b, o, y, x] = total
    return output


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_what_the_papers_equation_says(settings: dict[str, tuple[int, int]], groups: int) -> None:
    arguments = drawn(settings, groups=groups)
    np.testing.assert_allclose(deformable_convolution(**arguments).numpy(), by_definition(arguments), atol=1e-12)


def test_kernels_may_be_of_one_row_and_without_a_mask() -> None:
    arguments = drawn({"padding": (0, 2)}, kernel=(1, 5)) | {"mask": None}
    np.testing.assert_allclose(deformable_convolution(**arguments).numpy(), by_definition(arguments), atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_without_offsets_it_is_a_convolution(settings: dict[str, tuple[int, int]]) -> None:
    arguments = drawn(settings)
    arguments |= {"offsets": torch.zeros_like(arguments["offsets"]), "mask": torch.ones_like(arguments["mask"])}
    expected = F.conv2d(arguments["features"], arguments["weight"], arguments["bias"], **settings)
    torch.testing.assert_close(deformable_convolution(**arguments), expected)


def test_offsets_are_down_and_then_to_the_right() -> None:
    features = torch.arange(12.0).view(1, 1, 3, 4)
    offsets = torch.zeros(1, 2, 3, 4)
    offsets[0, 0] = 1.0
    down = deformable_convolution(features, offsets, None, torch.ones(1, 1, 1, 1))
    assert down[0, 0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 0, 0, 0]]
    right = deformable_convolution(features, offsets.flip(1), None, torch.ones(1, 1, 1, 1))
    assert right[0, 0].tolist() == [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]


def test_what_lies_beyond_the_map_is_zero_and_fades_out_over_one_place() -> None:
    features, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    for offset, value in ((-2.0, 0.0), (-1.0, 0.0), (-0.75, 0.25), (0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1e9, 0.0)):
        offsets = torch.tensor([0.0, offset]).view(1, 2, 1, 1)
        assert deformable_convolution(features, offsets, None, weight).item() == value


def test_gradients_are_those_of_the_function() -> None:
    arguments = drawn({"padding": (1, 1)}, groups=2, reach=1.3)
    names = ("features", "offsets", "mask", "weight", "bias")
    settings = {name: value for name, value in arguments.items() if name not in names}
    leaves = [arguments[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *values: deformable_convolution(**dict(zip(names, values, strict=True)), **settings),
        leaves,
        fast_mode=True,
    )


def test_offsets_that_are_no_numbers_show_at_their_place_alone() -> None:
    arguments = drawn(SETTINGS["same size"])
    expected = deformable_convolution(**arguments)
    arguments["offsets"][1, 4, 2, 3] = math.nan
    output = deformable_convolution(**arguments)
    spoilt = torch.zeros_like(output, dtype=torch.bool)
    spoilt[1, :, 2, 3] = True
    assert torch.equal(output.isnan(), spoilt)
    torch.testing.assert_close(output[~spoilt], expected[~spoilt])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_it_is_torchvisions_operator(settings: dict[str, tuple[int, int]]) -> None:
    ensure_torchvision()
    from torchvision.ops import deform_conv2d

    arguments = drawn(settings, groups=2)
    names = ("features", "offsets", "weight", "bias")
    try:
        expected = deform_conv2d(*(arguments[name] for name in names), **settings, mask=arguments["mask"])
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torchvision's compiled operators don't load here: {error}")
    torch.testing.assert_close(deformable_convolution(**arguments), expected)
