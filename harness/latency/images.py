"""Which images a detector is timed on."""

from __future__ import annotations

from collections.abc import Callable

from filelock import FileLock

from harness.datasets.base import Dataset, Frame, open_dataset
from harness.files.stored import cache_folder
from harness.processes.limits import available_cores
from harness.rendered.dataset import render_dataset
from harness.rendered.spec import Form, RenderSpec, SplitSpec, dataset_key

TIMED_IMAGES = 512
"""Images of a latency (protocol lane-latency/1)."""

SCORED_IMAGES = 2_000
"""Images that a mode is scored on, of splits that have as many."""


def stratified(dataset: Dataset, split: str, count: int) -> tuple[Frame, ...]:
    """At most `count` frames of a split, taken in turn from each scenario and evenly within it."""
    by_scenario: dict[str | None, list[Frame]] = {}
    for frame in dataset.frames(split):
        by_scenario.setdefault(frame.scenario, []).append(frame)
    share = -(-count // max(1, len(by_scenario)))
    picked = []
    for frames in by_scenario.values():
        stride = max(1, len(frames) // share)
        picked.append(frames[::stride][:share])
    longest = max((len(frames) for frames in picked), default=0)
    return tuple(frames[index] for index in range(longest) for frames in picked if index < len(frames))[:count]


def rendered_roads(form: Form, count: int, progress: Callable[[int, int], None]) -> Dataset:
    """A rendered dataset of a form whose split `test` has `count` frames, rendered once and kept in the cache."""
    spec = RenderSpec(form=form, splits={"test": SplitSpec(frames=count, frames_per_clip=1)})
    root = cache_folder() / "rendered" / f"{form}-{dataset_key(spec)[:12]}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        if not root.is_dir():
            render_dataset(spec, root, workers=available_cores(), progress=progress)
    return open_dataset(form, root, name=f"rendered {form}", image_size=(spec.height, spec.width))
