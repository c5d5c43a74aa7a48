"""Images that are there twice under different names: in two splits they leak, in one they count double."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from harness.datasets.base import Frame
from harness.datasets.doctor.contents import Contents
from harness.datasets.doctor.findings import Finding, grouped

COMPARED_BYTES = 256 * 2**20
"""So much is read, at most, of images that have the size of others: those that were opened anyway come first."""

Copies = list[tuple[str, Frame]]
"""Frames of one content, each with its split."""


def copied_images(found: Contents, opened: Sequence[Frame]) -> list[Finding]:
    """Images with the same bytes or the same file behind them (links), where their paths differ."""
    across: dict[tuple[str, str], list[tuple[Frame, Frame]]] = {}
    within: dict[str, list[tuple[Frame, Frame]]] = {}
    for copies in _copies(found, {frame.image for frame in opened}):
        first: dict[str, Frame] = {}
        for split, frame in copies:
            if split in first:
                within.setdefault(split, []).append((first[split], frame))
            first.setdefault(split, frame)
        for one, other in combinations(first, 2):
            if first[one].image != first[other].image:
                across.setdefault((one, other), []).append((first[one], first[other]))
    findings = []
    for (one, other), pairs in across.items():
        findings += grouped(
            "error", "two-splits", [frame.id for _, frame in pairs],
            f"images of split {other} are, under another name, in split {one} ({_example(pairs)})",
            f"take them out of one of the two: what is trained on {one} would have seen images of {other}",
        )  # fmt: skip
    for split, pairs in within.items():
        findings += grouped(
            "warning", "copied-image", [frame.id for _, frame in pairs],
            f"images of split {split} are in it under another name as well ({_example(pairs)})",
            "take the copies off the list: they count twice",
        )  # fmt: skip
    return findings


def _example(pairs: Sequence[tuple[Frame, Frame]]) -> str:
    one, other = pairs[0]
    return f"{other.id} is {one.id}"


def _copies(found: Contents, first: set[Path]) -> Iterator[Copies]:
    """The groups of frames with one content and several paths."""
    by_file: dict[tuple[int, int], Copies] = {}
    sizes: dict[int, dict[tuple[int, int], Path]] = {}
    for split, frames in found.frames.items():
        for frame in frames:
            try:
                stat = os.stat(frame.image)
            except OSError:  # missing, which is a finding of its own
                continue
            file = (stat.st_dev, stat.st_ino)
            by_file.setdefault(file, []).append((split, frame))
            sizes.setdefault(stat.st_size, {}).setdefault(file, frame.image)
    left = COMPARED_BYTES
    alike = [files for files in sizes.items() if len(files[1]) > 1]
    for size, files in sorted(alike, key=lambda files: first.isdisjoint(files[1].values())):
        left -= size * len(files)
        if left < 0:
            break
        same: dict[bytes, tuple[int, int]] = {}
        for file, path in files.items():
            try:
                with open(path, "rb") as stream:
                    digest = hashlib.file_digest(stream, "blake2b").digest()
            except OSError:  # as above
                continue
            kept = same.setdefault(digest, file)
            if kept != file:
                by_file[kept] += by_file.pop(file)
    for copies in by_file.values():
        if len({frame.image for _, frame in copies}) > 1:
            yield copies
