"""Where images take their changes: each in a loader worker, with OpenCV, or many at once on a device, with torch.

Which of the two is a rule and no option: on CUDA devices it is the device, everywhere else the workers. Both sample at the same places
and round once after each change. They differ by one grey level in less than 1 of 200 values after the warp. After a colour matrix,
which OpenCV applies in fixed-point numbers, they differ in 1 of 20, and by two levels at most. Each is deterministic. Releases of
OpenCV that round places to 1/32 of a pixel, as 4.10 does, add up to three levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from harness.pytorch.constants import constant
from harness.training.augmentation import LUMA, WHITE, Change, ReducedImage, inside_frame, planes, view_of

BILINEAR, ZEROS = 0, 0
"""What torch's samplers call linear interpolation and zeros beyond the image: ATen/native/GridSamplerUtils.h of PyTorch."""


class Views(Protocol):
    """How decoded images become the images of a batch, in three stages."""

    def prepared(self, image: ReducedImage, change: Change) -> Any:
        """What a worker makes of one image."""

    def collated(self, prepared: Sequence[Any]) -> dict[str, Tensor]:
        """What the worker that collects a batch makes of its samples; page-locked, perhaps, on its way."""

    def images(self, fields: dict[str, Tensor]) -> Tensor:
        """What the training process makes of that: uint8 RGB (B, 3, H, W)."""


class HostViews:
    """The workers do everything."""

    def prepared(self, image: ReducedImage, change: Change) -> npt.NDArray[np.uint8]:
        """The view, (3, H, W)."""
        return planes(view_of(image, change))

    def collated(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        """The views; in a worker they are stacked right into memory that the training process shares."""
        return {"images": default_collate(list(prepared))}

    def images(self, fields: dict[str, Tensor]) -> Tensor:
        """The views, on the host."""
        return fields["images"]


@dataclass(frozen=True)
class DeviceViews:
    """The workers send decoded images, the device does the rest. network: (height, width) of the views."""

    device: torch.device
    network: tuple[int, int]

    def prepared(self, image: ReducedImage, change: Change) -> tuple[ReducedImage, Change]:
        """Nothing is done yet."""
        return image, change

    def collated(self, prepared: Sequence[tuple[ReducedImage, Change]]) -> dict[str, Tensor]:
        """`pixels` uint8 (B, h, w, 3), smaller images in the upper left corner of black; `sizes` (B, 2), height and width in it.

        `places` float64 (B, 2, 3) leads from a view's pixels to an image's. `prolonged` bool (B,): what lies beyond the image has the
        colour of its edge, else it is black. `kernels` float32 (B, k, k) and `colours` float32 (B, 3, 5), of no effect where a sample
        has none; without kernels in the whole batch k is 1.
        """
        images, changes = zip(*prepared, strict=True)
        places = [image.matrix @ np.linalg.inv(change.geometry.matrix) for image, change in prepared]
        neutral = np.eye(3, 5)
        colours = [neutral if change.colours is None else change.colours for change in changes]
        return {
            "pixels": _padded([image.pixels for image in images]),
            "sizes": torch.tensor([image.pixels.shape[:2] for image in images]),
            "places": torch.from_numpy(np.stack(places)[:, :2]),
            "prolonged": torch.tensor([inside_frame(change.geometry) for change in changes]),
            "kernels": _centred([change.kernel for change in changes]),
            "colours": torch.from_numpy(np.stack(colours).astype(np.float32)),
        }

    def images(self, fields: dict[str, Tensor]) -> Tensor:
        """The views, on the device."""
        moved = {name: fields[name].to(self.device, non_blocking=True) for name in DEVICE_FIELDS}
        first = range(0, len(fields["pixels"]), VIEWS_AT_ONCE)
        parts = ({name: field[at : at + VIEWS_AT_ONCE] for name, field in moved.items()} for at in first)
        return torch.cat([device_views(part, self.network) for part in parts])


DEVICE_FIELDS = ("pixels", "sizes", "places", "prolonged", "kernels", "colours")

VIEWS_AT_ONCE = 32
"""Views are made of so many images at a time: what they take meanwhile isn't in the memory that micro-batches are halved to fit. Of
CULane's frames at 320x1600 it is 35 MB each, 9 GB for a whole batch of UFLDv2's 256."""


def views_on(device: torch.device | None, network: tuple[int, int]) -> Views:
    """Views made on a device; None: in the workers."""
    return HostViews() if device is None else DeviceViews(device, network)


def augmenting_device(device: torch.device) -> torch.device | None:
    """Where a training on `device` makes its views: there if that is a CUDA device, else in the workers."""
    return device if device.type == "cuda" else None


def device_views(fields: dict[str, Tensor], network: tuple[int, int]) -> Tensor:
    """Views, uint8 (B, 3, H, W), of what `DeviceViews.collated` gives, on its device."""
    pixels = fields["pixels"].permute(0, 3, 1, 2).float()
    images = warped_batch(pixels, fields["sizes"], fields["places"], fields["prolonged"], network)
    return recoloured_batch(blurred_batch(images, fields["kernels"]), fields["colours"]).to(torch.uint8)


def warped_batch(images: Tensor, sizes: Tensor, places: Tensor, prolonged: Tensor, network: tuple[int, int]) -> Tensor:
    """`augmentation.warped` of whole grey levels (B, 3, h, w) as floats (see `DeviceViews.collated`): (B, 3, H, W)."""
    height, width = network
    y = torch.arange(height, dtype=torch.float64, device=images.device)[:, None]
    x = torch.arange(width, dtype=torch.float64, device=images.device)
    # In double precision, and as sums of products: a matrix product may be rounded to TF32 on a device.
    across, down = (
        places[:, row, 0, None, None] * x + places[:, row, 1, None, None] * y + places[:, row, 2, None, None]
        for row in (0, 1)
    )
    last = (sizes - 1).double()[:, :, None, None]
    keep = prolonged[:, None, None]
    across = torch.where(keep, torch.minimum(across.clamp(min=0), last[:, 1]), across)
    down = torch.where(keep, torch.minimum(down.clamp(min=0), last[:, 0]), down)
    grid = torch.stack([_normalised(across, images.shape[3]), _normalised(down, images.shape[2])], dim=-1)
    # `F.grid_sample` with zeros beyond the image; on CUDA that would be cuDNN's, which takes batches up to sizes that it doesn't tell.
    return torch.grid_sampler_2d(images, grid.float(), BILINEAR, ZEROS, align_corners=True).round()


def blurred_batch(images: Tensor, kernels: Tensor) -> Tensor:
    """`augmentation.blurred` of whole grey levels (B, 3, H, W) as floats, with kernels (B, k, k)."""
    reach = kernels.shape[-1] // 2
    if not reach:
        return images
    padded = F.pad(images, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    weights = kernels.repeat_interleave(3, dim=0)[:, None]
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        blurred = F.conv2d(padded, weights, groups=len(weights))[0]
    return blurred.view_as(images).round().clamp(0, 255)


def recoloured_batch(images: Tensor, colours: Tensor) -> Tensor:
    """`augmentation.recoloured` of whole grey levels (B, 3, H, W) as floats, with matrices (B, 3, 5)."""
    luma = constant(LUMA, images.device)
    grey = (images.mean(dim=(2, 3)) * luma).sum(dim=1)
    added = colours[:, :, 3] * grey[:, None] + colours[:, :, 4] * WHITE
    channels = [
        (images * colours[:, channel, :3, None, None]).sum(dim=1) + added[:, channel, None, None]
        for channel in range(3)
    ]
    return torch.stack(channels, dim=1).round().clamp(0, 255)


def _normalised(places: Tensor, count: int) -> Tensor:
    """Pixels -> -1 at the first pixel's centre, 1 at the last one's, as `grid_sample` wants it; of one pixel, pixels from -1."""
    return places * (2.0 / max(count - 1, 1)) - 1.0


def _padded(images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    if any(image.shape[:2] != (height, width) for image in images):
        edges = [(height - image.shape[0], width - image.shape[1]) for image in images]
        images = [
            np.pad(one, ((0, down), (0, right), (0, 0))) for one, (down, right) in zip(images, edges, strict=True)
        ]
    stacked: Tensor = default_collate(list(images))
    return stacked


def _centred(kernels: Sequence[npt.NDArray[np.float32] | None]) -> Tensor:
    side = max((len(kernel) for kernel in kernels if kernel is not None), default=1)
    centred = torch.zeros(len(kernels), side, side)
    for place, kernel in zip(centred, kernels, strict=True):
        if kernel is None:
            place[side // 2, side // 2] = 1.0
        else:
            edge = (side - len(kernel)) // 2
            place[edge : side - edge, edge : side - edge] = torch.from_numpy(kernel)
    return centred
