"""What a finished detector's spatial attention does to pictures: the gates of every stage, and how even they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectors.base import Detector
from harness.methods.attention import StreamAttention, attention_modules
from harness.prediction.frames import Picture


@dataclass(frozen=True, eq=False)
class StageGates:
    """The gates of one stage: `maps` is float32 (N, h, w), one map a picture, each value in (0, highest).

    stage: the path of the tap whose output they multiply. highest: 2 for gate `2sigmoid`, where 1 leaves a feature as it is; 1 for
    `cbam`.
    """

    stage: str
    highest: float
    maps: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evenness:
    """How gates are spread over all places of all pictures. sd_within: over the places of one picture, the root of the mean variance.

    low, high: their 5 % and 95 % quantiles. Where sd is near 0 the gates weigh no place more than another.
    """

    mean: float
    sd: float
    sd_within: float
    low: float
    high: float


def evenness(gates: StageGates) -> Evenness:
    """How the gates of a stage are spread; there is at least one picture."""
    values = gates.maps.astype(np.float64)
    low, high = np.quantile(values, (0.05, 0.95))
    return Evenness(
        mean=float(values.mean()),
        sd=float(values.std()),
        sd_within=sqrt(float(values.var(axis=(1, 2)).mean())),
        low=float(low),
        high=float(high),
    )


def attention_gates(
    detector: Detector, pictures: Sequence[Picture], *, device: torch.device, batch_size: int = 16
) -> list[StageGates]:
    """The gates of every stage on pictures, in the order of the stages; none for a detector without attention.

    Moves the detector to `device`, in eval mode.
    """
    attentions = [module for module in attention_modules(detector) if isinstance(module, StreamAttention)]
    if not attentions:
        return []
    seen: list[list[npt.NDArray[np.float32]]] = [[] for _ in attentions]
    detector.to(device).eval()
    with ExitStack() as hooks, torch.inference_mode():
        for attention, maps in zip(attentions, seen, strict=True):
            hooks.callback(attention.register_forward_hook(_keeper(maps)).remove)
        for start in range(0, len(pictures), batch_size):
            views = np.stack([picture.view for picture in pictures[start : start + batch_size]])
            detector(torch.from_numpy(views).to(device))
    return [
        StageGates(attention.tap.path, attention.amplitude, np.concatenate(maps))
        for attention, maps in zip(attentions, seen, strict=True)
    ]


def _keeper(maps: list[npt.NDArray[np.float32]]) -> Any:
    def keep(module: nn.Module, inputs: Any, gates: Tensor) -> None:
        maps.append(gates[:, 0].float().cpu().numpy())

    return keep
