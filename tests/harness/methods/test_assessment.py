"""The figures of an oracle's card, against their definitions in plain NumPy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from detectors.meta import Normalisation
from harness.methods import assessment
from harness.methods.assessment import assess_reconstruction, assess_taps

UNIT = 8
HIDDEN = np.array([[[True, False, False], [False, True, True]], [[False, False, True], [True, False, False]]])
"""Two images of 2 x 3 units."""

Values = npt.NDArray[np.float64]


class Off(nn.Module):
    """Predicts the true normalised pixels, but for a constant; or, without one, nothing but zeros."""

    unit = UNIT

    def __init__(self, off: float | None) -> None:
        super().__init__()
        self.off = off

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        if self.off is None:
            return torch.zeros_like(images)
        return torch.from_numpy(normal(images.double().numpy())[0] + self.off)


def spread(values: Values) -> Values:
    """A value a unit, (B, rows, columns), over the unit's pixels and colours."""
    return np.kron(values, np.ones((UNIT, UNIT)))[:, None]


def units(pixels: Values) -> Values:
    """The mean over each unit's pixels and colours."""
    batch, _, height, width = pixels.shape
    return pixels.reshape(batch, 3, height // UNIT, UNIT, width // UNIT, UNIT).mean((1, 3, 5))


def normal(floats: Values) -> tuple[Values, Values, Values]:
    """Each unit with mean 0 and variance 1; its mean and its deviation."""
    mean = spread(units(floats))
    deviation = np.sqrt(spread(units((floats - mean) ** 2)) + 1e-6)
    return (floats - mean) / deviation, mean, deviation


def error(guess: Values, right: Values) -> float:
    return float(units((guess - right) ** 2)[HIDDEN].mean())


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("off", [0.25, None])
def test_every_error_of_a_reconstruction_is_its_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, off: float | None
) -> None:
    monkeypatch.setattr(assessment, "random_visible", lambda *given: torch.from_numpy(~HIDDEN))
    normalisation = Normalisation(mean=(0.3, 0.5, 0.6), std=(0.2, 0.25, 0.4), order=order)
    images = np.random.default_rng(0).integers(90, 170, (2, 3, 2 * UNIT, 3 * UNIT)).astype(np.uint8)
    found = assess_reconstruction(
        Off(off), normalisation, torch.from_numpy(images), 0.5, tmp_path / "picture.png"  # type: ignore[arg-type]
    )  # fmt: skip

    mean, std = (np.array(values)[None, :, None, None] for values in (normalisation.mean, normalisation.std))
    turn = slice(None, None, -1 if order == "bgr" else 1)
    truth = images / 255
    floats = (truth[:, turn] - mean) / std
    target, centre, deviation = normal(floats)
    guess = np.zeros_like(target) if off is None else target + off
    inpainted = np.stack(
        [
            cv2.inpaint(np.ascontiguousarray(image.transpose(1, 2, 0)), hidden[0].astype(np.uint8), 3, cv2.INPAINT_TELEA)
            for image, hidden in zip(images, spread(HIDDEN.astype(float)), strict=True)
        ]
    ).transpose(0, 3, 1, 2)  # fmt: skip
    expected = {
        "normalised": error(guess, target),
        "normalised_mean": error(np.zeros_like(target), target),
        "pixels": error(((guess * deviation + centre) * std + mean)[:, turn], truth),
        "pixels_mean": error((centre * std + mean)[:, turn], truth),
        "pixels_fill": error(inpainted / 255, truth),
        "normalised_fill": error(normal((inpainted[:, turn] / 255 - mean) / std)[0], target),
    }
    assert found.images == 2
    assert found.model_dump(exclude={"images"}) == pytest.approx(expected, rel=1e-4)
    if off is not None:
        assert found.normalised == pytest.approx(off**2, rel=1e-4)
    assert found.normalised_mean == pytest.approx(1.0, abs=1e-3)


def test_a_channel_is_dead_where_its_normalised_values_hardly_vary() -> None:
    """Layer normalisation over channels first: values of a common strength that alone varies from cell to cell are dead."""
    random = np.random.default_rng(1)
    strength = random.uniform(1, 9, (2, 1, 4, 4))
    alike = strength * np.array([1.0, -1.0, 2.0, -2.0])[None, :, None, None]
    various = random.normal(size=(2, 4, 4, 4))
    taps = tuple(SimpleNamespace(path=name, channels=4) for name in ("alike", "various"))
    oracle: Any = lambda images: (torch.from_numpy(alike).float(), torch.from_numpy(various).float())  # noqa: E731
    oracle.taps = taps
    alike_found, various_found = assess_taps(oracle, torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    assert (alike_found.dead_channels, various_found.dead_channels) == (1.0, 0.0)
    # One direction holds all of the first tap's variance.
    assert alike_found.effective_rank == pytest.approx(1.0, abs=1e-3)
    assert various_found.effective_rank > 3
