"""Did a pre-training learn anything? Reconstruction of held-out images against trivial fills, and the shape of the features."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from detectors.base import normalise
from detectors.meta import Normalisation
from harness.errors import InputError
from harness.files.stored import written_aside
from harness.methods.card import Reconstruction, TapQuality
from harness.methods.masked_image_model import MaskedImageModel, random_visible, unit_means, unit_normalised
from harness.methods.normalization import normalized
from harness.methods.oracle import Oracle
from harness.methods.statistics import SMALLEST_VARIANCE

INPAINTING_RADIUS = 3
"""Neighbourhood of OpenCV's inpainting in pixels, the value of its documentation's examples."""

PICTURE_ROWS = 6
"""Images in the picture of reconstructions."""


@torch.no_grad()
def assess_reconstruction(
    model: MaskedImageModel, normalisation: Normalisation, images: Tensor, mask_ratio: float, picture: Path
) -> Reconstruction:
    """Errors on uint8 RGB images (B, 3, H, W) under a mask that is the same for every oracle; draws them to `picture` (PNG).

    Uses the model as training left it, before its batch normalisation is refitted to unmasked images. Leaves it in eval mode.
    """
    model.eval()
    size = (images.shape[2], images.shape[3])
    units = (size[0] // model.unit, size[1] // model.unit)
    visible = random_visible(len(images), units, mask_ratio, torch.Generator().manual_seed(0)).to(images.device)
    floats = normalise(images, normalisation)
    prediction = model(floats, visible).float()
    target, mean, deviation = unit_normalised(floats, model.unit)
    hidden = (~visible).unsqueeze(1)
    truth = images.float() / 255
    pixels = _to_unit_range(prediction * deviation + mean, normalisation)
    means = _to_unit_range(mean.expand_as(prediction), normalisation)
    fill = inpainted(images, visible, model.unit)

    def error(guess: Tensor, right: Tensor) -> float:
        return float(unit_means((guess - right).square(), model.unit)[hidden].mean())

    filled = unit_normalised(normalise((fill * 255).round(), normalisation), model.unit)[0]
    _draw(picture, truth, [pixels, fill, means], visible, model.unit)
    return Reconstruction(
        images=len(images),
        normalised=error(prediction, target),
        normalised_mean=error(torch.zeros_like(target), target),
        pixels=error(pixels, truth),
        pixels_mean=error(means, truth),
        pixels_fill=error(fill, truth),
        normalised_fill=error(filled, target),
    )


def inpainted(images: Tensor, visible: Tensor, unit: int) -> Tensor:
    """Hidden units of uint8 RGB images filled from around them by OpenCV's inpainting (Telea 2004): (B, 3, H, W) in 0..1."""
    hidden = (~visible).cpu().numpy().astype(np.uint8)
    filled = [
        cv2.inpaint(image, np.kron(units, np.ones((unit, unit), np.uint8)), INPAINTING_RADIUS, cv2.INPAINT_TELEA)
        for image, units in zip(images.permute(0, 2, 3, 1).contiguous().cpu().numpy(), hidden, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).float().to(images.device) / 255


def assess_taps(oracle: Oracle, images: Tensor) -> tuple[TapQuality, ...]:
    """Effective rank and dead channels of each tap on uint8 RGB images (B, 3, H, W)."""
    return tuple(
        TapQuality(
            path=tap.path,
            channels=tap.channels,
            effective_rank=effective_rank(features),
            dead_channels=float(
                (normalized(features, "channel_layernorm").var((0, 2, 3)) < SMALLEST_VARIANCE).float().mean()
            ),
        )
        for tap, features in zip(oracle.taps, oracle(images), strict=True)
    )


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the eigenvalues' shares of the channels' covariance (Roy and Vetterli 2007); (B, C, H, W) features."""
    columns = features.double().transpose(0, 1).flatten(1)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(columns).reshape(len(columns), len(columns))).clamp_min(0.0)
    shares = eigenvalues / eigenvalues.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return float(torch.exp(torch.special.entr(shares).sum()))


def _to_unit_range(floats: Tensor, normalisation: Normalisation) -> Tensor:
    """The inverse of `normalise`, RGB in 0..1."""
    mean = torch.tensor(normalisation.mean, device=floats.device).view(1, 3, 1, 1)
    std = torch.tensor(normalisation.std, device=floats.device).view(1, 3, 1, 1)
    pixels = (floats * std + mean).clamp(0, 1)
    return pixels.flip(1) if normalisation.order == "bgr" else pixels


def _draw(path: Path, truth: Tensor, guesses: list[Tensor], visible: Tensor, unit: int) -> None:
    """Rows of images: original, what the encoder sees, then each guess in the hidden units: reconstruction, inpainting, patch means."""
    mask = visible.repeat_interleave(unit, 1).repeat_interleave(unit, 2).unsqueeze(1)
    seen = torch.where(mask, truth, torch.full_like(truth, 0.5))
    columns = [truth, seen, *(torch.where(mask, truth, guess) for guess in guesses)]
    rows = np.linspace(0, len(truth) - 1, min(PICTURE_ROWS, len(truth))).round().astype(int)
    picture = torch.cat([torch.cat([column[row] for column in columns], 2) for row in rows], 1)
    array = (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    done, encoded = cv2.imencode(".png", cv2.cvtColor(array, cv2.COLOR_RGB2BGR))
    if not done:
        raise InputError(f"{path}: the picture of reconstructions could not be encoded")
    with written_aside(path) as aside:
        aside.write_bytes(encoded.tobytes())
