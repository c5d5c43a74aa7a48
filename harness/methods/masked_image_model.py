"""Masked image modelling of a convnet, in dense PyTorch: SparK's recipe (Tian et al., ICLR 2023) without sparse convolutions.

The encoder sees the visible units only. Its feature maps are multiplied by the mask after every convolution, pooling and
normalisation, so that nothing leaks into hidden units and nothing of them into visible ones; batch normalisation takes its
statistics over visible positions. At each tap a learned token fills the hidden positions, and a light U-Net decoder predicts the
hidden units' pixels, each unit normalised to mean 0 and variance 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Tap
from harness.errors import InputError

PIXEL_EPSILON = 1e-6
"""Keeps the normalisation of units without contrast finite; keyu-tian/SparK, pretrain/spark.py."""

SPATIAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Modules behind which the map is masked again."""

REFUSED = (nn.GroupNorm, nn.InstanceNorm2d, nn.AdaptiveAvgPool2d, nn.ConvTranspose2d, nn.SyncBatchNorm)
"""Modules that would mix hidden positions into visible ones."""


class Visibility:
    """Which units of each image are visible; gives the mask at any resolution. One is shared by all modules of an encoder."""

    def __init__(self) -> None:
        self.units: Tensor | None = None
        self._at: dict[tuple[int, int], Tensor] = {}

    def show(self, units: Tensor | None) -> None:
        """Set the visible units, bool (B, rows, columns); None shows everything, and the encoder is the plain backbone."""
        self.units = units
        self._at = {}

    def mask(self, like: Tensor) -> Tensor:
        """Ones and zeros (B, 1, H, W) at the resolution and in the dtype of `like`. ValueError if the units don't divide it."""
        assert self.units is not None
        height, width = like.shape[2:]
        if (height, width) not in self._at:
            rows, columns = self.units.shape[1:]
            if height % rows or width % columns:
                raise ValueError(f"{rows} x {columns} units don't divide a map of {height} x {width}")
            enlarged = self.units.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2)
            self._at[height, width] = enlarged.unsqueeze(1).to(like.dtype)
        return self._at[height, width].to(like.dtype)

    def remask(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook: the output, zero at hidden positions."""
        return output if self.units is None else output * self.mask(output)


class VisibleBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with statistics over visible positions. Its input must be zero at hidden ones, and its output is.

    Shares the parameters and buffers of the layer that it takes the place of. With everything visible it is that layer.
    """

    def __init__(self, replaced: nn.BatchNorm2d, visibility: Visibility) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum, replaced.affine)
        self.weight, self.bias = replaced.weight, replaced.bias
        self.running_mean, self.running_var = replaced.running_mean, replaced.running_var
        self.num_batches_tracked = replaced.num_batches_tracked
        self.visibility = visibility

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if self.visibility.units is None:
            return super().forward(input)
        mask = self.visibility.mask(input)
        if not self.training:
            return super().forward(input) * mask
        with torch.autocast(input.device.type, enabled=False):
            output, mean, variance = VisibleNormalization.apply(  # type: ignore[no-untyped-call]
                input.float(), mask.float(), self.weight, self.bias, self.eps
            )
        self._track(mean, variance, mask.sum())
        return cast(Tensor, output).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), momentum)


class VisibleNormalization(torch.autograd.Function):
    """Batch normalisation over the positions where a mask is 1, with the gradient in closed form.

    Autograd through the same sums would take twice the passes over memory, which is what bounds a small convnet on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        """Normalised features; mean and biased variance of the visible positions. `features` are zero where `mask` (B, 1, H, W) is."""
        count = mask.sum()
        mean = features.sum((0, 2, 3)) / count
        variance = (features.square().sum((0, 2, 3)) / count - mean.square()).clamp_min(0.0)
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        output = (features * _per_channel(scale)).addcmul_(mask, _per_channel(bias - mean * scale))
        ctx.save_for_backward(features, mask, mean, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """scale (dy - mean dy - x_hat mean(dy x_hat)) over visible positions: Ioffe and Szegedy 2015, section 3."""
        features, mask, mean, inverse, scale = ctx.saved_tensors
        count = mask.sum()
        gradient = gradients[0] * mask
        total = gradient.sum((0, 2, 3))
        along = ((gradient * features).sum((0, 2, 3)) - mean * total) * inverse
        slope = scale * inverse * along / count
        into = (gradient * _per_channel(scale)).addcmul_(features, _per_channel(-slope))
        into.addcmul_(mask, _per_channel(slope * mean - scale * total / count))
        return into, None, along, total, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def masked_encoder(backbone: nn.Module, name: str) -> Visibility:
    """Make a backbone obey a mask, in place; its state dict stays what it was. Raises InputError for layers that would leak."""
    visibility = Visibility()
    for parent in list(backbone.modules()):
        for child_name, child in list(parent.named_children()):
            plain = type(child) is nn.BatchNorm2d and child.affine and child.track_running_stats
            if isinstance(child, REFUSED) or (isinstance(child, nn.BatchNorm2d) and not plain):
                raise InputError(
                    f"oracle 'mim:{name}': masked image modelling can't keep {type(child).__name__} from mixing hidden and "
                    "visible positions: choose a backbone with plain batch normalisation, such as a ResNet"
                )
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, child_name, VisibleBatchNorm2d(child, visibility))
            elif isinstance(child, SPATIAL):
                child.register_forward_hook(visibility.remask)
    return visibility


class MaskedImageModel(nn.Module):
    """A backbone that obeys a mask, a token a tap, and the decoder.

    Images are normalised floats (B, 3, H, W) whose sides `unit` divides; masks are bool (B, H / unit, W / unit), true where visible.
    """

    def __init__(self, backbone: nn.Module, taps: Sequence[Tap], *, unit: int, width: int, name: str) -> None:
        super().__init__()
        if unit % max(tap.stride for tap in taps):
            raise InputError(f"oracle 'mim:{name}': key 'patch_unit': {unit} isn't a multiple of the deepest stride "
                             f"{max(tap.stride for tap in taps)}: leave it out, or give one that is")  # fmt: skip
        self.backbone = backbone
        self.visibility = masked_encoder(backbone, name)
        self.unit = unit
        self.tokens = nn.ParameterList(nn.init.trunc_normal_(torch.zeros(1, t.channels, 1, 1), std=0.02) for t in taps)
        self.decoder = Decoder(taps, width)

    def features(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        """The taps' features, zero at hidden positions."""
        self.visibility.show(visible)
        try:
            masked = images * self.visibility.mask(images)
            return [feature * self.visibility.mask(feature) for feature in self.backbone(masked)]
        finally:
            self.visibility.show(None)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Normalised pixels of all units, predicted from the visible ones: (B, 3, H, W)."""
        filled = []
        for feature, token in zip(self.features(images, visible), self.tokens, strict=True):
            mask = _enlarged(visible, feature.shape[2], feature.shape[3]).to(feature.dtype)
            filled.append(feature + token.to(feature.dtype) * (1 - mask))
        return cast(Tensor, self.decoder(filled))

    def loss(self, images: Tensor, visible: Tensor) -> Tensor:
        """Mean squared error on the hidden units' normalised pixels. The units' means score 1 but for units without contrast.

        visible: on the host, where it is known without a wait for the device how many units are hidden.
        """
        hidden = (~visible).flatten().nonzero()[:, 0].to(images.device, non_blocking=True)
        visible = visible.to(images.device, non_blocking=True)
        target, _, _ = unit_normalised(images, self.unit)
        errors = unit_means((self(images, visible).float() - target).square(), self.unit)
        return errors.flatten()[hidden].mean()


class Decoder(nn.Module):
    """A U-Net from the deepest tap to the finest, which gives stride x stride pixels a cell there.

    `width` channels at the deepest tap, half as many at each finer one, never fewer than 16.
    """

    def __init__(self, taps: Sequence[Tap], width: int) -> None:
        super().__init__()
        widths = [max(16, width >> step) for step in range(len(taps))][::-1]
        self.laterals = nn.ModuleList(nn.Conv2d(tap.channels, w, 1) for tap, w in zip(taps, widths, strict=True))
        self.reductions = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.blocks = nn.ModuleList(_block(w) for w in widths[:-1])
        self.ratios = [coarse.stride // fine.stride for fine, coarse in pairwise(taps)]
        self.stride = taps[0].stride
        self.pixels = nn.Conv2d(widths[0], 3 * self.stride**2, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of all taps, finest first -> (B, 3, H, W)."""
        x = self.laterals[-1](features[-1])
        for level in reversed(range(len(self.blocks))):
            finer = upsampled(self.reductions[level](x), self.ratios[level])
            x = self.blocks[level](finer + self.laterals[level](features[level]))
        return functional.pixel_shuffle(self.pixels(x), self.stride)


def _block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def upsampled(features: Tensor, ratio: int) -> Tensor:
    """Every cell `ratio` x `ratio` times. Unlike an interpolation, its gradient is deterministic on every device."""
    batch, channels, height, width = features.shape
    repeated = features[:, :, :, None, :, None].expand(batch, channels, height, ratio, width, ratio)
    return repeated.reshape(batch, channels, height * ratio, width * ratio)


def unit_means(pixels: Tensor, unit: int) -> Tensor:
    """The mean over each unit's pixels and colours: (B, 3, H, W) -> (B, 1, H / unit, W / unit)."""
    return functional.avg_pool2d(pixels.mean(1, keepdim=True), unit)


def unit_normalised(pixels: Tensor, unit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of which each unit has mean 0 and variance 1 over its pixels and colours; means and deviations, spread over the units."""
    mean = upsampled(unit_means(pixels, unit), unit)
    centred = pixels - mean
    deviation = upsampled((unit_means(centred.square(), unit) + PIXEL_EPSILON).sqrt(), unit)
    return centred / deviation, mean, deviation


def random_visible(batch: int, units: tuple[int, int], mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Bool (B, rows, columns) with the same number of visible units in every image: at least one, and not all."""
    count = units[0] * units[1]
    visible = min(max(1, count - round(mask_ratio * count)), count - 1)
    ranks = torch.rand(batch, count, generator=generator).argsort(1).argsort(1)
    return (ranks < visible).view(batch, *units)


def _enlarged(visible: Tensor, height: int, width: int) -> Tensor:
    rows, columns = visible.shape[1:]
    return visible.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2).unsqueeze(1)
