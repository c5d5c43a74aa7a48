"""Which of the oracle's taps each tap of a detector is compared with, and on which grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detectors.base import Detector, Tap
from harness.errors import InputError
from harness.methods.config import RegularizedConfiguration
from harness.methods.oracle import Oracle
from harness.methods.registration import Grid
from harness.methods.resample import common_grid
from harness.methods.taps import select_taps, tap_grids


@dataclass(frozen=True)
class TapPair:
    """A detector's tap and the oracle's tap (number `index` of its outputs) that it is compared with.

    `grid` and `oracle_grid` say where their cells lie in the detector's input; `common` is the coarser one, on which they meet.
    """

    tap: Tap
    grid: Grid
    index: int
    oracle_tap: Tap
    oracle_grid: Grid

    @property
    def common(self) -> Grid:
        """The grid of the comparison."""
        return common_grid(self.grid, self.oracle_grid)


def tap_pairs(detector: Detector, oracle: Oracle, configuration: RegularizedConfiguration) -> tuple[TapPair, ...]:
    """The pairs that `configuration` asks for: `paired` with its options. InputError also where taps don't exist or are frozen."""
    taps = select_taps(detector, configuration.taps).used
    return paired(detector, oracle, taps, by=configuration.pair, oracle_scale=configuration.oracle_scale)


def paired(
    detector: Detector,
    oracle: Oracle,
    taps: tuple[Tap, ...],
    *,
    by: Literal["stride", "depth"] = "stride",
    oracle_scale: float = 1.0,
) -> tuple[TapPair, ...]:
    """Each of a detector's taps with the oracle's that it is compared with, in the order of the detector's.

    Costs one forward of a blank image through each network and changes neither. Raises InputError where taps can't be registered with
    each other, or where depths are to be paired and places don't tell which meet: there must be as many
    taps as the oracle has, or all of a detector that has fewer.
    """
    oracle_grids = oracle.grids(detector.configuration.input.network, oracle_scale)
    indices = _by_depth(taps, len(detector.taps()), oracle) if by == "depth" else [oracle.partner(tap) for tap in taps]
    return tuple(
        TapPair(tap, grid, index, oracle.taps[index], oracle_grids[index])
        for tap, grid, index in zip(taps, tap_grids(detector, taps), indices, strict=True)
    )


def _by_depth(taps: tuple[Tap, ...], all_taps: int, oracle: Oracle) -> list[int]:
    if len(taps) > len(oracle.taps) or len(taps) < min(all_taps, len(oracle.taps)):
        raise InputError(
            f"key 'pair': 'depth' needs as many taps as the oracle has, or all of a detector that has fewer, but there are {len(taps)} "
            f"taps of the detector and {len(oracle.taps)} of the oracle: name others under 'taps', or give pair 'stride'"
        )
    return list(range(len(taps)))
