"""Whether a method gains more in one row of a detector than in another: differences of gains, with the intervals of gains.

That one of two gains is separated from zero and the other isn't says nothing of this: the difference has noise of its own (Gelman and
Stern, The American Statistician 60, 2006). The rows are those of one paper's detector: on several backbones, or those that a suite
makes of one adapter, as with two schedules.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.report.arms import Arm
from harness.report.estimates import Estimates, difference
from harness.report.rows import ArmEstimates, Difference, Gain, ScoredArms, differences_of, sd_of_headline
from harness.report.summary import paper_of


@dataclass(frozen=True, eq=False)
class Contrast:
    """A method's gain in one row of a detector minus its gain in another, one difference a column, over the seeds that both have."""

    gain: Gain
    other: Gain
    seeds: tuple[int, ...]
    differences: tuple[Difference | None, ...]

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the headline difference over the seeds."""
        return sd_of_headline(self.differences)


def contrasts_of(gains: Mapping[Arm, Gain], scored: ScoredArms, estimates: ArmEstimates) -> tuple[Contrast, ...]:
    """Every pair of gains of one method in two rows of a paper's detector: the one that stands later by `place_of` less the other."""
    alike: dict[tuple[str, str], list[Gain]] = defaultdict(list)
    for arm, gain in gains.items():
        alike[paper_of(gain), arm.full_method].append(gain)
    found = []
    for _, same in sorted(alike.items()):
        for other, gain in combinations(sorted(same, key=place_of), 2):
            if gain.arm.detector != other.arm.detector:
                found.append(contrast_of(gain, other, scored, estimates))
    return tuple(found)


def place_of(gain: Gain) -> tuple[bool, list[tuple[int, str]]]:
    """Rows that go by an adapter's own name first, then by name, resnet18 before resnet101."""
    name = gain.arm.detector
    parts = re.split(r"0*(\d+)", name)
    return name != gain.arm.adapter, [(len(part) if place % 2 else 0, part) for place, part in enumerate(parts)]


def contrast_of(gain: Gain, other: Gain, scored: ScoredArms, estimates: ArmEstimates) -> Contrast:
    """The difference of two gains in every column."""
    seeds = tuple(seed for seed in gain.seeds if seed in other.seeds)
    ours, theirs = (gain_estimates(one, seeds, scored, estimates) for one in (gain, other))
    return Contrast(gain, other, seeds, differences_of(ours, theirs))


def gain_estimates(
    gain: Gain, seeds: Sequence[int], scored: ScoredArms, estimates: ArmEstimates
) -> list[Estimates | None]:
    """A gain of some of its seeds in every column; None where a score is undefined, or there is no seed."""
    ours, theirs = ([list(scored[arm]).index(seed) for seed in seeds] for arm in (gain.arm, gain.baseline))
    return [
        None if method is None or base is None or not seeds else difference(method.take(ours), base.take(theirs))
        for method, base in zip(estimates[gain.arm], estimates[gain.baseline], strict=True)
    ]
