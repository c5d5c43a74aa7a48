"""The contract of a reference: one upstream model, built from a checkout, that a native detector is compared with.

A reference runs upstream's own code for everything that it returns; the only thing that it may add is the translation of names and of
coordinates. Where upstream's code can't be run, the method raises `Unavailable` with the reason, and the comparison says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from detectors.meta import Form
from detectors.upstream.isolation import Isolation
from harness.lanes import Lane

Frame = npt.NDArray[np.uint8]
"""An image as its file has it: uint8 RGB (H, W, 3)."""

Polyline = npt.NDArray[np.float64]
"""Points (N, 2) of a lane: x and y in pixels."""


class Unavailable(Exception):
    """A part of upstream's code that can't be run here; the message says why, in a clause."""


@dataclass(frozen=True)
class Difference:
    """How ours departs from upstream on purpose in one layer of the comparison.

    why: in whole sentences, for the page of results. within: how far apart the two may then be, in the layer's own measure; None
    where no bound can be given: the layer is shown and not judged. terms: of the losses of a set of labels, those that it is about, all
    where none is named; the others have to agree.
    """

    why: str
    within: float | None = None
    terms: tuple[str, ...] = ()


def resized_otherwise(how: str, within: float) -> Difference:
    """How our images differ from those of an upstream that resizes as `how` says.

    within: of the mean difference in grey levels, on frames of rendered roads.
    """
    ours = "averages whole blocks of pixels first (the JPEG decoder does it where it can) and samples bilinearly then"
    return Difference(f"Upstream resizes {how}. Ours {ours}.", within)


BILINEAR = resized_otherwise("with OpenCV, bilinearly and without a filter", within=2.0)

BICUBIC = resized_otherwise("bicubically (imgaug's default) without a filter", within=6.0)

PILLOW = "with Pillow, whose bilinear filter is as wide as the reduction"
"""How two repositories resize, for `resized_otherwise`; each has a bound of its own."""


class UpstreamModel(ABC):
    """An upstream model in evaluation mode on the CPU, with random weights from torch's global generator.

    `repository` is its key in `detectors.upstream.repositories.REPOSITORIES`. `variants` says which variants and forms there is an
    upstream configuration for. `model` is upstream's module: its `state_dict()` has the names that released checkpoints have.
    `upstream` is the scope in which its code runs. `threshold` is the score that upstream's decoding asks for, at first the published
    one; None where that can't be set.
    """

    repository: ClassVar[str]
    variants: ClassVar[dict[str, tuple[Form, ...]]]
    threshold: float | None = None
    model: nn.Module
    upstream: Isolation

    @abstractmethod
    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        """Build the model from the code in `checkout`, which is read and never written."""


class Reference(UpstreamModel):
    """An upstream model that one of our variants is compared with.

    `differences` are the documented ones, by layer: `image`, `raw NAME`, `lanes`, `lanes as decoded`, `loss NAME`, `gradient`, and
    `losses, SET` for a set of unusual labels (`losses, more lanes than slots`). A comparison sets another `threshold`, so that random
    weights give lanes.
    """

    differences: ClassVar[Mapping[str, Difference]] = {}

    def make_comparable(self) -> None:
        """Change random weights whose outputs would say nothing, all alike or beyond measure. By default they are upstream's own."""

    @abstractmethod
    def prepared(self, frame: Frame) -> Tensor:
        """A frame through upstream's own test pipeline: float (1, 3, h, w), as its model takes it."""

    @abstractmethod
    def normalised(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, h, w) in network pixels -> upstream's float input, by its own mean, deviation and order of channels."""

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """Upstream's own outputs for its float input (B, 3, h, w)."""

    @abstractmethod
    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Upstream's outputs as named tensors, in the shape and order in which `ours` gives them."""

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """What our detector's `forward` gave, as the same named tensors; by default it is them."""
        return dict(outputs)

    @abstractmethod
    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """Upstream's decoding and suppression of a batch: lanes (N, 2) of each image, in pixels of the original frame as upstream
        writes them (no shift by half a pixel is taken out).
        """

    def written(self, lane: Polyline) -> Polyline:
        """A lane (N, 2) that ours decoded, in the convention of coordinates that upstream writes; ours by default.

        Where it is another one, `lanes` compares what this gives, and `lanes as decoded` says how far apart the conventions are.
        """
        return lane

    def drawn(self) -> tuple[Any, Any] | None:
        """The same outputs as upstream's model and as ours give them, of lanes as a trained model shows them, for `lanes`.

        None, the default: the outputs of random weights can be decoded. They can't where each point is the highest of many values
        that are nearly the same.
        """
        return None

    @abstractmethod
    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """Upstream's weighted loss terms, under the names of ours, in training mode without dropout.

        images: upstream's float input. labels: lanes of each image in original pixels, seen without augmentation. Targets are encoded
        by upstream's code where it can be run.
        """


def polylines_of(text: str) -> list[Polyline]:
    """The lanes of a file of CULane's layout: one a line, x and y in turns. Blank lines are none."""
    return [np.array(line.split(), dtype=np.float64).reshape(-1, 2) for line in text.splitlines() if line.strip()]


def needed(module: str, lacking: str) -> ModuleType:
    """A module of upstream's code; `Unavailable`, as `lacking` says ("its encoder needs"), where a package isn't installed for it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{lacking} the package {error.name}") from error
