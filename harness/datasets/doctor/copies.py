"""Images that are there twice under different names: in two splits they leak, in one they count double."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from harness.datasets.base import Frame
from harness.datasets.doctor.contents import Contents
from harness.datasets.doctor.findings import Finding, grouped

GLANCE_BYTES = 4096
"""So much of the middle is compared first, of images that have the size of others; only those alike there are read to the end."""

File = tuple[int, int]
"""Its device and inode."""

Copies = list[tuple[str, Frame]]
"""Frames of one content, each with its split."""


def copied_images(found: Contents) -> list[Finding]:
    """Images with the same bytes or the same file behind them (links), where their paths differ."""
    across: dict[tuple[str, str], list[tuple[Frame, Frame]]] = {}
    within: dict[str, list[tuple[Frame, Frame]]] = {}
    for copies in _copies(found):
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


def _copies(found: Contents) -> Iterator[Copies]:
    """The groups of frames with one content and several paths."""
    by_file: dict[File, Copies] = {}
    sizes: dict[int, dict[File, Path]] = {}
    for split, frames in found.frames.items():
        for frame in frames:
            try:
                stat = os.stat(frame.image)
            except OSError:  # missing, which is a finding of its own
                continue
            file = (stat.st_dev, stat.st_ino)
            by_file.setdefault(file, []).append((split, frame))
            sizes.setdefault(stat.st_size, {}).setdefault(file, frame.image)
    for size, files in sizes.items():
        for alike in _groups(files, partial(_middle, size=size)):
            for kept, *others in _groups(alike, _digest):
                for other in others:
                    by_file[kept] += by_file.pop(other)
    for copies in by_file.values():
        if len({frame.image for _, frame in copies}) > 1:
            yield copies


def _groups(files: dict[File, Path], key: Callable[[Path], bytes]) -> Iterator[dict[File, Path]]:
    """Those of the files that have their key in common with others."""
    groups: dict[bytes, dict[File, Path]] = {}
    for file, path in files.items() if len(files) > 1 else ():
        try:
            groups.setdefault(key(path), {})[file] = path
        except OSError:  # can't be read, which is a finding of its own where it's opened
            continue
    yield from (group for group in groups.values() if len(group) > 1)


def _middle(path: Path, size: int) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        stream.seek(max(0, (size - GLANCE_BYTES) // 2))
        return stream.read(GLANCE_BYTES)


def _digest(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()
