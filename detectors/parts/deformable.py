"""Deformable convolution: Dai et al., ICCV 2017; with a mask: Zhu et al., "Deformable ConvNets v2", CVPR 2019.

Each tap of the kernel reads its own place, which an offset moves away from the grid. The definition, the order of the offsets'
channels and what lies outside the map (zeros) are those of pytorch/vision (BSD-3), torchvision/csrc/ops/cpu/deform_conv2d_kernel.cpp.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_convolution(
    features: Tensor,
    offsets: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Features (B, C, H, W) -> (B, O, h, w), the output size that a convolution of stride 1 with this padding has.

    offsets: (B, 2 * G * K, h, w) in features, of K taps row by row and G groups of channels that move together; the channels are, from
    the outside inwards, group, tap, y and x. mask: (B, G * K, h, w), which multiplies what each tap reads; None is 1. weight:
    (O, C, kernel height, kernel width). All of one dtype. Differentiable in everything, by kernels that are deterministic on CUDA too.
    """
    batch, channels, height, width = features.shape
    taps = weight.shape[2] * weight.shape[3]
    groups = offsets.shape[1] // (2 * taps)
    rows, columns = offsets.shape[-2:]
    # From here on, places come first and channels last, so that a read is a row of memory: (B, h, w, G, K, ...).
    moved = offsets.view(batch, groups, taps, 2, rows, columns).permute(0, 4, 5, 1, 2, 3)
    places = moved + _grid(weight, (rows, columns), padding)[:, :, None]
    (y, y_share), (x, x_share) = (
        _neighbours(place, side) for place, side in zip(places.unbind(-1), (height, width), strict=True)
    )
    shares = (y_share[..., :, None] * x_share[..., None, :]).flatten(-2)
    if mask is not None:
        shares = shares * mask.view(batch, groups, taps, rows, columns).permute(0, 3, 4, 1, 2)[..., None]
    image = torch.arange(batch, device=y.device).view(-1, 1, 1, 1, 1, 1, 1)
    group = torch.arange(groups, device=y.device).view(-1, 1, 1, 1)
    index = (((image * height + y[..., :, None]) * width + x[..., None, :]) * groups + group).flatten(-2)
    table = features.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    read = _weighted_rows(table, index.view(-1, 4), shares.reshape(-1, 4))
    kernel = weight.view(-1, groups, channels // groups, taps).permute(1, 3, 2, 0).reshape(taps * channels, -1)
    output = read.view(-1, taps * channels) @ kernel
    if bias is not None:
        output = output + bias
    return output.view(batch, rows, columns, -1).permute(0, 3, 1, 2)


def _weighted_rows(table: Tensor, index: Tensor, shares: Tensor) -> Tensor:
    """Rows of a table (R, C) at indices (N, 4), summed with their shares (N, 4): (N, C)."""
    if torch.compiler.is_exporting():
        # ONNX has no bags: its translation of them is a loop over every one.
        return (table[index] * shares[..., None]).sum(dim=1)
    # Its gradient is summed in a fixed order, unlike grid_sample's.
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=shares)


def _grid(weight: Tensor, size: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Where the taps read before they are moved: (h, w, K, 2), y and x."""
    sides = [
        torch.arange(count, device=weight.device)[:, None] - start + torch.arange(taps, device=weight.device)
        for count, taps, start in zip(size, weight.shape[2:], padding, strict=True)
    ]
    (rows, columns), (down, across) = size, weight.shape[2:]
    y = sides[0][:, None, :, None].expand(rows, columns, down, across)
    x = sides[1][None, :, None, :].expand(rows, columns, down, across)
    return torch.stack([y, x], dim=-1).flatten(2, 3).to(weight.dtype)


def _neighbours(places: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The two whole coordinates around each place on a side of that length, and their linear shares: (..., 2), both.

    A neighbour beyond the map has no share. Its coordinate is brought inside whatever it was, so that it can be read.
    """
    lower = places.detach().floor()
    share = places - lower
    both = torch.stack([lower, lower + 1], dim=-1)
    inside = (both >= 0) & (both < side)
    # Clamped as whole numbers: what isn't a number has no place to be clamped to, and shows in its share instead.
    return both.long().clamp(0, side - 1), torch.stack([1 - share, share], dim=-1) * inside
