"""Sums of an evaluation's counts by clip, for the whole split and for every scenario: all that statistics need of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from harness.records.counts import Counts, Values

Summed = TypeVar("Summed", bound=npt.NDArray[Any])


@dataclass(frozen=True, eq=False)
class Layout:
    """How the images of a split fall into clips and scenarios. Equal digests: the same images in the same order.

    A part is one clip within one scenario; parts are ordered by clip, then scenario. `order` sorts images (N,) by part, `starts` (Q,)
    are the parts' first positions in that order, `clip_starts` (C,) the clips' first parts. `scenario_parts` (Q,) are the parts by
    scenario, `scenario_starts` each scenario's first position among them.
    """

    digest: str
    images: int
    scenarios: tuple[str, ...]
    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    clip_starts: npt.NDArray[np.intp]
    scenario_parts: npt.NDArray[np.intp]
    scenario_starts: npt.NDArray[np.intp]

    def parts_of(self, scenario: str) -> npt.NDArray[np.intp]:
        """The parts of a scenario, in the order of clips."""
        place = self.scenarios.index(scenario)
        stop = self.scenario_starts[place + 1] if place + 1 < len(self.scenarios) else None
        return self.scenario_parts[self.scenario_starts[place] : stop]

    @property
    def clip_images(self) -> npt.NDArray[np.int64]:
        """Images of each clip (C,)."""
        return np.diff([*self.starts[self.clip_starts], self.images]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums by part of one evaluation, (Q,) or (Q, T), of each summand of its kind of counts."""

    layout: Layout
    kind: type[Counts]
    parts: Mapping[str, Values]

    @cached_property
    def by_scenario(self) -> Mapping[str, Values]:
        """The sums over all clips of each of the layout's scenarios, (K,) or (K, T)."""
        order, starts = self.layout.scenario_parts, self.layout.scenario_starts
        return {name: np.add.reduceat(values[order], starts, axis=0) for name, values in self.parts.items()}


def by_clip(layout: Layout, values: Summed, scenario: str | None, *, axis: int) -> Summed:
    """Sums by part, along an axis, added up to sums by clip of one scenario, of the whole split for None."""
    found: Any = (
        np.add.reduceat(values, layout.clip_starts, axis=axis)
        if scenario is None
        else np.take(values, layout.parts_of(scenario), axis=axis)
    )
    return cast("Summed", found)


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
    part_scenario = parts % len(scenarios)
    by_scenario = np.argsort(part_scenario, kind="stable")
    return Layout(
        digest=digest,
        images=len(counts.image),
        scenarios=tuple(str(name) for name in scenarios),
        order=order,
        starts=starts,
        clip_starts=np.searchsorted(parts // len(scenarios), np.arange(len(clips))),
        scenario_parts=by_scenario,
        scenario_starts=np.searchsorted(part_scenario[by_scenario], np.arange(len(scenarios))),
    )


def sums_of(counts: Counts, layout: Layout) -> Sums:
    """Sum counts whose digest is the layout's."""
    parts = {
        name: np.add.reduceat(values[layout.order], layout.starts, axis=0) for name, values in counts.summands().items()
    }
    return Sums(layout, type(counts), parts)


class Layouts:
    """The layouts of many counts, each made once."""

    def __init__(self) -> None:
        """None yet."""
        self._by_digest: dict[str, Layout] = {}
        # Counts that were read one after another share their arrays of names. The arrays are kept with their layout, so that no
        # others take their place in memory.
        self._by_arrays: dict[tuple[int, int, int], tuple[tuple[Any, Any, Any], Layout]] = {}

    def of(self, counts: Counts) -> Layout:
        """The layout of some counts with at least one image."""
        arrays = counts.image, counts.clip, counts.scenario
        key = id(arrays[0]), id(arrays[1]), id(arrays[2])
        if key in self._by_arrays:
            return self._by_arrays[key][1]
        digest = counts_digest(counts)
        if digest not in self._by_digest:
            self._by_digest[digest] = layout_of(counts, digest)
            self._by_arrays[key] = arrays, self._by_digest[digest]
        return self._by_digest[digest]
