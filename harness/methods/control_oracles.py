"""Oracles that are controls: the detector's own start, and another oracle that looks at another image."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from detectors.base import Detector, Tap, tap_module
from harness.errors import InputError
from harness.methods.oracle import Oracle
from harness.methods.registration import Grid
from harness.methods.taps import Reader, as_map, read_by, reading, token_shape


class OwnStart(Oracle):
    """A frozen copy of a detector as it starts, which is MIRO's own setting: its taps are the detector's.

    Made of a fresh detector, before a method is attached. Its batch normalisation has the statistics of the start: those of the
    backbone's weights, or 0 and 1 where those are random. It looks at the detector's own size only, for a detector may take no other.
    """

    def __init__(self, detector: Detector) -> None:
        taps = tuple(Tap(tap.path, tap.channels, tap.stride) for tap in detector.taps())
        super().__init__(TapFeatures(copy.deepcopy(detector)), taps, detector.meta.normalisation)

    def forward(self, images: Tensor, scale: float = 1.0) -> tuple[Tensor, ...]:
        """uint8 RGB images (B, 3, H, W) of the detector's size -> one (B, D, H', W') a tap, without gradient."""
        _refuse_scale(scale)
        with torch.no_grad():
            return tuple(self.backbone(images))

    def grids(self, size: tuple[int, int], scale: float = 1.0) -> tuple[Grid, ...]:
        """As of any oracle, at the detector's own size."""
        _refuse_scale(scale)
        return super().grids(size)

    def partner(self, tap: Tap) -> int:
        """The same tap, whatever strides others have."""
        return next(index for index, own in enumerate(self.taps) if own.path == tap.path)


def _refuse_scale(scale: float) -> None:
    if scale != 1.0:
        raise InputError(
            "key 'oracle_scale': an oracle 'init' is the detector itself, which looks at its own size: give 1"
        )


class TapFeatures(nn.Module):
    """A detector as a network that gives the features of all its taps."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.offered = detector.taps()
        self.readers = nn.ModuleList(read_by(Reader(tap.path), tap_module(detector, tap)) for tap in self.offered)

    def forward(self, images: Tensor) -> list[Tensor]:
        """uint8 RGB images (B, 3, H, W) -> one (B, C, H', W') a tap."""
        readers = [reader for reader in self.readers if isinstance(reader, Reader)]
        with reading(readers):
            self.detector(images)
            outputs = [reader.take() for reader in readers]
        size = (images.shape[2], images.shape[3])
        return [as_map(output, tap, token_shape(tap, size)) for output, tap in zip(outputs, self.offered, strict=True)]


class Shuffled(Oracle):
    """An oracle that gives each image of a batch the features of the one before it, the first those of the last.

    A roll, not a draw: no image meets itself, nothing is drawn, and the pairs are the same after a resumption. Whom an image meets
    depends on how a batch is cut into micro-batches, which have to be equal in a pair of records anyway. The target's statistics are
    those of `oracle`: over all images they are the same.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(oracle, oracle.taps, oracle.normalisation, oracle.card)

    @property
    def oracle(self) -> Oracle:
        """The oracle whose features are passed on."""
        return cast(Oracle, self.backbone)

    def forward(self, images: Tensor, scale: float = 1.0) -> tuple[Tensor, ...]:
        """As of the oracle, for images of which there are at least two; InputError for one alone, for it could only meet itself."""
        if len(images) < 2:
            raise InputError(
                "a shuffled oracle needs another image in the batch: give a batch_size (or micro-batch) of at least 2"
            )
        features: tuple[Tensor, ...] = self.oracle(images.roll(1, 0), scale)
        return features

    def grids(self, size: tuple[int, int], scale: float = 1.0) -> tuple[Grid, ...]:
        """As of the oracle."""
        return self.oracle.grids(size, scale)

    def partner(self, tap: Tap) -> int:
        """As of the oracle."""
        return self.oracle.partner(tap)
