"""An oracle's card: where it comes from, and whether it learned anything. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from detectors.meta import Normalisation


class Part(BaseModel):
    """Base: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TapQuality(Part):
    """One tap's features of held-out images.

    effective_rank: exp of the entropy of the shares of variance of the principal components; 1 is collapsed, `channels` is the most.
    dead_channels: share of channels whose variance after layer normalisation is below the 1e-4 at which targets are dropped.
    """

    path: str
    channels: int
    effective_rank: float
    dead_channels: float


class Reconstruction(Part):
    """Mean squared errors on the hidden units of held-out images under a fixed mask.

    normalised: in pixels of which each unit has mean 0 and variance 1; `normalised_mean` is what the units' means score, which is 1
    but for units without any contrast. pixels: in units of the pixel range 0 to 1, the prediction brought back with each hidden unit's
    true mean and deviation, as pictures of masked image modelling are; `pixels_fill` is what OpenCV's inpainting (Telea) scores, which
    has neither. `normalised_fill` is what inpainting scores in the units of `normalised`, each of its units normalised as the truth's.
    """

    images: int
    normalised: float
    normalised_mean: float
    pixels: float
    pixels_mean: float
    pixels_fill: float
    normalised_fill: float | None = None


class OracleCard(Part):
    """All that is known of an oracle's weights.

    data: what it was pre-trained on. drawn_apart: whether its first weights are none that a detector starts with; older cards don't
    have it, and their oracles began as a detector on their backbone does at that seed. losses: mean training loss of each tenth of the
    steps. checks: by name, whether each passed. probe: what `oracle pretrain --check` found, None until it was run.
    """

    name: str
    backbone: str
    sha256: str = ""
    licence: str = "the project's own"
    configuration: dict[str, Any]
    data: dict[str, Any]
    seed: int
    drawn_apart: bool = False
    steps: int
    threads: int
    device: str
    torch: str
    seconds: float
    normalisation: Normalisation
    losses: tuple[float, ...] = ()
    reconstruction: Reconstruction | None = None
    taps: tuple[TapQuality, ...]
    checks: dict[str, bool]
    probe: dict[str, Any] | None = None


def card_path(weights: Path) -> Path:
    """Where the card of the oracle in `weights` lies."""
    return weights.with_suffix(".json")


def picture_path(weights: Path) -> Path:
    """Where the picture of its reconstructions lies."""
    return weights.with_suffix(".png")


def curve_path(weights: Path) -> Path:
    """Where the picture of its training loss lies."""
    return weights.with_suffix(".loss.png")
