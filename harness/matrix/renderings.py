"""Rendered data that is there, held against what was rendered: lists that were edited since would be learnt and scored in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.datasets.base import Dataset, read_bytes
from harness.datasets.llamas import SPLITS
from harness.datasets.rendering import RENDERING_FILE, SCENARIOS_FILE
from harness.datasets.tusimple import LABELS
from harness.errors import InputError, why_unread


def refuse_edited(dataset: Dataset, images: Mapping[str, int]) -> None:
    """InputError, which names the list, where a split doesn't have the images, or they not the scenarios, that were rendered for it.

    images: of each split, as many as its specification asks for. No list names an image twice, and one that was never rendered is
    missed where it is read: as many as were rendered, and all of them in clips of the split, are the ones that were.
    """
    clips = rendered_clips(dataset.root)
    for split, count in images.items():
        frames, lists = dataset.frames(split), listing(dataset, split)
        if len(frames) != count:
            raise InputError(f"{lists}: {count:,} images were rendered for split {split}, {len(frames):,} are listed")
        for frame in frames:
            own, scenario = clips.get(frame.id.rpartition("/")[0], ("", ""))
            if own != split:
                raise InputError(f"{lists}: {frame.id} wasn't rendered for split {split}")
            if has_scenarios(dataset, split) and frame.scenario != scenario:
                named = SCENARIOS_FILE if dataset.form != "culane" else "list/test_split"
                raise InputError(
                    f"{named}: {frame.id} was rendered as {scenario}, and is {frame.scenario or 'none'} there"
                )


def rendered_clips(root: Path) -> dict[str, tuple[str, str]]:
    """The folder of each clip of a rendered dataset -> its split and scenario, as rendering wrote them down; InputError on damage."""
    path = root / RENDERING_FILE
    try:
        return {clip["folder"]: (clip["split"], clip["scenario"]) for clip in json.loads(read_bytes(path))["clips"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: doesn't tell which clips were rendered ({why_unread(error)})") from None


def listing(dataset: Dataset, split: str) -> str:
    """What says which images a split has, below the root: a list, label files, or in LLAMAS's form the folder that they lie in."""
    if dataset.form == "culane":
        return dataset.scored_files(split)[0]
    if dataset.form == "tusimple":
        return " and ".join(LABELS[split])
    return f"{'labels' if dataset.has_labels(split) else 'color_images'}/{SPLITS[split]}"


def has_scenarios(dataset: Dataset, split: str) -> bool:
    """Whether rendered images of a split name their scenarios: CULane's layout has them for its test split alone."""
    return dataset.form != "culane" or split == "test"
