from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbones import build_backbone
from detectors.base import Tap
from harness.errors import InputError
from harness.methods.pairing import TapPair
from harness.methods.registration import Axis, Grid, Lattice, PixelTracer, grid_of, merged, traced
from harness.methods.resample import Resampler, axis_matrix, common_grid


def lattices(network: nn.Module, size: tuple[int, int] = (128, 320)) -> list[Lattice | None]:
    images = torch.zeros(1, 3, *size)
    tracer = PixelTracer(images)
    with torch.no_grad(), tracer:
        features = network.eval()(images)
    return [tracer.lattice(feature) for feature in features]


def test_cells_of_a_resnet_are_centred_at_multiples_of_the_stride() -> None:
    assert lattices(build_backbone("resnet18")) == [Lattice((s, s), (0, 0)) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize(
    ("model", "offsets"),
    [("convnextv2_atto", [1.5, 3.5, 7.5, 15.5]), ("dla34", [0, 0, 0, 0])],
)
def test_cells_of_other_networks_are_centred_where_the_method_says(model: str, offsets: list[float]) -> None:
    from harness.pytorch.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    import timm

    indices = (2, 3, 4, 5) if model == "dla34" else (0, 1, 2, 3)
    network = timm.create_model(model, pretrained=False, features_only=True, out_indices=indices)
    assert lattices(network) == [Lattice((s, s), (o, o)) for s, o in zip((4, 8, 16, 32), offsets, strict=True)]


class Chain(nn.Module):
    """Any chain of layers; gives the last output."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.layers(x)]


class Pad(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 2, 3, 0))


class Resize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear")


LAYERS: list[Any] = [
    lambda: nn.Conv2d(3, 3, 3, 2, padding=1, bias=False),
    lambda: nn.Conv2d(3, 3, (3, 5), (1, 2), padding=(1, 2), bias=False),
    lambda: nn.Conv2d(3, 3, 3, dilation=2, bias=False),
    lambda: nn.Conv2d(3, 3, 4, padding="same", bias=False, dilation=2),
    lambda: nn.Conv2d(3, 3, 2, 2, bias=False),
    lambda: nn.AvgPool2d(2),
    lambda: nn.AvgPool2d(3, 2, 1),
    Pad,
    Resize,
    nn.ReLU,
]


def check_centroid(network: nn.Module) -> None:
    """With equal positive weights a cell's gradient is symmetric around its centre: that is where it lies."""
    network = network.double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    images = torch.ones(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    tracer = PixelTracer(images)
    with tracer:
        (output,) = network(images)
    lattice = tracer.lattice(output)
    assert lattice is not None
    row, column = output.shape[2] // 2, output.shape[3] // 2
    (gradient,) = torch.autograd.grad(output[0, :, row, column].sum(), images)
    weight = gradient.sum((0, 1))
    places = torch.arange(96, dtype=torch.float64)
    centre = (
        float((weight.sum(1) * places).sum() / weight.sum()),
        float((weight.sum(0) * places).sum() / weight.sum()),
    )
    expected = (lattice.offset[0] + lattice.stride[0] * row, lattice.offset[1] + lattice.stride[1] * column)
    assert centre == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(range(len(LAYERS))), min_size=1, max_size=4))
def test_a_cell_lies_at_the_centroid_of_the_pixels_it_sees(picked: list[int]) -> None:
    check_centroid(Chain(*[LAYERS[index]() for index in picked]))


class PadColumns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (3, 0))


@pytest.mark.parametrize("layer", [PadColumns, lambda: nn.Conv2d(3, 3, 4, padding="same", bias=False)])
def test_cells_of_padded_columns_and_of_kernels_without_a_middle_lie_at_their_centroid(layer: Any) -> None:
    check_centroid(Chain(layer()))


def test_a_wrongly_stated_stride_is_refused() -> None:
    with pytest.raises(InputError, match="states stride 4, but its cells lie 8 x 8 px apart"):
        grid_of(Lattice((8, 8), (0, 0)), (4, 4), stride=4, name="tap 'a'")
    with pytest.raises(InputError, match="could not be traced"):
        grid_of(None, (4, 4), stride=4, name="tap 'a'")


def linear_ramp(grid: Grid) -> Tensor:
    """The image coordinates y and x at the cells' centres, as a feature map of two channels."""
    rows = grid.rows.offset + grid.rows.stride * torch.arange(grid.rows.count, dtype=torch.float64)
    columns = grid.columns.offset + grid.columns.stride * torch.arange(grid.columns.count, dtype=torch.float64)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None].float()


def axes(size: int = 320) -> st.SearchStrategy[Axis]:
    strides = st.sampled_from([4, 8, 16, 32, 14])
    return strides.flatmap(
        lambda s: st.sampled_from([0.0, (s - 1) / 2, s - 1.0, s / 3]).map(lambda o: Axis(size // s, float(s), o))
    )


@settings(max_examples=100, deadline=None)
@given(axes(), axes())
def test_linear_functions_come_through_resampling_exactly(source: Axis, target: Axis) -> None:
    matrix = axis_matrix(source, target)
    centres = source.offset + source.stride * np.arange(source.count)
    wanted = target.offset + target.stride * np.arange(target.count)
    assert matrix.sum(1) == pytest.approx(1.0)
    # Beyond the outermost centres the value there holds on.
    assert matrix @ centres == pytest.approx(np.clip(wanted, centres[0], centres[-1]), abs=1e-9)
    assert np.abs(matrix).max() <= 1.5


def test_a_convnext_and_a_resnet_meet_at_the_same_places() -> None:
    resnet = Grid(Axis(8, 16, 0.0), Axis(20, 16, 0.0))
    convnext = Grid(Axis(32, 4, 1.5), Axis(80, 4, 1.5))
    assert common_grid(convnext, resnet) is resnet
    # Of cells, not of rows.
    wide = Grid(Axis(4, 32, 0.0), Axis(80, 4, 0.0))
    assert common_grid(resnet, wide) is resnet
    assert common_grid(wide, resnet) is resnet
    # Of equally many the detector's, whose features are then compared where they are.
    vit = Grid(Axis(8, 16, 7.5), Axis(20, 16, 7.5))
    assert common_grid(vit, resnet) is vit
    assert TapPair(Tap("a", 8, 16), resnet, 0, Tap("b", 8, 16), vit).common is resnet
    moved = Resampler(convnext, resnet)(linear_ramp(convnext))
    # Row and column 0 of the ResNet lie outside the outermost ConvNeXt centres, 1.5 px away.
    torch.testing.assert_close(moved[:, :, 1:, 1:], linear_ramp(resnet)[:, :, 1:, 1:])
    plain = functional.interpolate(linear_ramp(convnext), (8, 20), mode="bilinear", antialias=True)
    assert float((plain - linear_ramp(resnet)).abs().min()) > 5.0


def test_equal_grids_are_left_alone_and_fine_patterns_do_not_alias() -> None:
    grid = Grid(Axis(8, 8, 0.0), Axis(16, 8, 0.0))
    features = torch.randn(1, 3, 8, 16)
    assert Resampler(grid, grid)(features) is features
    fine, coarse = Axis(64, 4, 0.0), Axis(8, 32, 0.0)
    stripes = (-1.0) ** np.arange(64)
    assert np.abs(axis_matrix(fine, coarse) @ stripes)[1:-1].max() < 1e-9


def test_a_scaled_grid_lies_where_the_full_image_says() -> None:
    # Half resolution: pixel i of the small image covers pixels 2i and 2i + 1, so it is centred at 2i + 0.5.
    grid = Grid(Axis(4, 1.0, 0.0), Axis(4, 1.0, 0.0)).scaled(0.5)
    assert grid.rows == Axis(4, 2.0, 0.5)


def test_a_toy_oracle_on_patches_is_registered(toy: ModuleType) -> None:
    grids = toy.oracle().grids(toy.SIZE)
    assert grids[0] == Grid(Axis(8, 4, 1.5), Axis(16, 4, 1.5))
    assert grids[1] == Grid(Axis(4, 8, 3.5), Axis(8, 8, 3.5))
    assert toy.oracle().grids(toy.SIZE, 0.5)[0] == Grid(Axis(4, 8, 3.5), Axis(8, 8, 3.5))


def test_every_other_cell_of_any_layout_lies_where_it_was_taken() -> None:
    images = torch.zeros(1, 3, 32, 64)
    tracer, sliced = traced(lambda x: x[:, :, 1::4, 1::4], images)
    lattice = tracer.lattice(sliced)
    assert lattice == Lattice((4, 4), (1, 1))
    tracer, sliced = traced(lambda x: x.permute(0, 2, 3, 1)[:, ::2, ::2, :2], images)
    assert tracer.lattice(sliced) == Lattice((2, 2), (0, 0))


def test_merged_neighbours_lie_at_their_centre_and_other_counts_are_left() -> None:
    lattice = Lattice((4, 4), (1.5, 1.5))
    assert merged(lattice, (8, 16), (64, 128)) == Lattice((8, 8), (3.5, 3.5))
    assert merged(lattice, (16, 32), (64, 128)) == lattice
    assert merged(lattice, (8, 32), (64, 128)) == lattice
    # 7 of 16 are fewer, but no pair of them.
    assert merged(lattice, (7, 14), (64, 128)) == lattice
    # A side that is no multiple of the stride has one cell more.
    assert merged(lattice, (9, 17), (66, 130)) == Lattice((8, 8), (3.5, 3.5))
    # An odd count is padded before it is merged.
    assert merged(lattice, (8, 16), (60, 128)) == Lattice((8, 8), (3.5, 3.5))
    # Cells that all lie at one place, as a map of one cell that corners are aligned to, have no neighbours.
    assert merged(Lattice((0, 0), (0, 0)), (16, 32), (64, 128)) == Lattice((0, 0), (0, 0))


@pytest.mark.parametrize("size", [(7, 15), (8, 20), (1, 40)])
@pytest.mark.parametrize("aligned", [False, True])
def test_cells_of_an_interpolation_lie_where_it_takes_the_places_of_its_source(
    aligned: bool, size: tuple[int, int]
) -> None:
    images = torch.zeros(1, 3, 32, 80)
    tracer, out = traced(
        lambda x: functional.interpolate(
            functional.conv2d(x, torch.ones(1, 3, 8, 8), stride=8), size, mode="bilinear", align_corners=aligned
        ),
        images,
    )
    lattice = tracer.lattice(out)
    assert lattice is not None
    places = 8 * torch.arange(10.0) + 3.5
    seen = functional.interpolate(places.expand(1, 1, 4, 10), size, mode="bilinear", align_corners=aligned)[0, 0, 0]
    told = lattice.offset[1] + lattice.stride[1] * torch.arange(float(size[1]))
    # Beyond the outermost centres of the source interpolation repeats them.
    inside = (seen > places[0]) & (seen < places[-1])
    assert inside.sum() > size[1] // 2
    torch.testing.assert_close(told[inside], seen[inside])


def test_a_tap_behind_an_interpolation_of_aligned_corners_is_refused() -> None:
    """Its cells lie 3.7 px apart where the shape says 4: half a cell aside at the edges."""
    tracer, out = traced(
        lambda x: functional.interpolate(
            functional.conv2d(x, torch.ones(1, 3, 8, 8), stride=8), scale_factor=2, mode="bilinear", align_corners=True
        ),
        torch.zeros(1, 3, 64, 64),
    )
    with pytest.raises(InputError, match=r"lie 3\.73333 x 3\.73333 px apart"):
        grid_of(tracer.lattice(out), (16, 16), stride=4, name="tap")
