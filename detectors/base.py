"""The contract between the harness and a lane detector.

An adapter is one `nn.Module` in one file. The harness calls it in this order: `encode_targets` in loader workers, `forward` and
`losses` in training, `forward` and `decode` in evaluation. Methods such as SAMIRO know it only through `taps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar, final

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from detectors.meta import Configuration, Data, DetectorMeta, Form, Normalisation
from harness.files.validation import validated
from harness.lanes import Geometry, Lane, plain_geometry
from harness.pytorch.constants import constant

Options = TypeVar("Options", bound=Data)


@dataclass(frozen=True)
class Tap:
    """One backbone stage whose output a method may read or replace.

    path: dotted path of the stage's module inside the detector. channels, stride: of its output. layout: `nchw`, `nhwc` or `tokens`
    (B, N, C) with `prefix_tokens` leading tokens that have no place in the image. trainable: False where the recipe freezes the stage.
    The module must be called exactly once in a forward.
    """

    path: str
    channels: int
    stride: int
    layout: Literal["nchw", "nhwc", "tokens"] = "nchw"
    prefix_tokens: int = 0
    trainable: bool = True


@dataclass(frozen=True, eq=False)
class Batch:
    """One training batch.

    images: uint8 RGB (B, 3, H, W) in network pixels, after geometry and augmentation. targets: what `encode_targets` gave, stacked to
    (B, ...). lanes: float32 (B, M, P, 2) in network pixels, NaN where there is none; lane_counts: int64 (B,); point_counts: int64
    (B, M). geometries and ids: one a sample, on the host.
    """

    images: Tensor
    targets: dict[str, Tensor]
    lanes: Tensor
    lane_counts: Tensor
    point_counts: Tensor
    geometries: tuple[Geometry, ...]
    ids: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            targets={name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
            lanes=self.lanes.to(device, non_blocking=True),
            lane_counts=self.lane_counts.to(device, non_blocking=True),
            point_counts=self.point_counts.to(device, non_blocking=True),
        )


class Detector(nn.Module, ABC):
    """Base of all detector adapters.

    `metas` names the variants that the file offers, by name; `architecture` is the model of their architecture options.
    `__init__` takes one of them (perhaps overridden by a suite) and the dataset form, and draws every random weight from torch's
    global generator, which the harness seeds. `checkpoint_names` says how names in upstream's checkpoints become names of this
    detector's state dict: pairs of a regular expression and what it is replaced with (`re.sub`), all applied in their order.
    `checkpoint_spare` are regular expressions of upstream's entries that have no place here, because they are constants, follow from
    others, or are never used.
    `backbone_path` is the submodule that pre-trained weights go into: what `build_backbone` gave, or a network of the adapter's own.
    """

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]]
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    checkpoint_spare: ClassVar[tuple[str, ...]] = ()
    backbone_path: ClassVar[str] = "backbone"

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        super().__init__()
        self.meta = meta
        self.form: Form = form

    @classmethod
    def origin(cls) -> dict[str, str] | None:
        """What a cell's identity says of code from outside that the adapter runs; None where it runs none."""
        return None

    @property
    def configuration(self) -> Configuration:
        """Input, architecture and recipe for this detector's dataset form."""
        if "form" not in vars(self):
            # An AttributeError in here would be told of `configuration` itself.
            raise RuntimeError(f"{type(self).__name__}.__init__ has to begin with super().__init__(meta, form)")
        return self.meta.configurations[self.form]

    @final
    def options_of(self, architecture: type[Options]) -> Options:
        """The options of the configuration's architecture as that model. InputError where one is unknown or impossible."""
        where = f"detector {self.meta.name}, architecture for {self.form}"
        return validated(architecture, self.configuration.architecture, where=where)

    @abstractmethod
    def taps(self) -> tuple[Tap, ...]:
        """The backbone's stages, in the order in which they run."""

    @abstractmethod
    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """Labels of one image (original pixels, near to far) -> arrays of fixed shape and dtype. Any set of lanes is valid input.

        Runs in loader workers: no torch, no device, no randomness.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """uint8 RGB (B, 3, H, W) -> the detector's own outputs. Normalisation is part of it."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Scalar loss terms by name, already weighted: their sum is what is minimised. Finite also for a batch without any lane."""

    @abstractmethod
    def decode(self, outputs: Any, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """Outputs of a batch -> lanes of each image, in its original pixels, near to far, every lane with a score in [0, 1].

        Lanes are thresholded at `configuration.recipe.confidence_threshold` and have at least two points.
        """

    @final
    def geometry_of(self, original: tuple[int, int]) -> Geometry:
        """How a frame of size `original` (height, width) enters this detector without augmentation."""
        size = self.configuration.input
        return plain_geometry(original, size.crop_of(original), size.network)


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """uint8 RGB (B, 3, H, W) -> normalised floats of the same shape, channels in the normalisation's order."""
    if normalisation.order == "bgr":
        images = images.flip(1)
    mean = constant(normalisation.mean, images.device).view(1, 3, 1, 1)
    std = constant(normalisation.std, images.device).view(1, 3, 1, 1)
    # In place: three more maps of the images' size would cost more than the arithmetic.
    return images.to(torch.float32, copy=True).div_(255.0).sub_(mean).div_(std)


def tap_module(detector: nn.Module, tap: Tap) -> nn.Module:
    """The module that a tap names; AttributeError names the path where it doesn't exist."""
    try:
        return detector.get_submodule(tap.path)
    except AttributeError as error:
        raise AttributeError(f"tap {tap.path!r}: {type(detector).__name__} has no such module: {error}") from error


def stack_targets(targets: Sequence[dict[str, npt.NDArray[Any]]]) -> dict[str, Tensor]:
    """Targets of single samples -> tensors with a batch dimension in front; in a loader worker they lie in shared memory."""
    stacked: dict[str, Tensor] = default_collate(list(targets))
    return stacked
