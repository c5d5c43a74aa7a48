"""Sums of an evaluation's counts by clip, for the whole split and for every scenario: all that statistics need of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.counts import Counts, Values


@dataclass(frozen=True, eq=False)
class Layout:
    """How the images of a split fall into clips and scenarios. Equal digests: the same images in the same order.

    A part is one clip within one scenario; parts are ordered by clip, then scenario. `order` sorts images (N,) by part, `starts` (Q,)
    are the parts' first positions in that order, `clip_starts` (C,) the clips' first parts, `part_scenario` (Q,) indexes `scenarios`.
    """

    digest: str
    images: int
    scenarios: tuple[str, ...]
    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    clip_starts: npt.NDArray[np.intp]
    part_scenario: npt.NDArray[np.intp]

    @property
    def clip_images(self) -> npt.NDArray[np.int64]:
        """Images of each clip (C,)."""
        return np.diff([*self.starts[self.clip_starts], self.images]).astype(np.int64)


ScopeSums = Mapping[str, Values]
"""Summand (`Counts.summands`) -> its sums by clip within one scope, (C,) or (C, T); only clips with an image in the scope."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums by part of one evaluation, (Q,) or (Q, T), of each summand of its kind of counts."""

    layout: Layout
    kind: type[Counts]
    parts: Mapping[str, Values]

    def scope(self, scenario: str | None) -> ScopeSums:
        """The sums by clip of one scenario, of the whole split for None."""
        if scenario is None:
            starts = self.layout.clip_starts
            return {name: np.add.reduceat(values, starts, axis=0) for name, values in self.parts.items()}
        inside = self.layout.part_scenario == self.layout.scenarios.index(scenario)
        return {name: values[inside] for name, values in self.parts.items()}


def counts_digest(counts: Counts) -> str:
    """Identifies the images, clips and scenarios of some counts, and their order."""
    digest = hashlib.sha256()
    for array in (counts.image, counts.clip, counts.scenario):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def layout_of(counts: Counts, digest: str) -> Layout:
    """The layout of some counts with at least one image."""
    clips, clip = np.unique(counts.clip, return_inverse=True)
    scenarios, scenario = np.unique(counts.scenario, return_inverse=True)
    part = clip * len(scenarios) + scenario
    order = np.argsort(part, kind="stable")
    parts, starts = np.unique(part[order], return_index=True)
    return Layout(
        digest=digest,
        images=len(counts.image),
        scenarios=tuple(str(name) for name in scenarios),
        order=order,
        starts=starts,
        clip_starts=np.searchsorted(parts // len(scenarios), np.arange(len(clips))),
        part_scenario=parts % len(scenarios),
    )


def sums_of(counts: Counts, layout: Layout) -> Sums:
    """Sum counts whose digest is the layout's."""
    parts = {
        name: np.add.reduceat(values[layout.order], layout.starts, axis=0) for name, values in counts.summands().items()
    }
    return Sums(layout, type(counts), parts)
