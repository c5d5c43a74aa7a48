"""Fixed statistics of the regularizer's targets: an artefact of an oracle, the pairs of taps and the input size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from harness.errors import InputError, mending
from harness.files.stored import written_aside
from harness.files.tensors import opened_tensors, write_tensors
from harness.methods.config import RegularizedConfiguration
from harness.methods.normalization import resampled_target
from harness.methods.oracle import Oracle
from harness.methods.pairing import TapPair
from harness.methods.resample import Resampler

SMALLEST_VARIANCE = 1e-4
"""Channels of N(o) that vary less are dropped: standardised they would be noise."""

STATISTICS_IMAGES = 512
"""Statistics are taken over at most this many training images."""


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """Mean and variance of each channel of one pair's target, float32 (D,), over images and positions of the common grid."""

    tap: str
    oracle_tap: str
    mean: Tensor
    variance: Tensor

    @property
    def kept(self) -> Tensor:
        """Which channels vary enough to be a target: bool (D,)."""
        return self.variance >= SMALLEST_VARIANCE

    @property
    def dropped(self) -> int:
        """How many channels do not."""
        return int((~self.kept).sum())


@dataclass(frozen=True, eq=False)
class TargetStatistics:
    """One entry a pair, in the order of the pairs."""

    pairs: tuple[PairStatistics, ...]
    images: int

    def matching(self, pairs: Sequence[TapPair]) -> tuple[PairStatistics, ...]:
        """The entries for these pairs; InputError if they were taken of others."""
        wanted = [(pair.tap.path, pair.oracle_tap.path, pair.oracle_tap.channels) for pair in pairs]
        found = [(one.tap, one.oracle_tap, one.mean.numel()) for one in self.pairs]
        if wanted != found:
            raise InputError(f"target statistics are of the pairs {found}, not of {wanted}: take them anew")
        return self.pairs


def target_statistics(
    oracle: Oracle,
    pairs: Sequence[TapPair],
    configuration: RegularizedConfiguration,
    image_batches: Iterable[Tensor],
) -> TargetStatistics:
    """Statistics of the targets over batches of uint8 RGB images (B, 3, H, W) at the detector's input size, without augmentation.

    The caller gives min(512, all) training images. Raises InputError if there are none.
    """
    resamplers = [Resampler(pair.oracle_grid, pair.common) for pair in pairs]
    sums = [torch.zeros(2, pair.oracle_tap.channels, dtype=torch.float64) for pair in pairs]
    cells = [0] * len(pairs)
    images = 0
    for batch in image_batches:
        images += len(batch)
        features = oracle(batch, configuration.oracle_scale)
        for place, (pair, resampler) in enumerate(zip(pairs, resamplers, strict=True)):
            resampler.to(batch.device)
            kind, gate = configuration.normalize, configuration.oracle_attention
            target = resampled_target(features[pair.index], kind, gate, resampler).double()
            sums[place] += torch.stack([target.sum((0, 2, 3)), target.square().sum((0, 2, 3))]).cpu()
            cells[place] += target.numel() // target.shape[1]
    if images == 0:
        raise InputError("target statistics need at least one training image: the training split is empty")
    moments = [total / count for total, count in zip(sums, cells, strict=True)]
    return TargetStatistics(
        tuple(
            PairStatistics(
                pair.tap.path,
                pair.oracle_tap.path,
                first.float(),
                (second - first.square()).clamp_min(0.0).float(),
            )
            for pair, (first, second) in zip(pairs, moments, strict=True)
        ),
        images,
    )


def save_statistics(statistics: TargetStatistics, path: Path) -> None:
    """Write statistics as a safetensors file, atomically."""
    tensors = {}
    names = {"images": str(statistics.images), "pairs": str(len(statistics.pairs))}
    for place, pair in enumerate(statistics.pairs):
        tensors[f"{place}.mean"], tensors[f"{place}.variance"] = pair.mean, pair.variance
        names[f"{place}.tap"], names[f"{place}.oracle_tap"] = pair.tap, pair.oracle_tap
    with written_aside(path) as aside:
        write_tensors(tensors, aside, names)


def load_statistics(path: Path) -> TargetStatistics:
    """Read what `save_statistics` wrote. Raises InputError for a file that is missing, damaged or something else."""
    try:
        with opened_tensors(path) as stream:
            names = stream.metadata() or {}
            pairs = tuple(
                PairStatistics(
                    names[f"{place}.tap"],
                    names[f"{place}.oracle_tap"],
                    stream.get_tensor(f"{place}.mean"),
                    stream.get_tensor(f"{place}.variance"),
                )
                for place in range(int(names["pairs"]))
            )
            return TargetStatistics(pairs, int(names["images"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        what_to_do = mending(error, "delete its folder, which is made anew")
        raise InputError(f"{path}: not target statistics ({' '.join(str(error).split())}); {what_to_do}") from error
